"""Every arm of every grid to its end, with a few steps on a few images: does it run at all?

    python benchmarks/evidence/miniature.py OUT [GRID ...]

needs what run.sh needs; writes OUT/GRID and says which runs failed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from foveate.commands.compare import run as compare
from foveate.commands.compare.config import SPEC
from foveate.core.types import Ending

HERE = Path(__file__).parent
GRIDS = ("acdc", "acdc_terms", "lidc", "hippocampus")
STEPS, LONGER = 4, 6
PARTS = {"train": 6, "val": 2, "test": 4}  # images; those of a patient are neighbours


def small(grid: str, out: Path) -> dict[str, object]:
    """The grid with the same arms and keys, but for its length, batches and images."""
    content: dict[str, object] = yaml.safe_load((HERE / f"{grid}.yaml").read_text(encoding="utf-8"))
    arms, tasks = content["arms"], content["tasks"]
    assert isinstance(arms, dict)
    assert isinstance(tasks, dict)
    for arm in arms.values():
        arm.pop("labels", None)
    for task in tasks.values():
        split = out / f"{grid}_split"
        split.mkdir(parents=True, exist_ok=True)
        for part, count in PARTS.items():
            names = (HERE / task["split"] / f"{part}.txt").read_text().splitlines()[:count]
            (split / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
        for key in ("label_sets", "seeds", "long_labels"):
            task.pop(key, None)
        task |= {"split": str(split), "labels": [1], "label_sets": [1], "long_steps": LONGER}
        task["both"]["num_workers"] = 0
        task["pretrain"] |= {"steps": STEPS, "batch_size": 2}
        task["finetune"] |= {"steps": STEPS, "batch_size": 2, "log_every": 1, "optim.warmup_steps": 1}
    return content | {"finetune_seeds": [0], "draws": 200}


def main(out: Path, grids: list[str]) -> int:
    """Run them; 1 where a run failed."""
    os.environ.setdefault("FOVEATE_EVIDENCE", str(out))
    failed = 0
    for grid in grids or GRIDS:
        config = SPEC.resolve(
            small(grid, out), {"out": str(out / grid), "cells": str(out / "cells" / grid)}, out
        )
        ending = compare.compare(config)
        done = len(list((out / grid / "cells").iterdir()))
        print(f"{grid}: {done} runs; {'all ended' if ending is Ending.FINISHED else 'FAILED'}", flush=True)
        failed += ending is not Ending.FINISHED
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
