"""How many nodules does a detector from random weights find in crops of CT, against scikit-image's blobs?

`python benchmarks/detection/lidc.py DATA OUT [--steps N]`; DATA has `lidc_nodules_m3dv`. In its cubes the
nodule is always in the middle: validation and test are crops of them in which the middle of the nodule lies
anywhere, and marks in the middle of the crop, and at random, are scored as well. Settings of the blob
detector are chosen on the validation crops. Sensitivity is at one false alarm per crop; it is no CPM.
Patients are not known: intervals resample crops, and a patient may be in two parts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_laplace
from skimage.feature import blob_log

import foveate
from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.tasks import Scan
from foveate.pages.plots import read_plots
from foveate.scoring.boxes.froc import RATES, events_of, froc_metrics
from foveate.scoring.figures import COLOURS, new_axes, save_figure

CUBE, CROP, MM = 50, 32, 2.0  # voxels, and their side, which is believed: the archives have no header
ROOM = CUBE - CROP
VALIDATIONS = 45
SIGMAS = ((1.0, 4.0), (1.5, 6.0), (2.0, 5.0))  # of the blob detector, voxels
SPLIT = Path(__file__).parents[1] / "evidence" / "lidc_split"
SHOWN = ("sensitivity/0.5", "sensitivity/1", "sensitivity/2", "map")

Marks = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # centres, sides, scores


def main(data: Path, out: Path, steps: int) -> None:
    """Data, training, scores."""
    cubes, run = out / "data", out / "run"
    if not (cubes / "boxes.csv").is_file():
        write_cubes(data / "lidc_nodules_m3dv" / "vol50_2x", cubes)
    foveate.finetune(data=cubes, out=run, init="none", task=task(), **keys(steps))
    sigmas = max(SIGMAS, key=lambda each: validated(cubes, lambda image: blobs(image, each)))
    arms: dict[str, Callable[[NDArray[np.float64]], Marks] | None] = {
        "detector": None,
        f"blobs (sigma {sigmas[0]:g} to {sigmas[1]:g})": lambda image: blobs(image, sigmas),
        "middle of the crop": lambda image: one_mark(np.array(image.shape) / 2 - 0.5),
        "anywhere": lambda image: one_mark(
            np.random.default_rng(int(image.sum())).uniform(CUBE / 2 - ROOM, CUBE / 2, 3)
        ),
    }
    rows = {name: scored(name, marks, cubes, run, out) for name, marks in arms.items()}
    (out / "figures.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw(out / "froc.png", out, rows)
    mean, spread = chance_of_the_middle(data / "lidc_nodules_m3dv" / "vol50_2x")
    print(
        f"a mark in the middle hits {mean:.3f} +- {spread:.3f} where every place of the nodule is as likely"
    )
    for name, row in rows.items():
        print(
            name,
            *(
                f"{key} {row[key]['value']:.3f} [{row[key]['low']:.3f}, {row[key]['high']:.3f}]"
                for key in SHOWN
            ),
        )


def chance_of_the_middle(archives: Path) -> tuple[float, float]:
    """How often the middle of a test crop hits, over all places of its nodule; the spread of that mean."""
    places = np.array(list(product(range(ROOM + 1), repeat=3)))
    middle, shares = CROP / 2 - 0.5, []
    for name in (SPLIT / "test.txt").read_text().split():
        with np.load(
            archives / f"{Path(name).name.removesuffix('.nii.gz')}.npz", allow_pickle=False
        ) as found:
            voxels = np.argwhere(found["seg"] > 0)
        low, high = (
            np.clip(end - places, -0.5, CROP - 0.5) for end in (voxels.min(0) - 0.5, voxels.max(0) + 0.5)
        )
        away = (middle - (low + high) / 2) / np.maximum((high - low) / 2, 1e-9)
        shares.append(float(((away**2).sum(1) < 1).mean()))
    found_share = np.array(shares)
    return float(found_share.mean()), float(
        np.sqrt((found_share * (1 - found_share)).sum()) / len(found_share)
    )


def draw(path: Path, out: Path, names: Iterable[str]) -> None:
    """The FROC curves of the arms in one picture."""
    figure, axes = new_axes()
    for i, name in enumerate(names):
        curve = read_plots(out / "scores" / name.split()[0] / "curves.json")["FROC"].curves["FROC"]
        axes.plot(curve.x, curve.y, color=COLOURS[i], label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    axes.set(xlabel="false alarms per crop", ylabel="sensitivity", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def task() -> dict[str, object]:
    """What is learned."""
    return {"name": "detection", "crops": {"grid": [CROP] * 3, "source_sizes": [[CROP] * 3]}}


def keys(steps: int) -> dict[str, object]:
    """The run."""
    return {
        "dimension": 3,
        "size": "small",
        "steps": steps,
        "batch_size": 4,
        "num_workers": 0,
        "validate_every": max(1, steps // 4),
        "preview_every": steps,
        "boxes": {"unit": "voxel"},
    }


def write_cubes(archives: Path, out: Path) -> None:
    """Whole cubes for training, crops of the others, and their boxes as a table."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    lists = {part: (SPLIT / f"{part}.txt").read_text().split() for part in ("train", "val", "test")}
    moved = sorted(lists["train"])[: VALIDATIONS - len(lists["val"])]
    lists = {**lists, "val": [*lists["val"], *moved], "train": [n for n in lists["train"] if n not in moved]}
    rows = ["image,x_min,y_min,z_min,x_max,y_max,z_max,class,split"]
    for part, names in lists.items():
        for name in sorted(names):
            stem = Path(name).name.removesuffix(".nii.gz")
            with np.load(archives / f"{stem}.npz", allow_pickle=False) as found:
                voxels, mask = found["voxel"].astype(np.uint8), found["seg"] > 0
            low = np.zeros(3, dtype=int)
            if part != "train":
                low = np.random.default_rng([int(stem.removeprefix("candidate")), 0]).integers(0, ROOM + 1, 3)
                window = tuple(slice(a, a + CROP) for a in low)
                voxels, mask = voxels[window], mask[window]
            places = np.argwhere(mask)
            nib.save(nib.Nifti1Image(voxels, np.diag([MM, MM, MM, 1])), out / "images" / f"{stem}.nii.gz")
            ends = [*(places.min(0) - 0.5), *(places.max(0) + 0.5)]
            rows.append(",".join([f"images/{stem}.nii.gz", *map(str, ends), "nodule", part]))
    (out / "boxes.csv").write_text("\n".join(rows) + "\n")


