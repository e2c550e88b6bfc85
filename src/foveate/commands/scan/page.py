"""inventory.html: one page without scripts or anything from elsewhere; every text in it is escaped."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import BinaryIO

from foveate.core.files import replace_file

MOST_ROWS, MOST_PICTURES, PICTURES_PER_GROUP = 500, 240, 12
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #4a90d9; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 600; }
th, td { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } code { font-size: .85em; }
.bar { background: var(--bar); height: .7rem; min-width: 2px; border-radius: 2px; }
.grid { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; max-width: 14rem; } figure img { display: block; max-width: 100%; background: #000; }
figcaption { background: Canvas; font-size: .8rem; padding-top: .15rem; }
.two { display: flex; flex-wrap: wrap; gap: 0 3rem; } .two > section { min-width: 20rem; }
.wide { overflow-x: auto; }
"""
COUNTED = {
    "Role": "role",
    "Modality": "CASE modality WHEN '' THEN 'not said' ELSE modality END",
    "Format": "format",
    "Shape": "CASE shape WHEN '' THEN 'not read' ELSE shape END",
    "Voxel size, mm": "CASE spacing_mm WHEN '' THEN 'not said' ELSE spacing_mm END",
    "Bits": "CASE bits WHEN 0 THEN 'not read' ELSE bits END",
}
USABLE = "role IN ('image', 'label')"


def write_page(db: sqlite3.Connection, path: Path) -> None:
    """The page of an inventory, written as it is read."""

    def write(stream: BinaryIO) -> None:
        stream.writelines(part.encode() for part in parts(db))

    replace_file(path, write)


def parts(db: sqlite3.Connection) -> Iterator[str]:
    """The page from head to foot."""
    yield '<!doctype html><html lang="en"><meta charset="utf-8"><title>Inventory</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    yield '<meta name="viewport" content="width=device-width"><style>' + STYLE + "</style>"
    yield "<h1>Inventory</h1>" + _headline(db)
    yield "<div class=two>"
    for title, column in COUNTED.items():
        where = "1" if title in ("Role", "Format") else USABLE
        yield f"<section>{_counts(db, title, column, where)}</section>"
    yield "</div>"
    yield from (_ranges(db), _duplicates(db), _burned_in(db))
    yield from _pictures(db)
    yield from (_reasons(db), _rejects(db))
    yield "</html>\n"


def _headline(db: sqlite3.Connection) -> str:
    (files,) = db.execute("SELECT count(*) FROM files").fetchone()
    (hidden,) = db.execute("SELECT value FROM facts WHERE name = 'hidden'").fetchone() or ("0",)
    images, patients, series = db.execute(
        f"SELECT count(*), count(DISTINCT nullif(patient, '')), count(DISTINCT nullif(series, '')) "
        f"FROM images WHERE {USABLE}"
    ).fetchone()
    (waiting,) = db.execute(f"SELECT count(*) FROM images WHERE {USABLE} AND decoded = 0").fetchone()
    text = (
        f"{files} files ({hidden} hidden ones ignored), {images} images and labels, {series} DICOM series, "
        f"{patients} patients that a DICOM header names. Ids are salted hashes; names are in private/ alone."
    )
    more = f" {waiting} images were not decoded yet: scan again with --until full." if waiting else ""
    return f"<p>{escape(text + more)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers stand to the right."""
    cells = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<div class=wide><table><tr>{cells}</tr>{body}</table></div>"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f"<td class=n>{value:g}</td>" if isinstance(value, float) else f"<td class=n>{value}</td>"
    return f"<td>{escape('' if value is None else str(value))}</td>"


def _counts(db: sqlite3.Connection, title: str, column: str, where: str) -> str:
    query = f"SELECT {column}, count(*) AS n FROM images WHERE {where} GROUP BY 1 ORDER BY n DESC, 1"
    rows = db.execute(f"{query} LIMIT 13").fetchall()
    if not rows:
        return ""
    (total,) = db.execute(f"SELECT count(*) FROM ({query})").fetchone()
    body = "".join(
        f"<tr>{_cell(str(name))}{_cell(n)}<td style='width:8rem'>"
        f"<div class=bar style='width:{100 * n / rows[0][1]:.0f}%'></div></td></tr>"
        for name, n in rows[:12]
    )
    more = f"<p>and {total - 12} others: inventory.csv</p>" if total > 12 else ""
    return f"<h2>{escape(title)}</h2><table>{body}</table>{more}"


