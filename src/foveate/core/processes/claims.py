"""Locks between processes: a file that one process holds until it releases it or ends in any way."""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether no other process holds this file; then it is held until the end of the block.

    A record lock: processes that were forked do not keep it, and it works between machines where the file
    system has locks. Where it has none everybody may go on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either word for it
            yield False
            return
        except OSError:  # no locks here, as said above
            pass
        yield True


def least_held(folder: Path, names: Collection[str], held: ExitStack) -> tuple[str, int]:
    """The first of the names that the fewest other processes hold, and how many do; `held` keeps it."""
    for place in count():
        for name in names:
            if held.enter_context(claim(folder / f"{name}-{place}")):
                return name, place
    raise AssertionError("count() has no end")
