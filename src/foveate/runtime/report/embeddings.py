"""The page of `embed`: its map, and what the features say."""

from __future__ import annotations

from pathlib import Path

from foveate.core.types import Json
from foveate.pages.cases import case_table, read_number
from foveate.pages.elements import Html, facts, folded, table
from foveate.pages.page import Page
from foveate.pages.pictures import picture
from foveate.runtime.report.runs import flattened
from foveate.runtime.report.written import cells_of, mapping_of

LISTS = {
    "Leaks": "leaks.csv",
    "Outliers": "outliers.csv",
    "Near-duplicates": "duplicates.csv",
    "What to label first": "suggested.csv",
    "Neighbours": "neighbours.csv",
}


def add_embedding(page: Page, folder: Path, name: str = "") -> None:
    """The sections of a table of features."""
    before = f"{name}: " if name else ""
    card = mapping_of(folder / "card.json")
    page.add(
        f"{before}Summary",
        facts((key, card.get(key)) for key in ("rows", "data_hash", "pooling")),
        card_of(card),
    )
    drawn = folder / "map.png"
    page.add(
        f"{before}Map",
        picture(page, drawn, "rows in two dimensions, some of them with their picture")
        if drawn.is_file()
        else None,
    )
    for title, file in LISTS.items():
        page.add(f"{before}{title}", listed(page, title, folder / file))


def card_of(card: dict[str, Json]) -> Html:
    """Everything that its card says."""
    rows = [(key, str(value)) for key, value in flattened(card)]
    return folded("Card", table(("key", "value"), rows)) if rows else Html("")


def listed(page: Page, title: str, path: Path) -> Html:
    """A list that was written."""
    head, rows = cells_of(path)
    if not rows:
        return Html("")
    names = [
        name == "id" or "id" in name.split("_") or "patient" in name or "neighbour" in name for name in head
    ]
    cells = [[t if named else read_number(t) for t, named in zip(row, names, strict=True)] for row in rows]
    return case_table(page, title, head, cells)
