"""A table of cases that can be sorted and filtered; only some of its rows are drawn at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from foveate.core.types import Json
from foveate.pages.elements import Html, el
from foveate.pages.page import Page

MOST_ROWS = 5000

Cell = str | float | None


def case_table(
    page: Page,
    label: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    sort: int = 0,
    falling: bool = False,
) -> Html:
    """A table with a filter and sortable columns.

    Args:
        page: Where the data go.
        label: What it shows.
        columns: Their names; a column is one of numbers where all of its cells are.
        rows: Cells, None where there is nothing.
        sort: The column that it is sorted by at first.
        falling: Whether the largest come first then.
    """
    numbers = [all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    note = f"The first {MOST_ROWS} of {len(rows)} rows." if len(rows) > MOST_ROWS else ""
    spec: Json = {
        "label": label,
        "columns": list(columns),
        "numbers": numbers,
        "rows": [[kept(value) for value in row] for row in rows[:MOST_ROWS]],
        "sort": sort,
        "falling": falling,
    }
    drawn = page.widget("table", spec) if rows else el("p", "No rows.", class_="note")
    return Html(drawn + (el("p", note, class_="note") if note else ""))


def kept(value: Cell) -> Json:
    """A cell as the script reads it: five digits of a number, null for none."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def read_number(text: str) -> Cell:
    """A cell of a CSV: a number where it is one."""
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text
