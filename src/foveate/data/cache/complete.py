"""Which volumes a finished cache has, in their order: any of them is found without reading the others.

`complete.sqlite` is written once, as a whole, and never changed, so it is opened without locks, on any file
system, and costs the same for a thousand volumes and for a million. What a preparation appends to and goes on
from stays `index.jsonl`; caches of format 4 have nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import final, overload
from urllib.parse import quote

from foveate.core.files import replace_text
from foveate.core.types import FoveateError
from foveate.data.cache.index import CacheEntry, all_entries, as_line, is_whole, parse

COMPLETE = "complete.json"  # ids of the volumes, in the order of their records: there once all are done
TABLE = "complete.sqlite"  # the same with their entries
PAGE = 256  # rows that are read at once
OPEN_TABLES = 4  # per process
ANEW = "delete it and prepare the cache again: no image is decoded anew."
READ_ONLY = "mode=ro&immutable=1"


def write_complete(folder: Path, entries: Sequence[CacheEntry]) -> None:
    """Write down the volumes that a finished preparation consists of."""
    write_table(folder, entries)
    replace_text(folder / COMPLETE, json.dumps([entry.id for entry in entries]))


def forget_complete(folder: Path) -> None:
    """From here on, until the next `write_complete`, the cache is unfinished."""
    (folder / COMPLETE).unlink(missing_ok=True)


def complete_entries(folder: Path) -> Sequence[CacheEntry]:
    """The entries of a finished cache, in the order of the records that they come from.

    Raises:
        FoveateError: when the preparation was not finished.
    """
    path = folder / COMPLETE
    if not path.exists():
        raise FoveateError(f"{folder} is a cache whose preparation was not finished; run it again.")
    if (folder / TABLE).exists():
        return Table(folder)
    ids, entries = json.loads(path.read_bytes()), all_entries(folder)
    _refuse(folder, sum(key not in entries for key in ids), len(ids))
    return [entries[key] for key in ids]


def refuse_incomplete(folder: Path, entries: Sequence[CacheEntry]) -> None:
    """Look for the files of all entries.

    Raises:
        FoveateError: when some were lost since the preparation.
    """
    _refuse(folder, sum(not is_whole(folder, entry) for entry in entries), len(entries))


def _refuse(folder: Path, lost: int, count: int) -> None:
    if lost:
        raise FoveateError(
            f"{folder} lacks {lost} of its {count} volumes (deleted or cut off); prepare it again."
        )


def data_hash(content_hashes: Iterable[str]) -> str:
    """A hash of the voxels alone: the same data have it under other names, salts and orders."""
    digest = blake2b(digest_size=16)
    for each in sorted(content_hashes):
        digest.update(each.encode())
    return digest.hexdigest()


def write_table(folder: Path, entries: Iterable[CacheEntry]) -> None:
    """Replace the table, unless it holds these entries already."""
    path = folder / TABLE
    temporary = path.with_name(f"{TABLE}.{secrets.token_hex(6)}.tmp")
    try:
        with closing(_connect(temporary, "mode=rwc&nolock=1")) as table:  # nobody else knows this file
            facts = _fill(table, entries)
        if path.exists() and facts == _facts_of(path):
            return
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _fill(table: sqlite3.Connection, entries: Iterable[CacheEntry]) -> dict[str, str]:
    """Write all rows, and what is known of them together."""
    contents, hashes = blake2b(digest_size=16), []
    kinds: dict[tuple[int, int], int] = {}  # channels and axes -> the first such volume

    def rows() -> Iterator[tuple[int, str]]:
        for position, entry in enumerate(entries):
            line = as_line(entry)
            contents.update(line.encode())
            hashes.append(entry.content_hash)
            kinds.setdefault((entry.shape[0], len(entry.shape)), position)
            yield position, line

    table.execute("PRAGMA journal_mode = OFF")
    table.execute("PRAGMA synchronous = OFF")
    table.execute("CREATE TABLE volumes (position INTEGER PRIMARY KEY, entry TEXT NOT NULL)")
    table.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    table.executemany("INSERT INTO volumes VALUES (?, ?)", rows())
    facts = {
        "count": str(len(hashes)),
        "contents": contents.hexdigest(),
        "data_hash": data_hash(hashes),
        "kinds": json.dumps(list(kinds.values())),
    }
    table.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
    table.commit()
    return facts


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, check_same_thread=False)


def _facts_of(path: Path) -> dict[str, str]:
    with _readable(path), closing(_connect(path, READ_ONLY)) as table:
        return dict(table.execute("SELECT name, value FROM facts"))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise FoveateError(f"{path} cannot be read ({error}); {ANEW}") from error


@lru_cache(maxsize=OPEN_TABLES)
def _opened(path: Path, contents: str, process: int) -> sqlite3.Connection:  # noqa: ARG001 - none is inherited
    """The table with these contents."""
    table = _connect(path, READ_ONLY)
    if dict(table.execute("SELECT name, value FROM facts"))["contents"] != contents:
        raise FoveateError(
            f"{path.parent} was prepared again, with other images, while a run read it; start the run again."
        )
    return table


@final
class Table(Sequence[CacheEntry]):
    """The entries of a finished cache, each read when it is asked for. Holds no open file."""

    __slots__ = ("contents", "data_hash", "kinds", "length", "path")

    def __init__(self, folder: Path) -> None:
        self.path = folder / TABLE
        facts = _facts_of(self.path)
        self.length, self.contents = int(facts["count"]), facts["contents"]
        self.data_hash = facts["data_hash"]
        self.kinds = tuple(map(int, json.loads(facts["kinds"])))  # the first volumes of all channels and axes

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, position: int) -> CacheEntry: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[CacheEntry]: ...
    def __getitem__(self, position: int | slice) -> CacheEntry | Sequence[CacheEntry]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(self.length))]
        if not -self.length <= position < self.length:
            raise IndexError(f"position {position} of {self.length} volumes")
        place = position % self.length
        return self._read(place, place + 1)[0]

    def __iter__(self) -> Iterator[CacheEntry]:
        for start in range(0, self.length, PAGE):
            yield from self._read(start, min(start + PAGE, self.length))

    def _read(self, start: int, end: int) -> list[CacheEntry]:
        with _readable(self.path):
            table = _opened(self.path, self.contents, os.getpid())
            found = table.execute(
                "SELECT entry FROM volumes WHERE position >= ? AND position < ? ORDER BY position",
                (start, end),
            )
            entries = [parse(line) for (line,) in found]
        whole = [entry for entry in entries if entry is not None]
        if len(whole) != end - start:
            raise FoveateError(f"{self.path} is damaged; {ANEW}")
        return whole
