"""Which images, which of them are labelled, and how a volume is scored: the same for every arm.

A case is read as (x, y, z) arrays; a picture has one slice. Nothing but positions in lists is ever written
down.
"""

from __future__ import annotations

import csv
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
RESULTS = Path(__file__).parent / "results"
ORDER_SEED = 2026  # of the parts of data sets that come without any


@dataclass(frozen=True, kw_only=True)
class Case:
    """One volume or picture with its labels."""

    image: Path
    label: Path
    patient: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One data set.

    Attributes:
        find: Its parts, below the folder of all data.
        dimension: Of the networks.
        classes: Label values without the background, and what foveate calls them.
        counts: Labelled patients.
        patch: Of a training window.
        batch: Of every arm.
        seconds: The smaller budget of CPU time.
    """

    find: Callable[[Path], dict[str, list[Case]]]
    dimension: int
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    patch: tuple[int, ...]
    batch: int
    seconds: float


def data_folder() -> Path:
    """Where the data sets are."""
    if "FOVEATE_DATA" not in os.environ:
        raise SystemExit("FOVEATE_DATA must name the folder of the data sets")
    return Path(os.environ["FOVEATE_DATA"])


def acdc(data: Path) -> dict[str, list[Case]]:
    """By the table of the data set: 70, 10 and 20 patients, two volumes each."""
    root, found = data / "acdc_cine_mr", dict[str, list[Case]](train=[], val=[], test=[])
    with (root / "patients.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            case = Case(image=root / row["image"], label=root / row["label"], patient=row["patient"])
            found[row["split"]].append(case)
    return found


def dealt(cases: list[Case], test: int, val: int) -> dict[str, list[Case]]:
    """Cases of one patient each in an order of their own."""
    shuffled = sorted(cases, key=lambda case: case.image.name)
    random.Random(ORDER_SEED).shuffle(shuffled)
    return {"test": shuffled[:test], "val": shuffled[test : test + val], "train": shuffled[test + val :]}


def paired(root: Path, labels: str) -> list[Case]:
    """Images and label maps of equal names; images without one are left out."""
    return [
        Case(image=path, label=root / labels / path.name, patient=path.stem)
        for path in (root / "images").iterdir()
        if (root / labels / path.name).exists() and not path.name.startswith(".")
    ]


def hippocampus(data: Path) -> dict[str, list[Case]]:
    """180, 20 and 60 volumes."""
    return dealt(paired(data / "msd_hippocampus", "labels"), 60, 20)


def lungs(data: Path) -> dict[str, list[Case]]:
    """584, 60 and 60 radiographs."""
    return dealt(paired(data / "cxr_tb_lungs", "masks"), 60, 60)


def nodules(data: Path) -> dict[str, list[Case]]:
    """300, 50 and 115 cubes."""
    paths = (data / "lidc_nodules_m3dv" / "vol50_2x").glob("*.npz")
    return dealt([Case(image=path, label=path, patient=path.stem) for path in paths], 115, 50)


CELLS = {
    "acdc": Cell(
        find=acdc,
        dimension=2,
        classes=("right_ventricle=1", "myocardium=2", "left_ventricle=3"),
        counts=(1, 3, 8, 70),
        patch=(128, 128),
        batch=8,
        seconds=300,
    ),
    "hippocampus": Cell(
        find=hippocampus,
        dimension=3,
        classes=("anterior=1", "posterior=2"),
        counts=(3, 10, 180),
        patch=(32, 48, 32),
        batch=2,
        seconds=600,
    ),
    "lungs": Cell(
        find=lungs,
        dimension=2,
        classes=("lung=1",),
        counts=(3, 10, 584),
        patch=(256, 256),
        batch=4,
        seconds=300,
    ),
    "nodules": Cell(
        find=nodules,
        dimension=3,
        classes=("nodule=1",),
        counts=(10, 300),
        patch=(48, 48, 48),
        batch=2,
        seconds=600,
    ),
}


def labelled(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """All cases of the patients who are labelled: the first of one order per seed: few lie inside more."""
    patients = sorted({case.patient for case in cases})
    random.Random(seed).shuffle(patients)
    chosen = set(patients[:count])
    return [case for case in cases if case.patient in chosen]


def read(case: Case) -> tuple[Array, Labels]:
    """Image and labels, (x, y, z) each, in the image's own units."""
    if case.image.suffix == ".npz":
        with np.load(case.image) as held:
            return held["voxel"].astype(np.float32), held["seg"].astype(np.int64)
    if case.image.suffix == ".png":
        image, label = (np.asarray(Image.open(p).convert("L")).T[..., None] for p in (case.image, case.label))
        return image.astype(np.float32), (label > 0).astype(np.int64)
    pair = (np.asarray(nib.load(path).dataobj) for path in (case.image, case.label))
    image, label = pair
    return image.astype(np.float32), label.astype(np.int64)


def dice(predicted: Labels, truth: Labels, classes: int) -> float:
    """Mean over classes of a volume; one that is neither there nor predicted does not count."""
    found = []
    for value in range(1, classes + 1):
        p, t = predicted == value, truth == value
        if p.any() or t.any():
            found.append(2 * float((p & t).sum()) / float(p.sum() + t.sum()))
    return float(np.mean(found)) if found else 1.0


def scores(cases: Sequence[Case], predict: Callable[[Array], Labels], classes: int) -> list[float]:
    """Of every case in the order of the list."""
    return [dice(predict(image), label, classes) for image, label in map(read, cases)]


class Clock:
    """CPU seconds of this process since it was made, and the share of a budget that they are."""

    def __init__(self, budget: float) -> None:
        self.budget, self.started = budget, time.process_time()

    @property
    def seconds(self) -> float:
        """So far."""
        return time.process_time() - self.started

    @property
    def share(self) -> float:
        """Of the budget, at most 1."""
        return min(1.0, self.seconds / self.budget)


def result_file(arm: str, cell: str, count: int, seed: int, budget: float) -> Path:
    """Where a result lies."""
    return RESULTS / f"{cell}-{count}-seed{seed}-{budget:g}s-{arm}.json"


def save(arm: str, cell: str, count: int, seed: int, budget: float, found: dict[str, object]) -> Path:
    """Write one result; `found` has the scores of `val` and `test` and what else is to be known."""
    path = result_file(arm, cell, count, seed, budget)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = CELLS[cell].find(data_folder())
    names = sorted({case.patient for case in parts["test"]})
    patients = [names.index(case.patient) for case in parts["test"]]
    about = {"arm": arm, "cell": cell, "count": count, "seed": seed, "budget": budget, "patients": patients}
    path.write_text(json.dumps({**about, **found}, indent=1) + "\n", encoding="utf-8")
    return path
