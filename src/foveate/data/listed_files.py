"""The files that a table or a list names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from foveate.core.types import FoveateError, Record
from foveate.data.readers.suffixes import suffix_of


class Files:
    """Finds the files that a list names: by path below the folder, by name, by name without suffix."""

    def __init__(self, root: Path, records: Callable[[Path], Iterable[Record]]) -> None:
        self.root, self.records = root, records
        self.by_name: dict[str, list[Path]] = {}

    def find(self, name: str, source: Path) -> Path:
        """The one file that is meant."""
        direct = self.root / name
        if direct.is_file():
            return direct
        if not self.by_name:
            self.index()
        found = self.by_name.get(PurePosixPath(name).name, [])
        if len(found) != 1:
            what = "there is no such file" if not found else f"{len(found)} files have that name"
            raise FoveateError(f"{source} names {name!r}: {what} below {self.root}.")
        return found[0]

    def index(self) -> None:
        """Images by name and by stem."""
        for record in self.records(self.root):
            name = record.path.name
            for key in {name, name[: len(name) - len(suffix_of(record.path))]}:
                if record.role == "image":
                    self.by_name.setdefault(key, []).append(record.path)

    def relative(self, path: Path) -> str:
        """Below the folder where it is, else in full."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()
