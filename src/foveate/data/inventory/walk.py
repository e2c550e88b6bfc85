"""Everything below a folder, as a stream: names, sizes, times; nothing is opened.

A folder reached twice through links is listed once, so links that form a loop end. What cannot be listed or
is no file comes back with the problem instead of ending the walk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

NOT_LISTED = "the folder cannot be listed"
NOT_REACHED = "it is a link that leads nowhere, or may not be looked at"
NOT_A_FILE = "it is no regular file"


HEADERS = (b".mhd", b".nhdr")  # whose voxels lie in a file beside them, which is called alike, with one of
VOXELS = (b".raw", b".zraw", b".gz", b".bz2", b".img", b".bin", b".dat", b".txt")


def stem_of(relative: bytes) -> tuple[bytes, bytes]:
    """A name up to its first dot, and what follows its last.

    >>> stem_of(b"a/x.raw.gz"), stem_of(b"a.b/x")
    ((b'a/x', b'.gz'), (b'a.b/x', b''))
    """
    folder, slash, name = relative.rpartition(b"/")
    end = name.rpartition(b".")
    return folder + slash + name.partition(b".")[0], (b"." + end[2].lower() if end[1] else b"")


@dataclass(frozen=True, slots=True)
class Found:
    """One file, or one folder that could not be listed."""

    relative: bytes  # below the root, as the system spells it
    size: int = 0
    mtime_ns: int = 0
    problem: str = ""


@final
@dataclass(slots=True)
class Walk:
    """One pass over a tree; `hidden` counts what was passed over."""

    root: Path
    leave_out: Path | None = None
    hidden: int = 0
    _visited: set[tuple[int, int]] = field(default_factory=set)  # device and number of folders

    def files(self) -> Iterator[Found]:
        """Files in no particular order."""
        if self.leave_out is not None and self.leave_out.is_dir():
            self._is_new(self.leave_out.stat())
        if self.root.is_file():
            found = self.root.stat()
            yield Found(os.fsencode(self.root.name), found.st_size, found.st_mtime_ns)
            return
        self._is_new(self.root.stat())
        folders = [b""]
        while folders:
            yield from self._list(folders.pop(), folders)

    def _list(self, folder: bytes, folders: list[bytes]) -> Iterator[Found]:
        try:
            with os.scandir(os.path.join(os.fsencode(self.root), folder)) as entries:  # noqa: PTH118
                headers: dict[bytes, Found] = {}
                voxels: dict[bytes, int] = {}  # when files beside headers were changed last
                for entry in entries:
                    if entry.name.startswith(b"."):
                        self.hidden += 1
                        continue
                    for found in self._entry(entry, folder, folders):
                        stem, end = stem_of(found.relative)
                        if end in HEADERS and not found.problem:
                            headers[found.relative] = found
                            continue
                        if end in VOXELS:
                            voxels[stem] = max(voxels.get(stem, 0), found.mtime_ns)
                        yield found
                for relative, found in headers.items():
                    latest = max(found.mtime_ns, voxels.get(stem_of(relative)[0], 0))
                    yield replace(found, mtime_ns=latest)
        except OSError as error:
            yield Found(folder or b".", problem=f"{NOT_LISTED} ({error.strerror})")

    def _entry(self, entry: os.DirEntry[bytes], folder: bytes, folders: list[bytes]) -> Iterator[Found]:
        relative = folder + b"/" + entry.name if folder else entry.name
        try:
            facts = entry.stat()
        except OSError:
            yield Found(relative, problem=NOT_REACHED)
            return
        if stat.S_ISDIR(facts.st_mode):
            if self._is_new(facts):
                folders.append(relative)
        elif stat.S_ISREG(facts.st_mode):
            yield Found(relative, facts.st_size, facts.st_mtime_ns)
        else:
            yield Found(relative, problem=NOT_A_FILE)

    def _is_new(self, facts: os.stat_result) -> bool:
        mark = facts.st_dev, facts.st_ino
        known = mark in self._visited
        self._visited.add(mark)
        return not known
