"""Files that are written whole or not at all, and JSON without NaN."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import secrets
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from foveate.core.types import FoveateError, Json, printable

if TYPE_CHECKING:
    from yaml import Node

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
    errno.EAGAIN: "no further process may be started. Give fewer workers, or raise the limit (ulimit -u).",
    errno.EIO: "the disk did not answer. Look at it, and give the {again}",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "it may not be written or read. Accepted: a folder that you may write, files that you may read.",
    ),
}  # what a system says no with that its user can change
TABLE_REFUSALS = {  # the same of SQLite, which says no more of a disk that is full than that it failed
    "SQLITE_FULL": REFUSALS[errno.ENOSPC],
    "SQLITE_IOERR": "the disk is full, or did not answer. Make room or look at it, and give the {again}",
    **dict.fromkeys(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"), REFUSALS[errno.EACCES]),
}
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # how what a spreadsheet computes begins
NO_ROOM = ("can't start new thread", "failed to map segment", "cannot allocate memory in static TLS")
AGAIN = "same command again: what was finished is kept."
MOST_NODES = 100_000  # of a configuration
SHOWN = 200  # characters of a path


@contextmanager
def refusals_explained(place: str) -> Iterator[None]:
    """Turns a full disk, a folder that may not be written and the like into a paragraph.

    Args:
        place: Where a command writes, for errors that name no file.
    """
    try:
        yield
    except sqlite3.Error as error:
        words = table_refusal(error)
        if not words:
            raise
        raise FoveateError(f"{place}: {error}: {words}") from error
    except (MemoryError, ImportError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in NO_ROOM):
            raise
        raise FoveateError(f"{place}: {REFUSALS[errno.ENOMEM]}") from error
    except OSError as error:
        if any(sign in str(error) for sign in NO_ROOM):  # of a library that is loaded by hand
            raise FoveateError(f"{place}: {REFUSALS[errno.ENOMEM]}") from error
        if error.errno not in REFUSALS:
            raise
        file = (
            printable(os.fsdecode(error.filename), SHOWN)
            if isinstance(error.filename, str | bytes)
            else place
        )
        words = REFUSALS[error.errno].format(again=AGAIN)
        raise FoveateError(f"{file}: {error.strerror}: {words}") from error


def table_refusal(error: sqlite3.Error) -> str:
    """What to do about a disk that SQLite could not write to; empty where something else is wrong."""
    name = error.sqlite_errorname if isinstance(error, sqlite3.OperationalError) else ""
    found = [words for start, words in TABLE_REFUSALS.items() if name.startswith(start)]
    return found[0].format(again=AGAIN) if found else ""


def replace_file(path: Path, write: Callable[[BinaryIO], object], mode: int = ANYONE) -> None:
    """Writes a file so that a crash leaves the old one or the new one, never a part."""
    with _written(path, write, mode) as temporary:
        temporary.replace(path)


def replace_text(path: Path, text: str, mode: int = ANYONE) -> None:
    """The same for a text; a name in it that is no UTF-8 keeps its bytes."""
    content = text.encode("utf-8", "surrogateescape")
    replace_file(path, lambda stream: stream.write(content), mode)


def csv_text(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table as text."""
    text = io.StringIO()
    csv.writer(text).writerows(map(cell, row) for row in (head, *rows))
    return text.getvalue()


def cell(value: object) -> str:
    r"""A value as a table holds it: always UTF-8, never a formula to a spreadsheet; the same again if read.

    >>> cell("=HYPERLINK(1)"), cell("'=A1"), cell("-1.5"), cell(-1.5), cell("-x.png"), cell("\udcff.png")
    ("'=HYPERLINK(1)", "'=A1", '-1.5', '-1.5', "'-x.png", '\\udcff.png')
    """
    text = "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()
    return f"'{text}" if text[:1] in FORMULAS and len(text) > 1 and not _is_number(text) else text


def from_cell(text: str) -> str:
    """What `cell` has kept from being a formula.

    >>> from_cell("'-x.png"), from_cell("-1.5"), from_cell("'x'")
    ('-x.png', '-1.5', "'x'")
    """
    return text[1:] if text[:1] == "'" and text[1:2] in FORMULAS else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
        with _unnamed(path.parent, mode) or _new(temporary, mode) as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
            if not temporary.exists():
                _name(stream, temporary)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _new(path: Path, mode: int) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")


def _unnamed(folder: Path, mode: int) -> BinaryIO | None:
    """A file that is gone with its process, however that ends; None where the file system has none (NFS)."""
    if sys.platform != "linux":
        return None
    try:
        return os.fdopen(os.open(folder, os.O_WRONLY | os.O_TMPFILE, mode), "wb")
    except OSError:  # also of a folder that may not be written: with a name the error says which file
        return None


def _name(stream: BinaryIO, path: Path) -> None:
    """Give an unnamed file a name."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)  # a folder may be written and not listed
    try:  # with a folder os.link follows the link in /proc to the file
        os.link(f"/proc/self/fd/{stream.fileno()}", path.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def reserve(place: int, size: int) -> None:
    """Takes the room of an open file that will be written through a memory map.

    Raises:
        OSError: the disk is full. Without it a later write into the map would end the process (SIGBUS).
    """
    if sys.platform == "linux":
        os.posix_fallocate(place, 0, size)


def plain(value: Json) -> Json:
    """NaN as null: JSON has no other word for "not defined"."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object of our own; None where there is none."""
    if not path.is_file():
        return None
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise _damaged(path, "it is no JSON") from None
    if not isinstance(loaded, dict):
        raise _damaged(path, f"it holds a {type(loaded).__name__}")
    return loaded


def json_with(key: str, path: Path) -> dict[str, Any]:
    """A JSON object of our own that says something of a key."""
    loaded = read_json(path) or {}
    if key not in loaded:
        raise _damaged(path, f"it does not say {key}")
    return loaded


def _damaged(path: Path, why: str) -> FoveateError:
    again = "put it back from a backup, or remove it, and the same command makes it anew where it can"
    return FoveateError(f"{path} is damaged ({why}); {again}.")


def parse_yaml(text: str) -> object:
    """What YAML says.

    Raises:
        ValueError: in words. An alias counts as often as it is used: a few lines may stand for billions.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)  # looks at every character
        node = loader.get_single_node()
        if node is None:
            return None
        _nodes_of(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _nodes_of(node: Node, known: dict[int, int]) -> int:
    """How many nodes there are from one on; refuses a key that is given twice."""
    from yaml import MappingNode, ScalarNode, SequenceNode

    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_NODES  # while it is open: what holds itself has no end
    inner = node.value if isinstance(node, SequenceNode) else []
    if isinstance(node, MappingNode):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.value in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"line {line} gives {printable(repr(key.value))} a second time")
            seen.add(key.value if isinstance(key, ScalarNode) else id(key))
        inner = [each for pair in node.value for each in pair]
    count = 1 + sum(_nodes_of(each, known) for each in inner)
    if count > MOST_NODES:
        raise ValueError(f"its aliases stand for more than {MOST_NODES:,} values")
    known[id(node)] = count
    return count


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The whole file or the one before."""
    text = json.dumps(plain(content), indent=1, allow_nan=False) + "\n"
    replace_text(path, text)
