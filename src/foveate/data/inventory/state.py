"""What a scan knows so far: one SQLite file that only its owner may read, because it holds names.

Every change is a transaction, so a scan that is killed goes on where it was. Nothing here grows with the
number of files in memory: rows come and go in pages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from foveate.core.files import table_refusal
from foveate.core.types import FoveateError
from foveate.data.cache.index import salted_id
from foveate.data.inventory.walk import Found

PRIVATE, STATE, VERSION = "private", "scan.sqlite", "1"
PAGE = 256
NEW, READ, PLACED = 0, 1, 2  # of a file: header not read; read; belongs to an image
LISTED, DECODED = 0, 1  # of an image
COLUMNS = {
    **dict.fromkeys(("id", "role", "modality", "format", "shape", "spacing_mm"), "TEXT DEFAULT ''"),
    **dict.fromkeys(("patient", "series", "voxels", "burned_in", "evidence", "reason"), "TEXT DEFAULT ''"),
    **dict.fromkeys(("dimension", "bits", "files", "bytes", "decoded"), "INTEGER DEFAULT 0"),
    **dict.fromkeys(("minimum", "maximum"), "REAL"),
    "thumbnail": "BLOB",
}
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS found (
    id TEXT PRIMARY KEY, relative BLOB, bytes INTEGER, mtime INTEGER, problem TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, relative BLOB, bytes INTEGER, mtime INTEGER, problem TEXT,
    state INTEGER DEFAULT {NEW}, series TEXT, header TEXT);
CREATE INDEX IF NOT EXISTS files_series ON files (series);
CREATE INDEX IF NOT EXISTS files_state ON files (state);
CREATE TABLE IF NOT EXISTS images (
    number INTEGER PRIMARY KEY, {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())});
CREATE INDEX IF NOT EXISTS images_voxels ON images (voxels);
CREATE TABLE IF NOT EXISTS members (
    image INTEGER REFERENCES images (number) ON DELETE CASCADE, file INTEGER, place INTEGER,
    PRIMARY KEY (image, place)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_file ON members (file);
"""
PASSING = " OR ".join(  # reasons that may be the machine's: such a file is looked at again
    f"reason LIKE '{start}%'"
    for start in (
        "the system could not read it",
        "it ended the process",
        "it takes more than",
        "it does not fit into memory",
    )
)
STALE = f"""
CREATE TEMP TABLE stale AS SELECT files.number AS file, series FROM files LEFT JOIN found USING (id)
    WHERE found.id IS NULL OR (found.bytes, found.mtime, found.problem)
        IS NOT (files.bytes, files.mtime, files.problem)
        OR files.number IN (SELECT file FROM members JOIN images ON image = images.number WHERE {PASSING})"""
FORGET = (
    "DELETE FROM images WHERE number IN (SELECT image FROM members JOIN stale USING (file))",
    f"UPDATE files SET state = {READ} WHERE series IN (SELECT series FROM stale WHERE series != '')",
    "DELETE FROM files WHERE number IN (SELECT file FROM stale)",
    "INSERT INTO files (id, relative, bytes, mtime, problem) SELECT id, relative, bytes, mtime, problem "
    "FROM found WHERE id NOT IN (SELECT id FROM files)",
    "DROP TABLE stale",
    "DELETE FROM found",
)


def open_state(out: Path, root_id: str) -> sqlite3.Connection:
    """The state of an inventory, made when there is none.

    Raises:
        FoveateError: it is another folder's, another version's, or in use.
    """
    folder = out / PRIVATE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    path = folder / STATE
    path.touch(mode=0o600)
    path.chmod(0o600)
    db = sqlite3.connect(path, timeout=1)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        db.executescript(SCHEMA)
    except sqlite3.DatabaseError as error:
        db.close()
        if table_refusal(error):
            raise
        raise FoveateError(
            f"{path} cannot be used ({error}); another scan of it runs, or delete it."
        ) from None
    for name, value in (("version", VERSION), ("root", root_id)):
        if (known := fact(db, name, value)) != value:
            db.close()
            what = "another folder" if name == "root" else f"version {known}"
            raise FoveateError(f"--out {out} holds the inventory of {what}; choose another, or delete it.")
    return db


def fact(db: sqlite3.Connection, name: str, otherwise: str) -> str:
    """A remembered value; `otherwise` is remembered where there is none."""
    with db:
        db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, otherwise))
    return str(db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])


def remember(db: sqlite3.Connection, **values: object) -> None:
    """Remembers values."""
    with db:
        rows = [(name, str(value)) for name, value in values.items()]
        db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)


def update_files(db: sqlite3.Connection, found: Iterable[Found], salt: bytes) -> int:
    """Takes in what a walk found; rows of files that are as they were stay. Returns what is new or gone."""
    rows = (
        (
            salted_id(salt, each.relative.decode("utf-8", "surrogateescape")),
            *(each.relative, each.size, each.mtime_ns, each.problem),
        )
        for each in found
    )
    with db:
        db.execute("DELETE FROM found")
        db.executemany("INSERT OR IGNORE INTO found VALUES (?, ?, ?, ?, ?)", rows)
    with db:
        db.execute("DROP TABLE IF EXISTS temp.stale")
        db.execute(STALE)
        return sum(max(0, db.execute(statement).rowcount) for statement in FORGET[:-2]) + _ended(db)


def _ended(db: sqlite3.Connection) -> int:
    for statement in FORGET[-2:]:
        db.execute(statement)
    return 0


def pages(db: sqlite3.Connection, table: str, where: str, size: int = PAGE) -> Iterator[list[sqlite3.Row]]:
    """Rows in pages, in the order in which they came; rows may change in between."""
    last = 0
    cursor = db.cursor()
    cursor.row_factory = sqlite3.Row
    query = f"SELECT * FROM {table} WHERE number > ? AND {where} ORDER BY number LIMIT ?"
    while page := cursor.execute(query, (last, size)).fetchall():
        last = page[-1]["number"]
        yield page


def add_image(db: sqlite3.Connection, row: Mapping[str, Any], files: Iterable[int]) -> None:
    """Adds an image and says which files it is in, in order."""
    names = list(row)
    marks = ", ".join("?" for _ in names)
    cursor = db.execute(f"INSERT INTO images ({', '.join(names)}) VALUES ({marks})", [row[n] for n in names])
    members = [(cursor.lastrowid, file, place) for place, file in enumerate(files)]
    db.executemany("INSERT INTO members VALUES (?, ?, ?)", members)
    db.executemany(f"UPDATE files SET state = {PLACED} WHERE number = ?", [(file,) for _, file, _ in members])


def update_image(db: sqlite3.Connection, number: int, row: Mapping[str, Any]) -> None:
    """Changes some columns of an image."""
    names = ", ".join(f"{name} = ?" for name in row)
    db.execute(f"UPDATE images SET {names} WHERE number = ?", [*row.values(), number])


def count(db: sqlite3.Connection, table: str, where: str = "1") -> int:
    """How many rows."""
    return int(db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])
