"""A table of your own: one row per image, with its label map or its values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.labels import LABELS
from foveate.core.types import Record
from foveate.data.image_files import existing
from foveate.data.layouts import Layout, Missing, WrongLayoutError, case, split_of
from foveate.data.readers.suffixes import SUFFIXES, suffix_of
from foveate.data.tables import PATIENT_COLUMNS, column_of, read_table

TREE = """
FOLDER/labels.csv            (or the path of any .csv file as --data)
  image,label,patient,split
  a.nii.gz,a_seg.nii.gz,p1,train       paths start at the table's folder, or at images/ and labels/ in it
  b.png,1,p2,test                      or values: any column beside image, patient and split;
                                       patient may be patient_id, subject or subject_id
"""
IMAGE_FOLDERS, MAP_FOLDERS = ("", "images"), ("", "labels", "masks")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The columns of the table.

    Attributes:
        name: csv.
        table: File name of the table, where --data is a folder.
        image: The column with the path of the image.
        map: The column with the path of a label map. A cell of it that is no path of an image is a value.
        values: The columns with values of the whole image; empty: every column that is not image, map,
            split or the patient's.
        missing: `skip` goes on without the rows whose files are not there.
    """

    name: Literal["csv"] = "csv"
    table: str = "labels.csv"
    image: str = "image"
    map: str = "label"
    values: tuple[str, ...] = ()
    missing: Missing = "refuse"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=lambda root: cases(root, config))


def recognises(root: Path) -> bool:
    """Whether a labels.csv with a column `image` is there."""
    table = root / Config.table
    return table.is_file() and b"image" in table.read_bytes()[:4096].split(b"\n")[0].split(b",")


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per row; a cell is a number, a word, or missing (NaN) where it is blank."""
    table = root / config.table if root.is_dir() else root
    if not table.is_file() or suffix_of(table) in SUFFIXES:
        raise WrongLayoutError(f"{config.table} is missing")
    rows = list(read_table(table, (config.image, *config.values)))
    columns = list(rows[0]) if rows else []
    has_maps = any(_is_image(row.get(config.map, "")) for row in rows)
    patient = column_of(columns, PATIENT_COLUMNS)
    reserved = (config.image, patient, "split", *((config.map,) if has_maps else ()))
    values = config.values or tuple(name for name in columns if name and name not in reserved)
    listing = _Listing(root, table.parent)
    records = (
        _case(listing, row, values, config, patient=row[patient] if patient else "", has_maps=has_maps)
        for row in rows
    )
    yield from existing(records, config.missing, str(table))


def _is_image(text: str) -> bool:
    return suffix_of(Path(text)) in SUFFIXES


@dataclass(frozen=True)
class _Listing:
    """Where the paths of a table start."""

    root: Path
    folder: Path

    def find(self, name: str, places: tuple[str, ...]) -> Path:
        """The first place that has the file; the first place where none has."""
        candidates = [self.folder / place / name for place in places]
        return next((path for path in candidates if path.is_file()), candidates[0])


def _case(
    listing: _Listing,
    row: Mapping[str, str],
    values: tuple[str, ...],
    config: Config,
    *,
    patient: str,
    has_maps: bool,
) -> Record:
    path = listing.find(row[config.image], IMAGE_FOLDERS)
    label = row.get(config.map, "") if has_maps else ""
    return case(
        listing.root,
        path,
        evidence=f"column {config.image}",
        patient=patient,
        split=split_of(row.get("split", ""), row[config.image]),
        maps={LABELS: listing.find(label, MAP_FOLDERS)} if label else {},
        labels={name: value_of(row[name]) for name in values},
    )


def value_of(text: str) -> str | float:
    """A cell as a number, a word, or NaN where it is blank.

    >>> value_of("1"), value_of("0.5"), value_of("malignant"), value_of("")
    (1, 0.5, 'malignant', nan)
    """
    if not text:
        return math.nan
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
