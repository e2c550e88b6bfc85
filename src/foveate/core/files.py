"""Files that are written whole or not at all, and JSON without NaN."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from foveate.core.types import Json

ANYONE, OWNER = 0o666, 0o600  # who may read a new file; the first as far as the umask lets


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
