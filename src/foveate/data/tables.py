"""Folders, tables and JSON files as they are found, before anything is known of images."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from foveate.core.types import FoveateError, Json

PATIENT_COLUMNS = ("patient", "patient_id", "subject", "subject_id")  # of tables, however they are spelled
IMAGE_COLUMNS = ("image", "image_path", "image_file", "file", "filename", "file_name", "path", "name")


def visible(folder: Path) -> list[Path]:
    """What a folder holds, hidden names excluded, sorted by name.

    Raises:
        FoveateError: when it may not be listed.
    """
    return [folder / entry.name for entry in entries_of(folder)]


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, hidden names excluded, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise FoveateError(f"{folder} cannot be listed ({error.strerror}); make it readable.") from error
    return sorted(seen, key=lambda entry: entry.name)


def read_table(path: Path, required: Iterable[str], delimiter: str = ",") -> Iterator[dict[str, str]]:
    """The rows of a table as mappings, after a check of its head.

    Raises:
        FoveateError: a column is not there, or the file is not text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter)
            columns = reader.fieldnames or ()
            for name in required:
                if name not in columns:
                    found = ", ".join(columns) or "nothing"
                    raise FoveateError(f"{path} has no column {name!r}; its first line holds {found}.")
            for row in reader:
                yield {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise FoveateError(f"{path} cannot be read as a table ({type(error).__name__}).") from None


def column_of(columns: Sequence[str], names: Sequence[str]) -> str:
    """The first of some names that is a column, in the table's own spelling.

    >>> column_of(["Image Index", "Patient ID"], PATIENT_COLUMNS)
    'Patient ID'
    """
    spelled = {_plain(column): column for column in columns if column}
    return next((spelled[_plain(name)] for name in names if _plain(name) in spelled), "")


def patient_word(value: Json) -> str:
    """A patient as a list names one; "" where it names none.

    >>> patient_word(7), patient_word(None), patient_word(" p1 ")
    ('7', '', 'p1')
    """
    return "" if value is None else str(value).strip()


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def parse_json(path: Path) -> Json:
    """What a JSON file holds."""
    try:
        found: Json = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise FoveateError(f"{path} cannot be read as JSON ({type(error).__name__}).") from None
    return found
