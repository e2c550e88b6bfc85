"""LUNA16: 888 chest CT in ten subsets, with nodules and candidate locations.

Source: https://luna16.grand-challenge.org (CC BY 3.0, from LIDC-IDRI).

The tables give positions in the world of ITK, where x runs to the patient's left and y to the back. They are
yielded as RAS+ millimetres, so that the inverse of an image's affine turns them into an array index, also
for the scans whose header has flipped directions. As boxes, findings of annotations.csv are nodules; those of
annotations_excluded.csv, which comes with the challenge's evaluation, count neither as found nor as false.
With a table of candidates these are the boxes in their place, of the nominal diameter of 10 mm.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from foveate.core.boxes.tasks import instance_of
from foveate.core.types import FoveateError, Json, Record
from foveate.data.boxes.listing import Listed
from foveate.data.layouts import IGNORE, Classes, Layout, case, either, excluded_case, folders
from foveate.data.tables import read_table, visible

TREE = """
subset0/
  <seriesuid>.mhd
  <seriesuid>.raw            (or .zraw)
subset1/ ... subset9/
annotations.csv              seriesuid,coordX,coordY,coordZ,diameter_mm
annotations_excluded.csv     (optional, from evaluationScript/annotations) the same columns
candidates_V2.csv            seriesuid,coordX,coordY,coordZ,class (only for --source.candidates v2)
seg-lungs-LUNA16/            (optional) <seriesuid>.mhd
"""
SUBSETS = 10
NODULE, EXCLUDED, CANDIDATE = 1, 2, 2  # classes of boxes; candidates are listed without excluded findings
UNKNOWN_MM = 10.0
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
        fold: One of the challenge's ten folds, 0 to 9: that subset is for the test, the next one (after 9
            comes 0) for validation, the other eight for training; in place of the two lists. Scores of all
            ten together are the challenge's.
        candidates: Candidates for false-positive reduction, as boxes of the classes nodule and candidate in
            place of the nodules: none, v1 (551,065 rows) or v2 (754,975 rows).
    """

    name: Literal["luna16"] = "luna16"
    val_subsets: tuple[int, ...] = ()
    test_subsets: tuple[int, ...] = (7, 8, 9)
    fold: int | None = None
    candidates: Literal["none", "v1", "v2"] = "none"

    def __post_init__(self) -> None:
        if self.fold is not None and not 0 <= self.fold < SUBSETS:
            raise FoveateError(f"source.fold {self.fold}: accepted are numbers from 0 to {SUBSETS - 1}.")
        numbers = (*self.val_subsets, *self.test_subsets)
        if len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(SUBSETS)):
            raise FoveateError(
                f"source.val_subsets {list(self.val_subsets)} and source.test_subsets "
                f"{list(self.test_subsets)}: accepted are different numbers from 0 to 9."
            )


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(
        name=config.name,
        tree=TREE,
        cases=lambda root: cases(root, config),
        axes=3,
        targets=lambda root: _classes(root, config),
    )


def _classes(root: Path, config: Config) -> Classes:
    """Values of the boxes."""
    if config.candidates != "none":
        return {"nodule": (NODULE,), "candidate": (CANDIDATE,)}
    top = either(root, _is_top, "folders subset0 to subset9")
    return {"nodule": (NODULE,), **({IGNORE: (EXCLUDED,)} if _excluded(top) else {})}


def _excluded(top: Path) -> Path | None:
    """The table of findings that do not count, beside the others or where the challenge unpacks it."""
    places = (top, top / "evaluationScript" / "annotations")
    return next((p for place in places if (p := place / "annotations_excluded.csv").is_file()), None)


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
    excluded = _excluded(top)
    ignored = _points(excluded, "diameter_mm") if excluded else None
    asked = config.candidates != "none"
    if asked:
        tables["candidates"] = _points(top / CANDIDATES[config.candidates], "class")
    for folder in folders(top):
        if match := SUBSET.fullmatch(folder.name):
            for path in visible(folder):
                if path.suffix == ".mhd":
                    found = _case(root, top, path, _split(int(match[1]), config), tables)
                    boxes = (
                        _places(tables["candidates"].get(path.stem, []))
                        if asked
                        else _boxes(tables["nodules"].get(path.stem, []), ignored, path.stem)
                    )
                    yield replace(found, labels={**found.labels, **boxes}) if found.labels else found


def _places(candidates: Sequence[Point]) -> Mapping[str, Json]:
    """Candidates as boxes; their table says of each whether it is a nodule."""
    kinds = [NODULE if flag > 0 else CANDIDATE for *_, flag in candidates]
    rows = tuple(
        (float(instance_of(number, kind, 2)), x, y, z, *[UNKNOWN_MM] * 3)
        for number, (kind, (x, y, z, _)) in enumerate(zip(kinds, candidates, strict=True))
    )
    return Listed(unit="mm", frame="ras", rows=rows).as_label()


def _boxes(
    nodules: Sequence[Point], ignored: Mapping[str, list[Point]] | None, uid: str
) -> Mapping[str, Json]:
    """Nodules and what does not count as boxes; an unknown diameter is 10 mm, as the challenge has it."""
    kinds = [(NODULE, nodules)] if ignored is None else [(NODULE, nodules), (EXCLUDED, ignored.get(uid, []))]
    found = [(kind, point) for kind, points in kinds for point in points]
    rows = tuple(
        (float(instance_of(number, kind, len(kinds))), x, y, z, *[d if d > 0 else UNKNOWN_MM] * 3)
        for number, (kind, (x, y, z, d)) in enumerate(found)
    )
    return Listed(unit="mm", frame="ras", rows=rows).as_label()


def _split(subset: int, config: Config) -> str:
    if config.fold is not None:
        return {0: "test", 1: "val"}.get((subset - config.fold) % SUBSETS, "train")
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
