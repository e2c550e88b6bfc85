"""Files of a folder that may be half written, of an earlier version, or not there at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from foveate.core.files import parse_yaml
from foveate.core.types import Json

Row = Mapping[str, Json]


def mapping_of(path: Path) -> dict[str, Json]:
    """A JSON or YAML object; empty where there is none that can be read, or one that is refused of people."""
    try:
        text = path.read_text(encoding="utf-8")
        found = parse_yaml(text) if path.suffix == ".yaml" else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def rows_of(path: Path) -> list[dict[str, Json]]:
    """The lines of a metrics.jsonl that are whole and have a step: the last one may be cut off."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            found.append(row)
    return found


def cells_of(path: Path) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a CSV; rows of another length are left out."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            head, *rows = csv.reader(stream)
    except (OSError, ValueError, csv.Error):
        return [], []
    return head, [row for row in rows if len(row) == len(head)]


def lines_of(path: Path, most: int) -> str:
    """The last lines of a text."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-most:])


def inner(found: Mapping[str, Json], *keys: str) -> Json:
    """A value below keys; None where there is none."""
    value: Json = found
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def number_in(row: Row, name: str) -> float:
    """A number of a row, NaN where it has none."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else float("nan")
