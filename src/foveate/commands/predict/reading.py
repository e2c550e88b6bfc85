"""Images are read one ahead: a thread prepares the next one while the device computes the present one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import final

from foveate.core.types import Record
from foveate.data.cache.volumes import CachedVolume


@final
@dataclass(frozen=True, kw_only=True)
class Opened:
    """A prepared image."""

    line: tuple[str, str]  # what the journal knows it by
    volume: CachedVolume | None  # None where it has a result already
    warning: str  # what is doubtful about it
    held: ExitStack  # its scratch folder, until this is closed


def read_ahead(
    records: Iterable[Record], read: Callable[[Record], Opened]
) -> Iterator[tuple[Record, Future[Opened]]]:
    """Every record with what `read` makes of it, in order; errors are raised by `result()`.

    Two images are open at most, and whatever is open at the end is closed.
    """
    rest, waiting = iter(records), deque[tuple[Record, Future[Opened]]]()
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:

        def begin() -> None:
            for record in rest:
                waiting.append((record, reader.submit(read, record)))
                return

        begin()
        try:
            while waiting:
                begin()
                yield waiting[0]
                waiting.popleft()
        finally:
            for _, coming in waiting:
                if not coming.cancel():
                    with suppress(Exception):  # it was raised already, or nobody asks for this image any more
                        coming.result().held.close()
