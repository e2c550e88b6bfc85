"""LUNA16: 888 chest CT in ten subsets, with nodules and candidate locations.

Source: https://luna16.grand-challenge.org (CC BY 3.0, from LIDC-IDRI).

The tables give positions in the world of ITK, where x runs to the patient's left and y to the back. They are
yielded as RAS+ millimetres, so that the inverse of an image's affine turns them into an array index, also
for the scans whose header has flipped directions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from foveate.core.types import FoveateError, Record
from foveate.data.layouts import Layout, case, either, excluded_case, folders
from foveate.data.tables import read_table, visible

TREE = """
subset0/
  <seriesuid>.mhd
  <seriesuid>.raw            (or .zraw)
subset1/ ... subset9/
annotations.csv              seriesuid,coordX,coordY,coordZ,diameter_mm
candidates_V2.csv            seriesuid,coordX,coordY,coordZ,class (only for --source.candidates v2)
seg-lungs-LUNA16/            (optional) <seriesuid>.mhd
"""
SUBSET = re.compile(r"subset([0-9])")
CANDIDATES = {"v1": "candidates.csv", "v2": "candidates_V2.csv"}
COORDINATES = ("coordX", "coordY", "coordZ")

Point = tuple[float, float, float, float]  # RAS+ millimetres, then the diameter or the class


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which subsets are for what, and which table of candidates is read.

    Attributes:
        name: luna16.
        val_subsets: Subsets for validation. Models Genesis has 5 and 6, with 7 to 9 for the test.
        test_subsets: Subsets for the test; PCRLv2 pre-trains on 0 to 6.
        candidates: Candidates for false-positive reduction: none, v1 (551,065 rows) or v2 (754,975 rows).
    """

    name: Literal["luna16"] = "luna16"
    val_subsets: tuple[int, ...] = ()
    test_subsets: tuple[int, ...] = (7, 8, 9)
    candidates: Literal["none", "v1", "v2"] = "none"

    def __post_init__(self) -> None:
        numbers = (*self.val_subsets, *self.test_subsets)
        if len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(10)):
            raise FoveateError(
                f"source.val_subsets {list(self.val_subsets)} and source.test_subsets "
                f"{list(self.test_subsets)}: accepted are different numbers from 0 to 9."
            )


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=lambda root: cases(root, config), axes=3)


def _is_top(folder: Path) -> bool:
    return any(SUBSET.fullmatch(path.name) for path in folders(folder))


def recognises(root: Path) -> bool:
    """Whether a subset's folder holds .mhd files."""
    subsets = [path for path in folders(root) if SUBSET.fullmatch(path.name)]
    return any(path.suffix == ".mhd" for subset in subsets for path in visible(subset))


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per series, with `nodules` and, where asked for, `candidates` as tuples of points."""
    top = either(root, _is_top, "folders subset0 to subset9")
    tables = {"nodules": _points(top / "annotations.csv", "diameter_mm")}
    if config.candidates != "none":
        tables["candidates"] = _points(top / CANDIDATES[config.candidates], "class")
    for folder in folders(top):
        if match := SUBSET.fullmatch(folder.name):
            for path in visible(folder):
                if path.suffix == ".mhd":
                    yield _case(root, top, path, _split(int(match[1]), config), tables)


def _split(subset: int, config: Config) -> str:
    if subset in config.test_subsets:
        return "test"
    return "val" if subset in config.val_subsets else "train"


def _case(
    root: Path, top: Path, path: Path, split: str, tables: Mapping[str, Mapping[str, list[Point]]]
) -> Record:
    if not any(path.with_suffix(suffix).is_file() for suffix in (".raw", ".zraw")):
        return excluded_case(root, path, f"{path.stem}.raw is missing")
    lungs = top / "seg-lungs-LUNA16" / path.name
    labels: dict[str, Any] = {name: tuple(table.get(path.stem, ())) for name, table in tables.items()}
    return case(
        root,
        path,
        evidence=f"header in {path.parent.name}",
        modality="CT",
        patient=path.stem,
        split=split,
        maps={"lungs": lungs} if lungs.is_file() else {},
        labels=labels,
    )


def _points(path: Path, value: str) -> dict[str, list[Point]]:
    """Series -> its points."""
    if not path.is_file():
        raise FoveateError(f"{path} is missing; LUNA16 comes with it.")
    found: dict[str, list[Point]] = defaultdict(list)
    for number, row in enumerate(read_table(path, ("seriesuid", *COORDINATES, value)), start=2):
        try:
            x, y, z, last = (float(row[name]) for name in (*COORDINATES, value))
        except ValueError:
            raise FoveateError(f"{path}, line {number}: a coordinate or {value} is not a number.") from None
        found[row["seriesuid"]].append((-x, -y, z, last))
    return found
