"""What the features say: neighbours, near-duplicates, outliers, what to label first.

Files hold row numbers and salted hashes; names are said in the terminal alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from foveate.commands.embed import likeness
from foveate.commands.embed.config import EmbedConfig
from foveate.commands.embed.features import Embedded
from foveate.commands.embed.picture import draw_map
from foveate.commands.embed.write import columns_of
from foveate.core.files import csv_text, replace_text
from foveate.core.types import Array
from foveate.train.logging import say

SHOWN = 10  # lines of a list in the terminal
Cell = str | int | float


def report(found: Embedded, config: EmbedConfig, asked: Array | None) -> None:
    """Neighbours, near-duplicates, outliers and suggestions; with the features of a query its neighbours."""
    out = Path(config.out)
    rows, centre, factors = likeness.comparable(found.features, found.seen.columns)
    near, apart = likeness.nearest(rows, config.neighbours, found.patients)
    write_pairs(out / "neighbours.csv", near, apart)
    twins = likeness.near_duplicates(*likeness.nearest(rows, config.neighbours, found.images))
    write_rows(found, out / "duplicates.csv", [(a, b) for a, b, _ in twins])
    tell(
        f"{len(twins)} pair{'s' * (len(twins) != 1)} may be duplicates",
        (f"{found.name(a)} and {found.name(b)}" for a, b, _ in twins),
    )
    if found.split:
        report_leaks(found, [(a, b) for a, b, _ in twins], out / "leaks.csv")
    score = likeness.outlying(apart)
    far = np.argsort(-score, kind="stable")[: config.outliers].tolist()
    write_rows(found, out / "outliers.csv", [(row,) for row in far])
    tell(
        f"the {len(far)} least like their neighbours, in units of the usual distance",
        (f"{found.name(row)}: {score[row]:.1f}" for row in far),
    )
    if config.pictures and len(rows) > 1:
        draw_map(found, rows, config, out / "map.png")
    if config.suggest:
        chosen = likeness.k_centre(rows, config.suggest, found.patients)
        write_rows(found, out / "suggested.csv", [(row,) for row in chosen])
        tell(f"{len(chosen)} to label first, each of another patient", map(found.name, chosen), len(chosen))
    if asked is not None:
        say_nearest(found, config, rows, likeness.transformed(asked, centre, factors))


def report_leaks(found: Embedded, twins: Sequence[tuple[int, int]], path: Path) -> None:
    """Near-duplicates that lie in different parts of a split: one is learned from, the other is a test."""
    parts = [found.split[i] for i in found.images.tolist()]
    leaks = [(a, b) for a, b in twins if parts[a] and parts[b] and parts[a] != parts[b]]
    write_rows(found, path, leaks, parts)
    images = {(int(found.images[a]), int(found.images[b])) for a, b in leaks}
    tell(
        f"leaks: {len(images)} pairs of images in different parts of the split may be duplicates",
        (f"{found.name(a)} ({parts[a]}) and {found.name(b)} ({parts[b]})" for a, b in leaks),
    )


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


def write_rows(
    found: Embedded, path: Path, chosen: Iterable[tuple[int, ...]], parts: Sequence[str] = ()
) -> None:
    """Rows by number, id and what else tells them apart, and by parts of a split where these are given."""
    columns = columns_of(found)
    known = [name for name in columns if name != "patient"]

    def words(row: int) -> list[Cell]:
        part = [parts[row]] if parts else []
        return [row, *(columns[name][row] for name in known), *part]

    lines = [tuple(word for row in rows for word in words(row)) for rows in chosen]
    names = ["row", *known, *(["part"] if parts else [])]
    width = len(lines[0]) // len(names) if lines else 1
    head = [f"{word}{k + 1 if width > 1 else ''}" for k in range(width) for word in names]
    replace_text(path, csv_text(head, lines))


def tell(what: str, lines: Iterable[str], most: int = SHOWN) -> None:
    """A list in the terminal, the first few of it."""
    every = list(lines)
    say(what + (":" if every else ""))
    for line in every[:most]:
        say(f"  {line}")
    if len(every) > most:
        say(f"  and {len(every) - most} more")
