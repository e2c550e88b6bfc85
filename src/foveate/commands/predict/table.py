"""The table of predictions: a row per image with a result, how sure it is, and what was doubtful about it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from foveate.core.files import OWNER, csv_text, replace_text

ENTROPY, DISAGREEMENT = "entropy", "disagreement"
LOOK = "look_first"  # 1 is the image to look at first
WARNING = "warning"  # the last column
SAID = 5  # images that are named at the end
EARLIER = "not compared with the training images: done by an earlier version"


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Rows by image, as `core.files.cell` writes its name; none where there is no table."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {row.pop("image"): {**row, WARNING: row.get(WARNING, EARLIER)} for row in rows}


def write_table(path: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """The whole table, or the one before."""
    if not rows:
        return
    places = {name: str(i) for i, name in enumerate(look_first(rows), 1)}
    last = [*([LOOK] if places else []), WARNING]
    columns = [
        name for name in dict.fromkeys(key for row in rows.values() for key in row) if name not in last
    ]
    order = ["image", *columns, *last]
    lines = [
        [{**row, "image": name, LOOK: places.get(name, "")}.get(column, "") for column in order]
        for name, row in sorted(rows.items())
    ]
    replace_text(path, csv_text(order, lines), OWNER)


def doubt_cells(entropy: float | None, disagreement: float | None) -> dict[str, str]:
    """The cells of an image for how sure it is; None is no column, and not a number an empty cell."""
    values = {ENTROPY: entropy, DISAGREEMENT: disagreement}
    return {k: "" if math.isnan(v) else f"{v:.4g}" for k, v in values.items() if v is not None}


def look_first(rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Images by how unsure their results are, worst first: by disagreement, then by entropy."""

    def doubts(name: str) -> tuple[float, float]:
        first, second = (rows[name].get(key) or "-1" for key in (DISAGREEMENT, ENTROPY))
        return float(first), float(second)

    known = [name for name in sorted(rows) if max(doubts(name)) >= 0]
    return sorted(known, key=doubts, reverse=True)


def words_of(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Which images to look at first; "" where there is nothing to choose."""
    names = look_first(rows)

    def said(name: str) -> str:
        cells = [f"{key} {rows[name][key]}" for key in (DISAGREEMENT, ENTROPY) if rows[name].get(key)]
        return f"{name} ({', '.join(cells)})"

    listed = "; ".join(map(said, names[:SAID]))
    return f"look at these first, least sure before others: {listed}" if len(names) > 1 else ""