def blobs(image: NDArray[np.float64], sigmas: tuple[float, float]) -> Marks:
    """Bright blobs: the score is the response of the scale at which each was found."""
    found = blob_log(
        image, min_sigma=sigmas[0], max_sigma=sigmas[1], num_sigma=6, threshold=0.02, overlap=0.3
    )
    centres, widths = found[:, :3], found[:, 3]
    maps = {w: -gaussian_laplace(image, w) * w**2 for w in set(widths.tolist())}
    scores = [maps[w][tuple(c.astype(int))] for c, w in zip(centres, widths.tolist(), strict=True)]
    return centres, np.repeat(2 * np.sqrt(3) * widths[:, None], 3, 1), np.array(scores)


def one_mark(place: NDArray[np.float64]) -> Marks:
    """One mark and no more."""
    return place[None], np.full((1, 3), 4.0), np.ones(1)


def crops_of(cubes: Path, part: str) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Name, voxels from 0 to 1 and the ends of the box of every crop of a part."""
    for line in (cubes / "boxes.csv").read_text().splitlines()[1:]:
        name, *numbers, _, mine = line.split(",")
        if mine == part:
            voxels = np.asarray(nib.load(cubes / name).dataobj, dtype=np.float64) / 255
            yield name, voxels, np.array(numbers, dtype=np.float64)


def validated(cubes: Path, marks: Callable[[NDArray[np.float64]], Marks]) -> float:
    """Sensitivity at one false alarm per crop on the validation crops."""
    events, none = [], Boxes.of([], [], axes=3)
    for _, image, ends in crops_of(cubes, "val"):
        centres, sides, scores = marks(image)
        truth = Boxes.between(ends[None, :3], ends[None, 3:])
        events.append(events_of(Scan(truth, none, Boxes.of(centres, sides, score=scores, axes=3))))
    return froc_metrics(events)["sensitivity/1"]


def scored(
    name: str, marks: Callable[[NDArray[np.float64]], Marks] | None, cubes: Path, run: Path, out: Path
) -> dict[str, dict[str, float]]:
    """Metrics of one arm on the test crops, all by the same command."""
    place = out / "scores" / name.split(maxsplit=1)[0]
    extra: dict[str, object] = {}
    if marks is not None:
        rows = ["image,x,y,z,size_x,size_y,size_z,class,score"]
        for image, voxels, _ in crops_of(cubes, "test"):
            for centre, size, score in zip(*marks(voxels), strict=True):
                rows.append(",".join([image, *map(str, [*centre, *size]), "nodule", str(score)]))
        place.mkdir(parents=True, exist_ok=True)
        (place / "marks.csv").write_text("\n".join(rows) + "\n")
        extra = {"predictions": str(place / "marks.csv"), "unit": "voxel"}
    foveate.evaluate(run=run, data=cubes, out=place, draws=2000, **extra)
    found: dict[str, dict[str, float]] = json.loads((place / "summary.json").read_text())["metrics"]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    main(given.data, given.out, given.steps)
