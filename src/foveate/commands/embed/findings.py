"""What the features say: neighbours, near-duplicates, outliers, what to label first.

Files hold row numbers and salted hashes; names are said in the terminal alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from foveate.commands.embed import likeness
from foveate.commands.embed.config import EmbedConfig
from foveate.commands.embed.features import Embedded
from foveate.commands.embed.picture import draw_map
from foveate.core.files import csv_text, replace_text
from foveate.core.types import Array
from foveate.train.logging import say

SHOWN = 10  # lines of a list in the terminal
Cell = str | int


def report(found: Embedded, config: EmbedConfig, asked: Array | None) -> None:
    """Neighbours, near-duplicates, outliers and suggestions; with the features of a query its neighbours."""
    out = Path(config.out)
    rows, centre, factors = likeness.comparable(found.features, found.seen.columns)
    near, apart = likeness.nearest(rows, config.neighbours, found.patients)
    write_pairs(out / "neighbours.csv", near, apart)
    twins = likeness.near_duplicates(*likeness.nearest(rows, config.neighbours, found.images))
    write_rows(found, out / "duplicates.csv", [(a, b) for a, b, _ in twins])
    tell(
        f"{len(twins)} pairs may be duplicates", (f"{found.name(a)} and {found.name(b)}" for a, b, _ in twins)
    )
    score = likeness.outlying(apart)
    far = np.argsort(-score, kind="stable")[: config.outliers].tolist()
    write_rows(found, out / "outliers.csv", [(row,) for row in far])
    tell(
        f"the {len(far)} least like their neighbours, in units of the usual distance",
        (f"{found.name(row)}: {score[row]:.1f}" for row in far),
    )
    if config.pictures and len(rows) > 1:
        shown = likeness.k_centre(rows, config.pictures, found.images)
        draw_map(found, rows, shown, out / "map.png")
    if config.suggest:
        chosen = likeness.k_centre(rows, config.suggest, found.patients)
        write_rows(found, out / "suggested.csv", [(row,) for row in chosen])
        tell(f"{len(chosen)} to label first, each of another patient", map(found.name, chosen), len(chosen))
    if asked is not None:
        say_nearest(found, config, rows, likeness.transformed(asked, centre, factors))


def say_nearest(found: Embedded, config: EmbedConfig, rows: Array, asked: Array) -> None:
    """The nearest neighbours of an image, or of each of its slices."""
    near, apart = likeness.nearest(rows, config.neighbours, found.images, asked)
    for part, (others, distances) in enumerate(zip(near.tolist(), apart.tolist(), strict=True)):
        what = f"nearest to {config.query}" + (f", slice {part}" if len(near) > 1 else "")
        tell(what, (f"{found.name(i)}: {d:.3f}" for i, d in zip(others, distances, strict=True)))


def write_pairs(path: Path, near: Array, apart: Array) -> None:
    """Every row with its neighbours and their distances."""
    head = [word for k in range(near.shape[1]) for word in (f"neighbour_{k + 1}", f"distance_{k + 1}")]
    lines: list[tuple[Cell, ...]] = []
    for row, (others, distances) in enumerate(zip(near.tolist(), apart.tolist(), strict=True)):
        both = zip(others, distances, strict=True)
        pairs = ((i, f"{d:.5f}") if np.isfinite(d) else ("", "") for i, d in both)
        lines.append((row, *(word for pair in pairs for word in pair)))
    replace_text(path, csv_text(("row", *head), lines))


def write_rows(found: Embedded, path: Path, chosen: Iterable[tuple[int, ...]]) -> None:
    """Rows by number, id and slice."""
    lines: list[tuple[Cell, ...]] = [
        tuple(word for row in rows for word in (row, found.volume(row).entry.id, int(found.parts[row])))
        for rows in chosen
    ]
    width = len(lines[0]) // 3 if lines else 1
    head = [f"{word}{k + 1 if width > 1 else ''}" for k in range(width) for word in ("row", "id", "slice")]
    replace_text(path, csv_text(head, lines))


def tell(what: str, lines: Iterable[str], most: int = SHOWN) -> None:
    """A list in the terminal, the first few of it."""
    every = list(lines)
    say(what + (":" if every else ""))
    for line in every[:most]:
        say(f"  {line}")
    if len(every) > most:
        say(f"  and {len(every) - most} more")