def _ranges(db: sqlite3.Connection) -> str:
    query = (
        "SELECT role, modality, bits, count(*), min(minimum), avg(minimum), avg(maximum), max(maximum) "
        "FROM images WHERE minimum IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    head = ("role", "modality", "bits", "images", "lowest", "mean lowest", "mean highest", "highest")
    return "<h2>Intensity ranges</h2>" + table(head, db.execute(query).fetchall())


def _duplicates(db: sqlite3.Connection) -> str:
    query = (
        f"SELECT voxels, role, count(*) AS n, group_concat(id, ' ') FROM images "
        f"WHERE voxels != '' AND {USABLE} "
        f"GROUP BY voxels HAVING n > 1 ORDER BY n DESC, voxels LIMIT {MOST_ROWS}"
    )
    rows = [(n, role, " ".join(ids.split()[:20])) for _, role, n, ids in db.execute(query)]
    body = table(("images", "role", "ids (up to 20)"), rows) if rows else "<p>None.</p>"
    return f"<h2>Equal voxels (sets: {len(rows)})</h2>{body}"


def _burned_in(db: sqlite3.Connection) -> str:
    query = (
        "SELECT burned_in, modality, format, series, id FROM images WHERE burned_in != '' "
        f"ORDER BY burned_in DESC, modality, id LIMIT {MOST_ROWS}"
    )
    (total,) = db.execute("SELECT count(*) FROM images WHERE burned_in != ''").fetchone()
    note = (
        "<p>yes: the header says that text is drawn into the pixels. possible: the header does not deny "
        "it, and images of its kind often have it. Neither is pictured on this page.</p>"
    )
    rows = db.execute(query).fetchall()
    body = note + table(("text", "modality", "format", "series", "id"), rows) if rows else "<p>None.</p>"
    return f"<h2>Burned-in annotation (images: {total})</h2>{body}"


def _pictures(db: sqlite3.Connection) -> Iterator[str]:
    query = (
        "SELECT * FROM (SELECT * FROM (SELECT id, role, modality, format, shape, spacing_mm, thumbnail, "
        "row_number() OVER (PARTITION BY role, modality, dimension, format ORDER BY id) AS n FROM images "
        f"WHERE thumbnail IS NOT NULL AND {USABLE}) WHERE n <= {PICTURES_PER_GROUP} "
        f"ORDER BY n LIMIT {MOST_PICTURES}) ORDER BY role, modality, format, n"
    )
    yield "<h2>Pictures</h2><p>Middle planes; of each kind the first few.</p><div class=grid>"
    for key, role, modality, kind, shape, spacing, picture, _ in db.execute(query):
        data = base64.b64encode(picture).decode()
        text = escape(f"{role} {modality} {shape}, {spacing} mm ({kind})")
        yield (
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
            f"<figcaption>{text}<br><code>{escape(key[:12])}</code></figcaption></figure>"
        )
    yield "</div>"


def _reasons(db: sqlite3.Connection) -> str:
    query = (
        "SELECT sum(files) AS n, format, reason FROM images WHERE reason != '' "
        f"GROUP BY format, reason ORDER BY n DESC, reason LIMIT {MOST_ROWS}"
    )
    return "<h2>Excluded, by reason</h2>" + table(("files", "format", "reason"), db.execute(query).fetchall())


def _rejects(db: sqlite3.Connection) -> str:
    (total,) = db.execute("SELECT count(*) FROM images WHERE reason != ''").fetchone()
    query = f"SELECT id, format, reason FROM images WHERE reason != '' ORDER BY reason, id LIMIT {MOST_ROWS}"
    more = f"<p>All {total}: rejects.csv</p>" if total > MOST_ROWS else ""
    rows = table(("id", "format", "reason"), db.execute(query).fetchall())
    return f"<h2>Excluded, one by one ({total})</h2><details><summary>Show</summary>{rows}</details>{more}"
