"""The inventory of a folder in three passes: names and sizes, headers, voxels; each goes on where it was.

The table holds salted hashes, numbers and words of our own. Names are in `private/` alone.
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from foveate.core.files import ANYONE, OWNER, cell, replace_file
from foveate.core.processes.pool import in_order
from foveate.data.inventory import state
from foveate.data.inventory.headers import Facts, Task, dicom_row, facts_of, unpacked
from foveate.data.inventory.pixels import PixelTask, looks_of
from foveate.data.inventory.roles import settle
from foveate.data.inventory.walk import Walk
from foveate.data.readers.dicom.listing import records_of

TABLE, REJECTS, REJECTED_NAMES = "inventory.csv", "rejects.csv", "rejects.csv"
COPY = "a copy of another slice of its series"
HEADERS_AT_ONCE, IMAGES_AT_ONCE = 32, 4
KEPT = "what is done is kept"
PUBLIC = tuple(name for name in state.COLUMNS if name != "thumbnail")
TO_DECODE = "decoded = 0 AND role IN ('image', 'label')"

T = TypeVar("T")
R = TypeVar("R")
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the passes share."""

    db: sqlite3.Connection
    root: Path
    salt: bytes
    num_workers: int
    on_progress: OnProgress

    def path(self, relative: bytes) -> bytes:
        """Where a file is; a root that is a file is its own only one."""
        root = os.fsencode(self.root)
        return root if self.root.is_file() else root + b"/" + relative


def _parts(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))


def list_files(scan: Scan, leave_out: Path) -> int:
    """The first pass: what is there, without a file being opened. Returns how much changed."""
    walk = Walk(scan.root, leave_out)

    def counted() -> Iterator[Any]:
        for done, found in enumerate(walk.files(), 1):
            yield found
            if done % 1000 == 0:
                scan.on_progress("listing", done, 0)

    changed = state.update_files(scan.db, counted(), scan.salt)
    state.remember(scan.db, hidden=walk.hidden)
    return changed


def read_headers(scan: Scan) -> int:
    """The second pass: what headers say, and which slices form which volume. Returns how much was read."""
    new = f"state = {state.NEW}"
    total, done = state.count(scan.db, "files", new), 0
    tasks = (
        [_task(scan, row) for row in rows]
        for page in state.pages(scan.db, "files", new)
        for rows in _parts(page, HEADERS_AT_ONCE)
    )
    work = partial(facts_of, salt=scan.salt, root_name=scan.root.name)
    for found in in_order(work, tasks, scan.num_workers, KEPT):
        with scan.db:
            for facts in found:
                _take(scan.db, facts)
        done += len(found)
        scan.on_progress("headers", done, total)
    return done + _place_series(scan)


def _task(scan: Scan, row: sqlite3.Row) -> Task:
    relative = row["relative"]
    return Task(row["number"], scan.path(relative), relative, row["bytes"], row["problem"])


def _take(db: sqlite3.Connection, facts: Facts) -> None:
    if facts.image is not None:
        state.add_image(db, facts.image, [facts.number])
        return
    db.execute(
        "UPDATE files SET state = ?, series = ?, header = ? WHERE number = ?",
        (state.READ, facts.series, facts.header, facts.number),
    )


def _place_series(scan: Scan) -> int:
    """Puts every series with a new or a lost slice together anew."""
    unplaced = f"SELECT series FROM files WHERE state = {state.READ} LIMIT 1"
    done = 0
    while row := scan.db.execute(unplaced).fetchone():
        with scan.db:
            _place(scan, row[0])
        done += 1
        scan.on_progress("series", done, 0)
    return done


def _place(scan: Scan, series: str) -> None:
    query = "SELECT number, id, relative, bytes, header FROM files WHERE series = ? ORDER BY relative"
    rows = scan.db.execute(query, (series,)).fetchall()
    placed = "SELECT image FROM members JOIN files ON files.number = file WHERE files.series = ?"
    scan.db.execute(f"DELETE FROM images WHERE number IN ({placed})", (series,))
    files = {Path(os.fsdecode(scan.path(row[2]))): row for row in rows}
    headers = {path: unpacked(row[4], path) for path, row in files.items()}
    relatives = {path: os.fsdecode(row[2]) for path, row in files.items()}
    left = dict(files)
    for record in records_of(headers.values(), relatives):
        members = record.files or (record.path,)
        found = [left.pop(path) for path in members]
        row = dicom_row(record, [headers[path] for path in members])
        size = sum(each[3] for each in found)
        own = {"id": found[0][1], "files": len(found), "bytes": size, "series": series}
        state.add_image(scan.db, row | own, [each[0] for each in found])
    for number, key, _, size, _ in left.values():
        own = {"id": key, "files": 1, "bytes": size, "series": series}
        state.add_image(scan.db, own | {"role": "other", "format": "DICOM", "reason": COPY}, [number])


def read_pixels(scan: Scan, *, thumbnails: bool) -> int:
    """The third pass: every image decoded once. Returns how many were."""
    total, done = state.count(scan.db, "images", TO_DECODE), 0
    tasks = (
        [_pixel_task(scan, row, thumbnails) for row in rows]
        for page in state.pages(scan.db, "images", TO_DECODE)
        for rows in _parts(page, IMAGES_AT_ONCE)
    )
    folder = scan.root.parent if scan.root.is_file() else scan.root
    look = partial(looks_of, salt=scan.salt, root=folder)
    for found in in_order(look, tasks, scan.num_workers, KEPT):
        with scan.db:
            for number, row in found:
                state.update_image(scan.db, number, row)
        done += len(found)
        scan.on_progress("voxels", done, total)
    return done + settle(scan.db)


def _pixel_task(scan: Scan, row: sqlite3.Row, thumbnails: bool) -> PixelTask:
    query = (
        "SELECT relative FROM members JOIN files ON files.number = members.file "
        "WHERE image = ? ORDER BY place"
    )
    files = tuple(scan.path(each[0]) for each in scan.db.execute(query, (row["number"],)))
    draw = thumbnails and not row["burned_in"]  # a picture must not show a name
    return PixelTask(row["number"], files, row["role"], row["bits"], draw)


def export(scan: Scan, out: Path) -> None:
    """The tables: one of images, one of what was excluded, and the latter's names for the owner alone."""
    public = f"SELECT {', '.join(PUBLIC)} FROM images ORDER BY id"
    reasons = "SELECT id, format, reason FROM images WHERE reason != '' ORDER BY reason, id"
    names = (
        "SELECT relative, reason FROM images JOIN members ON image = images.number "
        "JOIN files ON files.number = file WHERE reason != '' ORDER BY relative, place"
    )
    _write_table(out / TABLE, PUBLIC, scan.db.execute(public))
    _write_table(out / REJECTS, ("id", "format", "reason"), scan.db.execute(reasons))
    private = out / state.PRIVATE / REJECTED_NAMES
    rows = ((os.fsdecode(relative), reason) for relative, reason in scan.db.execute(names))
    _write_table(private, ("file", "reason"), rows, OWNER)


def _write_table(path: Path, names: Iterable[str], rows: Iterable[Iterable[Any]], mode: int = ANYONE) -> None:
    def write(stream: BinaryIO) -> None:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(names)
        table.writerows(map(cell, row) for row in rows)
        text.flush()
        text.detach()

    replace_file(path, write, mode)
