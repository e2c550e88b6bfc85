"""What the tables beside a folder's images say of them: values such as a site or a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foveate.core.types import FoveateError, Json, Record
from foveate.data.cohort.patients import FEWEST, Finder
from foveate.data.tables import IMAGE_COLUMNS, PATIENT_COLUMNS, column_of, read_table, visible

DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
SPLIT = "split"
Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Values by image, and what the log says of where they are from."""

    of: Mapping[str, Mapping[str, Json]]  # relative path -> column -> value
    notes: tuple[str, ...] = ()

    def joined(self, records: Sequence[Record]) -> list[Record]:
        """The records with these values; what their source says of them stays."""
        return [replace(r, labels={**self.of.get(r.relative, {}), **r.labels}) for r in records]


def columns_beside(records: Sequence[Record], data: Path) -> Columns:
    """The columns of every table in the folder `data` whose rows name its images or their patients.

    Raises:
        FoveateError: two rows give an image different values.
    """
    of: dict[str, dict[str, Json]] = {}
    notes = []
    for path in visible(data) if data.is_dir() else ():
        if path.suffix.lower() not in DELIMITERS or not path.is_file():
            continue
        rows = list(read_table(path, (), _delimiter(path)))
        rows_of, used = _rows_by_image(rows, records)
        names = [name for name in (rows[0] if rows else ()) if name not in used and name.lower() != SPLIT]
        for name in names:
            for relative, numbers in rows_of.items():
                value = _one_value([rows[number][name] for number in numbers], path, name, numbers)
                of.setdefault(relative, {}).setdefault(name, value)
        if rows_of and names:
            notes.append(
                f"values from {path.name}: {', '.join(names)}, for {len(rows_of)} of {len(records)} images"
            )
    return Columns(of=of, notes=tuple(notes))


def _delimiter(path: Path) -> str:
    """What separates the columns: what the first line has most of."""
    with path.open("rb") as stream:
        head = stream.readline(1 << 16).decode("utf-8-sig", "replace")
    return max(DELIMITERS[path.suffix.lower()], key=head.count)


def _rows_by_image(rows: Sequence[Row], records: Sequence[Record]) -> tuple[dict[str, list[int]], set[str]]:
    """Relative path -> the rows that name the image, else its patient; and the columns that are names."""
    finder, names = Finder(records), list(rows[0]) if rows else []
    found = {name: [finder.find(row.get(name, "")) for row in rows] for name in names}
    met = {name: sum(map(bool, each)) for name, each in found.items()}
    sure = column_of(names, IMAGE_COLUMNS)
    enough = [n for n in names if met[n] and (n == sure or met[n] >= FEWEST * min(len(rows), len(records)))]
    best = max(enough, key=lambda name: (name == sure, met[name]), default="")
    patient = column_of(names, PATIENT_COLUMNS)
    rows_of: dict[str, list[int]] = {}
    for number, images in enumerate(found.get(best, ())):
        for relative in images:
            rows_of.setdefault(relative, []).append(number)
    if not best and patient:
        numbers: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            numbers.setdefault(row[patient], []).append(number)
        rows_of = {r.relative: numbers[r.patient] for r in records if r.patient and r.patient in numbers}
    return rows_of, {*enough, patient}


def _one_value(cells: Sequence[str], path: Path, name: str, numbers: Sequence[int]) -> Json:
    """The value that all rows of an image have."""
    if len(set(cells)) > 1:
        lines = " and ".join(str(number + 2) for number in numbers[:2])
        raise FoveateError(
            f"{path.name}: lines {lines} are of one image and differ in column {name}; accepted: one value "
            "for every image."
        )
    try:
        number = float(cells[0])
    except ValueError:
        return cells[0]
    return int(number) if number.is_integer() else number
