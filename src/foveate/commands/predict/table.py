"""The table of predictions: a row per image that has a result, with what was doubtful about it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from foveate.core.files import replace_text

WARNING = "warning"  # the last column
EARLIER = "not compared with the training images: done by an earlier version"


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Rows by image; none where there is no table."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {row.pop("image"): {**row, WARNING: row.get(WARNING, EARLIER)} for row in rows}


def write_table(path: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """The whole table, or the one before."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, ["image", *next(iter(rows.values()))])
    writer.writeheader()
    writer.writerows({"image": name, **row} for name, row in sorted(rows.items()))
    replace_text(path, text.getvalue())
