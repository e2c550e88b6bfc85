"""Files that are written whole or not at all, and JSON without NaN."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    pass


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that a crash leaves the old one or the new one, never a part."""
    with written(path, write) as temporary:
        temporary.replace(path)


def create_file(path: Path, content: bytes) -> None:
    """Writes a file unless there is one by then."""
    with written(path, lambda stream: stream.write(content)) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
        except OSError:  # a file system without links: for a moment others may see a part
            with suppress(FileExistsError), path.open("xb") as stream:
                stream.write(content)


@contextmanager
def written(path: Path, write: Callable[[BinaryIO], object]) -> Iterator[Path]:
    """A complete file beside `path`, under a name of its own; removed where it is left."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """The same for a text."""
    replace_file(path, lambda stream: stream.write(text.encode()))


def plain(value: Any) -> Any:  # noqa: ANN401 - anything JSON holds
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
    pass

    text = json.dumps(plain(content), indent=1, allow_nan=False) + "\n"
    replace_text(path, text)
