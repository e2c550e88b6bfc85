"""Small encoders to start from, made of data that a package of `make setup` carries, and what they are worth.

make.py OUT [STEPS [TUNING]] writes OUT/brains_2d and OUT/brains_3d, each a folder as `foveate export --format
huggingface` has it: weights, card, and a README that says where the images are from; it prints their sizes.
Where FOVEATE_DATA has msd_hippocampus, the 3D one is fine-tuned there with three labelled images for TUNING
steps, against random weights, over three seeds; it prints the mean Dice of both on a fifth of the images.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

import foveate
from foveate.commands.demo.run import BRAINS, build, last_validation

STEPS, TUNING = 600, 200
SEEDS = (0, 1, 2)
LICENCE = "not stated: see the licence of the images"


def provenance() -> str:
    """What the images are and who may use them."""
    return (
        f"{BRAINS} virtual brains: the MNI152 2009a template that nilearn {version('nilearn')} carries, bent "
        "and recoloured at random as in `foveate demo`; nilearn's description of it says: licence unknown"
    )


def make(out: Path, steps: int) -> list[Path]:
    """The folders of all encoders; what is there is kept."""
    brains = out / "runs" / "brains"
    build(brains, BRAINS, 0)
    made = []
    for name, dimension in (("brains_2d", 2), ("brains_3d", 3)):
        run, folder = out / "runs" / name, out / name
        keys = {"dimension": dimension, "size": "small", "steps": steps, "preview_every": 0}
        assert foveate.pretrain(data=brains / "images", out=run, method="foveate", **keys)
        form = {"format": "huggingface", "licence": LICENCE, "data_licence": provenance()}
        foveate.export(run, out=folder, force=True, **form)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{folder}: {size / 1e6:.2f} MB after {steps} steps", flush=True)
        made.append(folder)
    return made


def judge(encoder: Path, data: Path, out: Path, steps: int) -> None:
    """Dice of both arms, seed by seed: three labelled images, drawn anew with each seed."""
    found: dict[str, list[float]] = {"from these weights": [], "from random weights": []}
    for seed in SEEDS:
        for arm, init in zip(found, (encoder, "none"), strict=True):
            run = out / f"{init if init == 'none' else 'made'}_{seed}"
            keys = {
                "size": "small",
                "steps": steps,
                "validate_every": steps,
                "preview_every": 0,
                "seed": seed,
            }
            split = {"train_cases": 3, "seed": seed}
            assert foveate.finetune(data=data, out=run, task="segmentation", init=init, split=split, **keys)
            found[arm].append(float(np.mean(list(last_validation(run).values()))))
            print(f"seed {seed}, {arm}: {found[arm][-1]:.4f}", flush=True)
    for arm, scores in found.items():
        print(f"{arm}: mean Dice {np.mean(scores):.4f}")


def main(out: Path, steps: int, tuning: int) -> None:
    """Make, then judge where there is something to judge by."""
    _, volumes = make(out, steps)
    data = Path(os.environ.get("FOVEATE_DATA", "nowhere")) / "msd_hippocampus"
    if data.is_dir():
        judge(volumes, data, out / "runs", tuning)
    else:
        print("not judged: FOVEATE_DATA has no msd_hippocampus")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[2:]]
    main(Path(sys.argv[1]), *given, *(STEPS, TUNING)[len(given) :])
