"""Organs of whole images as a picture: boxes of the labels and of a network, in three planes.

    python benchmarks/localization/whole_ct.py --out DIR --picture FILE [--data FOLDER] [--steps 150]

FOLDER has `lung1_001_ct_organs` and `totalseg_example_ct`. Training sees parts of the first CT (a different
range of slices each); the picture shows that CT as a whole and the second CT, of which training has seen
nothing. Without --data both are drawn phantoms. It is a look at two images and no measurement.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from foveate.cli import main as foveate
from foveate.commands.evaluate.cohort import load_cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.tasks import BoxConfig
from foveate.core.types import Array
from foveate.runtime.finetuned import open_model

ORGANS = {"left lung": "#0072b2", "right lung": "#d55e00", "spinal cord": "#009e73"}
LOBES = {"left lung": (10, 11), "right lung": (12, 13, 14), "spinal cord": (79,)}  # of TotalSegmentator
PARTS, VALIDATIONS, LEAST = 24, 4, 24  # images of training, of validation; slices of the shortest
PLANES = (("sagittal", 1, 2), ("coronal", 0, 2), ("axial", 0, 1))  # and the axes that each shows


class Body(NamedTuple):
    """An image in RAS+ with its label map, and its name in the picture."""

    name: str
    image: Array
    label: Array
    affine: Array


def read(image: Path, label: Path, values: dict[int, int], name: str, every: int) -> Body:
    """A CT, every so many voxels within its slices; `values`: what stands for which organ in its map."""
    array, found = (nib.as_closest_canonical(nib.load(path)) for path in (image, label))
    step = (slice(None, None, every), slice(None, None, every))
    map_of = np.zeros(256, np.uint8)
    map_of[list(values)] = list(values.values())
    affine = array.affine @ np.diag([every, every, 1.0, 1.0])
    return Body(
        name,
        np.asarray(array.dataobj)[step].astype(np.int16),
        map_of[np.asarray(found.dataobj)[step]],
        affine,
    )


def scans(data: Path) -> list[Body]:
    """The CT of training and the one that is only looked at."""
    first, second = data / "lung1_001_ct_organs", data / "totalseg_example_ct"
    lobes = {value: i for i, name in enumerate(ORGANS, 1) for value in LOBES[name]}
    return [
        read(first / "ct.nii.gz", first / "labels.nii.gz", {1: 1, 2: 2, 3: 3}, "CT of training", 3),
        read(second / "example_ct_sm.nii.gz", second / "example_seg.nii.gz", lobes, "another CT", 2),
    ]


def phantoms() -> list[Body]:
    """Two bodies of ellipsoids that vary in place and size, the second cut below its lungs' tops."""
    rng, found = np.random.default_rng(0), []
    shape, sides = (64, 48, 72), np.array([6.0, 6.0, 6.0])
    places = np.stack(np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij"), -1)
    organs = {  # centres and radii as shares
        "left lung": ((0.3, 0.5, 0.6), (0.12, 0.25, 0.25)),
        "right lung": ((0.7, 0.5, 0.58), (0.13, 0.25, 0.27)),
        "spinal cord": ((0.5, 0.25, 0.5), (0.03, 0.04, 0.6)),
    }
    for name in ("phantom of training", "another phantom"):
        image = np.where(inside(places, (0.5, 0.5, 0.5), (0.42, 0.4, 0.9)), 40.0, -1000.0)
        label = np.zeros(shape, np.uint8)
        for value, (centre, radii) in enumerate(organs.values(), 1):
            moved = np.array(centre) + rng.normal(0, 0.02, 3)
            here = inside(places, moved, np.array(radii) * rng.uniform(0.85, 1.15, 3))
            image[here], label[here] = (-800, -800, 350)[value - 1], value
        image += rng.normal(0, 40, shape)
        kept = slice(None) if not found else slice(20, 52)
        found.append(Body(name, image[:, :, kept].astype(np.int16), label[:, :, kept], np.diag([*sides, 1])))
    return found


def inside(places: Array, centre: Sequence[float] | Array, radii: Sequence[float] | Array) -> Array:
    """Voxels in an ellipsoid."""
    return np.asarray((((places - np.array(centre)) / np.array(radii)) ** 2).sum(-1) <= 1)


def write(folder: Path, bodies: Sequence[Body]) -> Path:
    """Parts of the first body for training, both as a whole for the test, and the table."""
    rng, first = np.random.default_rng(1), bodies[0]
    ends = [rng.integers(0, first.image.shape[2] - LEAST + 1) for _ in range(PARTS + VALIDATIONS)]
    ranges = [slice(low, rng.integers(low + LEAST, first.image.shape[2] + 1)) for low in ends]
    images = [(f"part{i:02d}", first, each) for i, each in enumerate(ranges)]
    images += [(f"whole{i}", body, slice(0, None)) for i, body in enumerate(bodies)]
    splits = ["train"] * PARTS + ["val"] * VALIDATIONS + ["test"] * len(bodies)
    rows = [["image", "label", "split", "patient"]]
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for (name, body, kept), split in zip(images, splits, strict=True):
        affine = body.affine.copy()
        affine[:3, 3] = (body.affine @ [0, 0, kept.start, 1])[:3]
        for kind, array in (("images", body.image), ("labels", body.label)):
            nib.save(nib.Nifti1Image(array[:, :, kept], affine), folder / kind / f"{name}.nii.gz")
        # parts of one CT are one patient to a reader; to the command every image is one, else no split fits
        rows.append([f"images/{name}.nii.gz", f"labels/{name}.nii.gz", split, name])
    with (folder / "parts.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder / "parts.csv"


def learn(table: Path, out: Path, steps: int) -> None:
    """A small network from random weights."""
    classes = ",".join(f"{name}={value}" for value, name in enumerate(ORGANS, 1))
    words: list[object] = ["finetune", "--data", table, "--source", "csv", "--task", "localization"]
    words += ["--task.classes", f"[{classes}]", "--task.crops.grid", "[32,32,32]", "--out", out]
    words += ["--init", "none", "--size", "small", "--encoder.levels", 4, "--steps", steps]
    words += ["--batch_size", 2, "--num_workers", 0, "--validate_every", steps // 2, "--preview_every", 0]
    words += ["--prepare.window", "range", "--prepare.intensity_range", "[-1000,400]"]
    if code := foveate([str(word) for word in words]):
        raise SystemExit(code)


def answered(table: Path, run: Path) -> list[tuple[Boxes, Boxes, dict[str, float]]]:
    """Boxes of the labels and of the network in voxels of the whole images, and their distances."""
    model = open_model(str(run), "cpu")
    config = EvaluateConfig(run=str(run), data=str(table), out=str(run / "unused"), part="test")
    task, found = model.task.config, []
    assert isinstance(task, BoxConfig)
    for volume in load_cohort(config, [config.run], model).volumes:
        boxes = model.boxes(volume, config.window.overlap)
        found.append((task.known(volume).truth, boxes, task.row(task.scan(volume, boxes))))
    return found


def draw(
    path: Path, bodies: Sequence[Body], answers: Sequence[tuple[Boxes, Boxes, dict[str, float]]]
) -> None:
    """A row for each image: three planes through the middle of what is labelled, boxes over them."""
    figure = Figure(figsize=(9.5, 3.3 * len(bodies)), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(bodies), len(PLANES))
    for row, body, (truth, found, _) in zip(grid, bodies, answers, strict=True):
        sides = np.linalg.norm(body.affine[:3, :3], axis=0)
        middle = np.round((truth.low.min(0) + truth.high.max(0)) / 2).astype(int)
        for axes, (plane, a, b) in zip(row, PLANES, strict=True):
            normal = 3 - a - b
            image = np.take(body.image, middle[normal], axis=normal).T
            axes.imshow(image, cmap="gray", vmin=-1000, vmax=400, origin="lower", aspect=sides[b] / sides[a])
            for boxes, style in ((truth, "-"), (found, "--")):
                for low, size, label in zip(boxes.low, boxes.size, boxes.label, strict=True):
                    colour = list(ORGANS.values())[label]
                    corner, wide, high = (low[a], low[b]), size[a], size[b]
                    axes.add_patch(
                        Rectangle(
                            corner, wide, high, fill=False, edgecolor=colour, linestyle=style, linewidth=1.6
                        )
                    )
            axes.set(title=f"{body.name}, {plane}", xticks=[], yticks=[])
    lines = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour) for colour in ORGANS.values()]
    lines += [Rectangle((0, 0), 1, 1, fill=False, linestyle=style) for style in ("-", "--")]
    figure.legend(lines, [*ORGANS, "label", "network"], loc="outside lower center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Cut, train, draw, and print the distances."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    bodies = scans(args.data) if args.data else phantoms()
    table = write(args.out / "parts", bodies)
    learn(table, args.out / "run", args.steps)
    answers = answered(table, args.out / "run")
    draw(args.picture, bodies, answers)
    said = {body.name: row for body, (_, _, row) in zip(bodies, answers, strict=True)}
    (args.out / "distances.json").write_text(json.dumps(said, indent=1) + "\n")
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
