"""foveate's own arms: fine-tuning from random or given weights, with or without the unlabelled rest.

    python benchmarks/fewlabels/foveate_arm.py --cell acdc --count 3 [--seed 0] [--budget 300]
        [--arm NAME] [--semi] [--init RUN] [--set semi.confidence=0.9 ...] --work FOLDER

`--steps` says how many fit into the CPU time; the CPU seconds of the run, validation included, are printed
and saved. What was chosen on validation patients are the defaults, so there is one rate.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image

import foveate
from arguments import Job, is_done, job_of, parser
from cells import Array, Case, Labels, read, save, scores
from foveate.core.config import flatten, nest
from foveate.core.files import parse_yaml


def name_of(number: int, case: Case) -> str:
    """A file name without the patient's."""
    return f"p{number:04d}.png" if case.image.suffix == ".png" else f"p{number:04d}.nii.gz"


def written(job: Job, folder: Path) -> tuple[Path, Path]:
    """The labelled and validation images with their maps, and the images of the rest; made once."""
    data, rest = folder / "labelled", folder / "rest"
    shutil.rmtree(folder, ignore_errors=True)
    parts: dict[str, list[str]] = {}
    number = 0
    for part, cases in (("train", job.train), ("val", job.val), ("rest", job.rest)):
        for case in cases:
            number += 1
            name, image, label = name_of(number, case), *read(case)
            keep(rest / name if part == "rest" else data / "images" / name, image, case)
            if part != "rest":
                keep(data / "labels" / name, label, case)
                parts.setdefault(part, []).append(name.partition(".")[0])
    (folder / "split.json").write_text(json.dumps(parts))
    return data, rest


def keep(path: Path, values: Array | Labels, case: Case) -> None:
    """One image or map; the geometry is that of the original where it has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(values[..., 0].T.astype(np.uint8)).save(path)
        return
    affine = np.eye(4) if case.image.suffix == ".npz" else nib.load(case.image).affine
    nib.save(
        nib.Nifti1Image(values.astype(np.float32 if values.dtype == np.float32 else np.uint8), affine), path
    )


def keys_of(job: Job, data: Path, folder: Path) -> dict[str, object]:
    """What every run of the cell is told."""
    cell = job.cell
    return {
        "data": str(data),
        "init": "none",
        "dimension": cell.dimension,
        "size": "small",
        "batch_size": cell.batch,
        "seed": job.seed,
        "num_workers": 0,
        "preview_every": 0,
        "encoder": {"name": f"unet{cell.dimension}d", "width": 8, "levels": 5 if cell.dimension == 2 else 4},
        "task": {
            "name": "segmentation",
            "classes": list(cell.classes),
            "crops": {"grid": list(cell.patch), "source_sizes": [list(cell.patch)]},
        },
        "split": {"source": str(folder / "split.json")},
        "validation": {"overlap": 0.0},
    }


def with_said(keys: dict[str, object], said: Sequence[str]) -> dict[str, object]:
    """The same with `a.b=value` put in."""
    flat = dict(flatten(keys))
    for text in said:
        key, _, value = text.partition("=")
        flat[key] = parse_yaml(value)
    return nest(flat)


def main() -> None:
    """Count the steps, train, score the test once."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--arm", default="foveate", help="the name of the result")
    arguments.add_argument(
        "--semi", action="store_true", help="learn from the rest of the training images too"
    )
    arguments.add_argument("--init", default="none")
    arguments.add_argument("--steps", type=int, required=True, help="that fit into the budget")
    arguments.add_argument("--set", nargs="*", default=[], help="keys of finetune, as semi.confidence=0.9")
    arguments.add_argument("--work", type=Path, required=True, help="scratch folder")
    given = arguments.parse_args()
    if is_done(given.arm, given):
        return
    torch.set_num_threads(1)
    job = job_of(given)
    folder = given.work / f"{job.name}-{job.count}-seed{job.seed}-{given.arm}"
    data, rest = written(job, folder)
    keys = {**keys_of(job, data, folder), "init": given.init}
    if given.semi:
        keys["unlabelled"] = str(rest)
    keys = with_said(keys, given.set)
    steps = given.steps
    started = time.process_time()
    keys |= {"out": str(folder / "run"), "steps": steps, "validate_every": max(1, steps // 4)}
    shutil.rmtree(folder / "run", ignore_errors=True)
    foveate.finetune(**keys)
    spent = time.process_time() - started
    model = foveate.load_model(folder / "run")

    def predict(image: Array) -> Labels:
        answer = model.predict(image[..., 0] if image.shape[2] == 1 else image)
        return np.asarray(answer).reshape(image.shape).astype(np.int64)

    classes = len(job.cell.classes)
    val, test = (scores(cases, predict, classes) for cases in (job.val, job.test))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{steps} steps in {spent:.0f} CPU s; validation {np.mean(val):.4f}, test {np.mean(test):.4f}")
    if not given.try_out:
        found = {"val": val, "test": test, "parameters": parameters, "steps": steps, "said": list(given.set)}
        found |= {"cpu_seconds_with_validation": round(spent, 1)}
        print(save(given.arm, job.name, job.count, job.seed, job.budget, found).name)


if __name__ == "__main__":
    main()
