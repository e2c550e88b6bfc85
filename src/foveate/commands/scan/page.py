"""inventory.html: one page without scripts, in the style of the other pages; it is written as it is read."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from foveate.pages.elements import Html, el, folded, joined, table
from foveate.pages.page import write_frame

MOST_ROWS, MOST_PICTURES, PICTURES_PER_GROUP = 500, 240, 12
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
    write_frame(path, "Inventory", parts(db))


def parts(db: sqlite3.Connection) -> Iterator[str]:
    """The page from head to foot."""
    yield "<main>" + el("h1", "Inventory") + _headline(db)
    counted = []
    for title, column in COUNTED.items():
        where = "1" if title in ("Role", "Format") else USABLE
        counted.append(el("section", _counts(db, title, column, where)))
    yield el("div", joined(counted), class_="two")
    yield from (_ranges(db), _duplicates(db), _burned_in(db))
    yield from _pictures(db)
    yield from (_reasons(db), _rejects(db), "</main>")


def _headline(db: sqlite3.Connection) -> Html:
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
    return el("p", text + more)


def _counts(db: sqlite3.Connection, title: str, column: str, where: str) -> Html:
    query = f"SELECT {column}, count(*) AS n FROM images WHERE {where} GROUP BY 1 ORDER BY n DESC, 1"
    rows = db.execute(f"{query} LIMIT 13").fetchall()
    if not rows:
        return Html("")
    (total,) = db.execute(f"SELECT count(*) FROM ({query})").fetchone()
    bars = [(str(name), n, _bar(100 * n / rows[0][1])) for name, n in rows[:12]]
    more = el("p", f"and {total - 12} others: inventory.csv") if total > 12 else None
    return joined([el("h2", title), table((), bars, label=title), more])


def _bar(percent: float) -> Html:
    return el("div", class_="bar", style=f"width: {percent / 12.5:.2f}rem")


def _ranges(db: sqlite3.Connection) -> Html:
    query = (
        "SELECT role, modality, bits, count(*), min(minimum), avg(minimum), avg(maximum), max(maximum) "
        "FROM images WHERE minimum IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    head = ("role", "modality", "bits", "images", "lowest", "mean lowest", "mean highest", "highest")
    return joined(
        [el("h2", "Intensity ranges"), table(head, db.execute(query).fetchall(), label="Intensity ranges")]
    )


def _duplicates(db: sqlite3.Connection) -> Html:
    query = (
        f"SELECT voxels, role, count(*) AS n, group_concat(id, ' ') FROM images "
        f"WHERE voxels != '' AND {USABLE} "
        f"GROUP BY voxels HAVING n > 1 ORDER BY n DESC, voxels LIMIT {MOST_ROWS}"
    )
    rows = [(n, role, " ".join(ids.split()[:20])) for _, role, n, ids in db.execute(query)]
    body = (
        table(("images", "role", "ids (up to 20)"), rows, label="Equal voxels") if rows else el("p", "None.")
    )
    return joined([el("h2", f"Equal voxels (sets: {len(rows)})"), body])


def _burned_in(db: sqlite3.Connection) -> Html:
    query = (
        "SELECT burned_in, modality, format, series, id FROM images WHERE burned_in != '' "
        f"ORDER BY burned_in DESC, modality, id LIMIT {MOST_ROWS}"
    )
    (total,) = db.execute("SELECT count(*) FROM images WHERE burned_in != ''").fetchone()
    note = (
        "yes: the header says that text is drawn into the pixels. possible: the header does not deny "
        "it, and images of its kind often have it. Neither is pictured on this page."
    )
    rows = db.execute(query).fetchall()
    head = ("text", "modality", "format", "series", "id")
    body = [el("p", note), table(head, rows, label="Burned-in annotation")] if rows else [el("p", "None.")]
    return joined([el("h2", f"Burned-in annotation (images: {total})"), *body])


def _pictures(db: sqlite3.Connection) -> Iterator[str]:
    query = (
        "SELECT * FROM (SELECT * FROM (SELECT id, role, modality, format, shape, spacing_mm, thumbnail, "
        "row_number() OVER (PARTITION BY role, modality, dimension, format ORDER BY id) AS n FROM images "
        f"WHERE thumbnail IS NOT NULL AND {USABLE}) WHERE n <= {PICTURES_PER_GROUP} "
        f"ORDER BY n LIMIT {MOST_PICTURES}) ORDER BY role, modality, format, n"
    )
    yield el("h2", "Pictures") + el("p", "Middle planes; of each kind the first few.") + '<div class="grid">'
    for key, role, modality, kind, shape, spacing, picture, _ in db.execute(query):
        data = base64.b64encode(picture).decode()
        text = f"{role} {modality} {shape}, {spacing} mm ({kind})"
        image = el("img", alt=text, src=f"data:image/png;base64,{data}")
        yield el("figure", image, el("figcaption", text, el("br"), el("code", key[:12])))
    yield "</div>"


def _reasons(db: sqlite3.Connection) -> Html:
    query = (
        "SELECT sum(files) AS n, format, reason FROM images WHERE reason != '' "
        f"GROUP BY format, reason ORDER BY n DESC, reason LIMIT {MOST_ROWS}"
    )
    rows = table(("files", "format", "reason"), db.execute(query).fetchall(), label="Excluded, by reason")
    return joined([el("h2", "Excluded, by reason"), rows])


def _rejects(db: sqlite3.Connection) -> Html:
    (total,) = db.execute("SELECT count(*) FROM images WHERE reason != ''").fetchone()
    query = f"SELECT id, format, reason FROM images WHERE reason != '' ORDER BY reason, id LIMIT {MOST_ROWS}"
    more = el("p", f"All {total}: rejects.csv") if total > MOST_ROWS else None
    rows = table(("id", "format", "reason"), db.execute(query).fetchall(), label="Excluded, one by one")
    return joined([el("h2", f"Excluded, one by one ({total})"), folded("Show", rows), more])
