"""Figures of the pages on tasks, made by the commands themselves from virtual brains (no patient).

    python benchmarks/tasks/figures.py --out docs/tasks/figures --scratch DIR

DIR receives brains, runs and reports; what is there is taken up again. Segmentation learns three tissues
of whole brains, classification which slices of them have a bright spot, put there in every other one.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from foveate.cli import main as foveate
from foveate.commands.demo.brains import build_cohort
from foveate.core.types import Array

BRAINS, SLICES = 24, 8  # of every brain
SPOT = 5.0  # voxels, the standard deviation of the bright spot


def run(*words: object) -> None:
    """A command, which must end well."""
    if code := foveate([str(word) for word in words]):
        raise SystemExit(code)


def segment(brains: Path, scratch: Path) -> Path:
    """The worst test cases of a segmenter of tissues."""
    out, report = scratch / "tissues", scratch / "tissues_report"
    classes = "[grey=1, white=2, other=3]"
    given = ["--data", brains, "--task", "segmentation", "--init", "none", "--size", "small", "--steps", 300]
    given += ["--split.val_share", 0.1, "--split.test_share", 0.3, "--task.classes", classes]
    given += ["--task.appearance.normalisation", "none"]  # corners of noise alone stay dark
    run("finetune", *given, "--out", out)
    run("evaluate", "--run", out, "--data", brains, "--out", report)
    return report / "worst.png"


def slices(brains: Path, folder: Path) -> Path:
    """Axial slices, every other one with a spot within the brain, and the table that says which."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), []
    for file in sorted((brains / "images").glob("*.nii.gz")):
        volume = np.asarray(nib.load(file).dataobj, np.float32)  # type: ignore[attr-defined]
        volume /= np.percentile(volume, 99.5)
        for k in range(SLICES):
            plane = volume[..., volume.shape[2] * (k + 4) // (SLICES + 8)]
            sick = (len(rows) + len(rows) // SLICES) % 2
            picture = (spotted(plane, rng) if sick else plane).clip(0, 1).T[::-1]
            name = f"{file.name[:9]}_{k}.png"
            Image.fromarray((picture * 255).astype(np.uint8)).save(folder / name)
            rows.append({"image": name, "patient": file.name[:9], "spot": sick})
    with (folder / "labels.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


def spotted(plane: Array, rng: np.random.Generator) -> Array:
    """A plane with a bright spot somewhere in the brain."""
    inside = np.argwhere(plane > 0.3)
    centre = inside[rng.integers(len(inside))]
    squared = sum((axis - c) ** 2 for axis, c in zip(np.indices(plane.shape), centre, strict=True))
    return plane + np.exp(-squared / (2 * SPOT**2)).astype(np.float32)


def classify(folder: Path, scratch: Path) -> list[Path]:
    """ROC curve and worst test cases of a classifier of spots."""
    out, report = scratch / "spots", scratch / "spots_report"
    given = ["--data", folder, "--task", "classification", "--task.targets", "[spot]", "--init", "none"]
    given += ["--size", "small", "--steps", 400, "--split.val_share", 0.1, "--split.test_share", 0.3]
    run("finetune", *given, "--out", out)
    run("evaluate", "--run", out, "--data", folder, "--out", report)
    return [report / "worst.png", report / "roc.png"]


def main() -> None:
    """Make the brains, the runs and the reports, and take their pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    chosen = parser.parse_args()
    brains = chosen.scratch / "brains"
    build_cohort(brains, BRAINS, 0, lambda _done, _total: None)
    chosen.out.mkdir(parents=True, exist_ok=True)
    worst, roc = classify(slices(brains, chosen.scratch / "slices"), chosen.scratch)
    for file, name in (
        (worst, "classification.png"),
        (roc, "roc.png"),
        (segment(brains, chosen.scratch), "segmentation.png"),
    ):
        shutil.copy(file, chosen.out / name)


if __name__ == "__main__":
    main()
