"""Files that are written whole or not at all, and JSON without NaN."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from foveate.core.types import FoveateError, Json, printable

ANYONE, OWNER = 0o666, 0o600  # who may read a new file; the first as far as the umask lets

REFUSALS = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        "the disk is full, or your quota is used up. Make room, and give the {again}",
    ),
    errno.EFBIG: "a file would be larger than `ulimit -f` allows. Raise it, and give the {again}",
    errno.ENAMETOOLONG: "a path or a name is longer than the file system takes. Choose shorter ones.",
    errno.ENOMEM: "memory ran out. Give it more memory, or fewer workers and smaller images.",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open. Raise the limit (ulimit -n)."),
    errno.EIO: "the disk did not answer. Look at it, and give the {again}",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "it may not be written or read. Accepted: a folder that you may write, files that you may read.",
    ),
}  # what a system says no with that its user can change
AGAIN = "same command again: what was finished is kept."
SHOWN = 200  # characters of a path


@contextmanager
def refusals_explained(place: str) -> Iterator[None]:
    """Turns a full disk, a folder that may not be written and the like into a paragraph.

    Args:
        place: Where a command writes, for errors that name no file.
    """
    try:
        yield
    except MemoryError as error:
        raise FoveateError(f"{place}: {REFUSALS[errno.ENOMEM]}") from error
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        file = (
            printable(os.fsdecode(error.filename), SHOWN)
            if isinstance(error.filename, str | bytes)
            else place
        )
        words = REFUSALS[error.errno].format(again=AGAIN)
        raise FoveateError(f"{file}: {error.strerror}: {words}") from error


def replace_file(path: Path, write: Callable[[BinaryIO], object], mode: int = ANYONE) -> None:
    """Writes a file so that a crash leaves the old one or the new one, never a part."""
    with _written(path, write, mode) as temporary:
        temporary.replace(path)


def replace_text(path: Path, text: str) -> None:
    """The same for a text."""
    replace_file(path, lambda stream: stream.write(text.encode()))


def create_file(path: Path, content: bytes, mode: int = ANYONE) -> None:
    """Writes a file unless there is one by then."""
    with _written(path, lambda stream: stream.write(content), mode) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
        except OSError:  # a file system without links: for a moment others may see a part
            with suppress(FileExistsError), _new(path, mode) as stream:
                stream.write(content)


@contextmanager
def _written(path: Path, write: Callable[[BinaryIO], object], mode: int) -> Iterator[Path]:
    """A complete file beside `path`, under a name of its own; removed where it is left."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with _new(temporary, mode) as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _new(path: Path, mode: int) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")


def plain(value: Json) -> Json:
    """NaN as null: JSON has no other word for "not defined"."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is none."""
    if not path.is_file():
        return None
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The whole file or the one before."""
    text = json.dumps(plain(content), indent=1, allow_nan=False) + "\n"
    replace_text(path, text)
