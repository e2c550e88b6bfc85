"""Tables and lists in JSON that have a column or field of patients, whatever their names are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.core.types import Json
from foveate.data.tables import (
    IMAGE_COLUMNS,
    PATIENT_COLUMNS,
    column_of,
    parse_json,
    patient_word,
    read_table,
    visible,
)

DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
FIELD = re.compile(rb'"(patient|subject)[-_ ]?(id)?"\s*:', re.IGNORECASE)
IMAGES = ("image", "images")  # of an entry of a list


@dataclass(frozen=True, kw_only=True)
class Named:
    """Rows with a patient each, and the columns that may name the images."""

    source: str  # the name of the file
    field: str  # where it says the patient
    word: str  # "row" or "entry"
    first: int  # the number of the first row
    patients: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    sure: Sequence[str]  # columns whose name says that they name images

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.patients)

    def row(self, number: int) -> str:
        """A row as shown in a message, such as "line 2"."""
        return f"{self.word} {self.first + number}"


def rows_of_tables(folder: Path, only: str = "") -> Iterator[Named]:
    """The tables of a folder that have a column of patients."""
    for path in _files(folder, tuple(DELIMITERS), only):
        delimiter = _delimiter(path)
        rows = list(read_table(path, (), delimiter)) if delimiter else []
        if not rows:
            continue
        names = list(rows[0])
        patient = column_of(names, PATIENT_COLUMNS)
        image = column_of(names, IMAGE_COLUMNS)
        yield Named(
            source=path.name,
            field=f"column {patient}",
            word="line",
            first=2,
            patients=[row.get(patient, "") for row in rows],
            columns={name: [row.get(name, "") for row in rows] for name in names if name != patient},
            sure=[image] if image else [],
        )


def _files(folder: Path, suffixes: tuple[str, ...], only: str) -> list[Path]:
    files = [folder / only] if only else visible(folder)
    return [path for path in files if path.suffix.lower() in suffixes and path.is_file()]


def _delimiter(path: Path) -> str:
    """What separates the columns, if one of them is of patients; "" otherwise: the table is another's."""
    with path.open("rb") as stream:
        head = stream.readline(1 << 16).decode("utf-8-sig", "replace").strip()
    for delimiter in DELIMITERS[path.suffix.lower()]:
        columns = [name.strip().strip('"') for name in head.split(delimiter)]
        if len(columns) > 1 and column_of(columns, PATIENT_COLUMNS):
            return delimiter
    return ""


def rows_of_lists(folder: Path, only: str = "") -> Iterator[Named]:
    """The JSON files of a folder whose entries name images and patients."""
    for path in _files(folder, (".json",), only):
        if not FIELD.search(path.read_bytes()):
            continue
        entries = list(_entries(parse_json(path)))
        fields = [column_of([str(key) for key in entry], PATIENT_COLUMNS) for entry in entries]
        if not any(fields):
            continue
        flat = [
            (image, patient_word(entry.get(name) if name else None))
            for entry, name in zip(entries, fields, strict=True)
            for image in _images(entry)
        ]
        yield Named(
            source=path.name,
            field=f"field {next(filter(None, fields))}",
            word="image",
            first=1,
            patients=[patient for _, patient in flat],
            columns={"image": [image for image, _ in flat]},
            sure=["image"],
        )


def _entries(content: Json) -> Iterator[Mapping[str, Json]]:
    """The mappings of a list, of the lists of an object, and nnU-Net's `dataset`."""
    if isinstance(content, Mapping):
        named = content.get("dataset")
        lists: Iterable[Json] = [
            *content.values(),
            *([[*named.values()]] if isinstance(named, Mapping) else []),
        ]
    else:
        lists = [content]
    for each in lists:
        if isinstance(each, list):
            yield from (entry for entry in each if isinstance(entry, Mapping) and _images(entry))


def _images(entry: Mapping[str, Json]) -> list[str]:
    """The paths that an entry names, its channels each."""
    found = next((entry[name] for name in IMAGES if name in entry), None)
    if isinstance(found, Mapping):
        found = found.get("image")
    return [name for name in (found if isinstance(found, list) else [found]) if isinstance(name, str)]
