"""Can a network tell nodules among the blobs that a blob detector marks, better than their size does?

`python benchmarks/detection/candidates.py OUT [--steps N]`, after `lidc.py` with the same OUT. Candidates
are blobs of scikit-image in crops of CT, of training cubes too, so that where a crop's nodule lies says
nothing; only those whose cube of 16 voxels lies inside of the crop, so that padding says nothing. A
candidate is a nodule where its middle lies in the nodule's box. The network is a classification from random
weights, both classes corrupted alike. Beside it: the size of the blob alone, and the response of the blob
detector. Intervals resample crops.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import foveate
from foveate.scoring.metrics import auroc
from foveate.scoring.statistics import bca_interval
from lidc import CROP, CUBE, MM, ROOM, SIGMAS, blobs

SIDE, MOST = 16, 6  # voxels of a cube; candidates of a crop that are no nodule

Rows = list[dict[str, object]]


def main(out: Path, steps: int) -> None:
    """Cubes, training, scores."""
    cubes, run = out / "candidates", out / "candidates_run"
    if not (cubes / "labels.csv").is_file():
        write_candidates(out / "data", cubes)
    foveate.finetune(
        data=cubes,
        out=run,
        init="none",
        task={"name": "classification", "kind": "multilabel", "targets": ["nodule"], "weighting": "balanced",
              "crops": {"grid": [SIDE] * 3}},
        dimension=3, size="small", steps=steps, batch_size=16, num_workers=0,
        validate_every=max(1, steps // 4), preview_every=0,
    )  # fmt: skip
    foveate.evaluate(run=run, data=cubes, out=out / "scores" / "candidates", with_images=False)
    found = json.loads((out / "scores" / "candidates" / "summary.json").read_text())["metrics"]
    rows = [row for row in json.loads((cubes / "facts.json").read_text()) if row["split"] == "test"]
    truth, crops = np.array([row["nodule"] for row in rows]), [str(row["patient"]) for row in rows]
    figures = {"network": found["auroc/nodule"], "candidates": len(rows), "nodules": int(truth.sum())}
    for name in ("size", "response"):
        values = np.array([row[name] for row in rows], dtype=np.float64)
        low, high = bca_interval(lambda picked, v=values: auroc(v[picked], truth[picked]), crops, seed=0)
        figures[name] = {"value": auroc(values, truth), "low": low, "high": high}
    (out / "candidates.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def write_candidates(data: Path, out: Path) -> None:
    """A cube around every candidate, and a table."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows: Rows = []
    for stem, part, voxels, ends in crops_of(data):
        centres, sides, scores = blobs(voxels, SIGMAS[0])
        fits = ((centres >= SIDE // 2) & (centres <= CROP - SIDE // 2)).all(1)
        inside = ((centres > ends[:3]) & (centres < ends[3:])).all(1)
        rng = np.random.default_rng(len(rows))
        others = rng.permutation(np.flatnonzero(fits & ~inside))[:MOST]
        for i in [*np.flatnonzero(fits & inside), *others]:
            low = centres[i].astype(int) - SIDE // 2
            cube = voxels[tuple(slice(a, a + SIDE) for a in low)]
            name = f"images/{stem}_{i}.nii.gz"
            nib.save(nib.Nifti1Image((cube * 255).astype(np.uint8), np.diag([MM, MM, MM, 1])), out / name)
            rows.append(
                {"image": name, "patient": stem, "split": part, "nodule": int(inside[i]),
                 "size": float(sides[i, 0]), "response": float(scores[i])}
            )  # fmt: skip
    lines = [f"{r['image']},{r['patient']},{r['split']},{r['nodule']}" for r in rows]
    (out / "labels.csv").write_text("\n".join(["image,patient,split,nodule", *lines, ""]))
    (out / "facts.json").write_text(json.dumps(rows))


def crops_of(data: Path) -> Iterator[tuple[str, str, NDArray[np.float64], NDArray[np.float64]]]:
    """Name, part, voxels and the ends of the box of every crop; of whole cubes a crop is drawn."""
    for line in (data / "boxes.csv").read_text().splitlines()[1:]:
        name, *numbers, _, part = line.split(",")
        stem, ends = Path(name).name.removesuffix(".nii.gz"), np.array(numbers, dtype=np.float64)
        voxels = np.asarray(nib.load(data / name).dataobj, dtype=np.float64) / 255
        if voxels.shape[0] == CUBE:
            low = np.random.default_rng([int(stem.removeprefix("candidate")), 1]).integers(0, ROOM + 1, 3)
            voxels = voxels[tuple(slice(a, a + CROP) for a in low)]
            ends = ends - np.tile(low, 2)
        yield stem, part, voxels, ends


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    main(given.out, given.steps)
