"""The demo: the main job on virtual brains, offline, on a laptop, in minutes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from foveate.commands.demo.brains import build_cohort
from foveate.commands.demo.config import DemoConfig
from foveate.commands.finetune.config import SPEC as FINETUNE
from foveate.commands.finetune.run import finetune
from foveate.commands.pretrain.config import SPEC as PRETRAIN
from foveate.commands.pretrain.run import pretrain
from foveate.core.types import Ending
from foveate.runtime.report.build import PAGE, build_page
from foveate.train.logging import say
from foveate.train.progress import progress

BRAINS, LABELLED, TRAINED = 24, 8, 3  # without labels; others with; of which the task is learnt from


def run_demo(config: DemoConfig) -> Ending:
    """Pre-train a small 3D PCRLv2; learn tissues of three other brains with it, without it, with images."""
    out = Path(config.out)
    build(out / "brains", BRAINS, 0)
    build(out / "labelled", LABELLED, 1)
    keys = {
        "data": str(out / "brains"),
        "out": str(out / "run"),
        "size": "small",
        "steps": str(config.steps),
        "seed": str(config.seed),
        "preview_every": "100",
    }
    if not pretrain(PRETRAIN.resolve({}, keys)):
        return Ending.STOPPED
    say(f"look at {out / 'run' / 'previews'}: clean view, corrupted view, restoration at every scale")
    say(f'then: foveate.load_encoder("{out / "run"}") in Python')
    scores = {}
    for arm, own in arms(out).items():
        folder = out / f"segmentation-{arm.split()[-1]}"
        if not learn_tissues(out, folder, own, config):
            return Ending.STOPPED
        scores[arm] = last_validation(folder)
    say(as_table(scores, str(config.finetune_steps)), lines=True)
    show(out)
    return Ending.FINISHED


def show(out: Path) -> None:
    """All runs on one page."""
    names = (f"segmentation-{arm.split()[-1]}" for arm in arms(out))
    runs = [out / "run", *(out / name for name in names)]
    build_page(runs).write(out / PAGE)
    say(f"all runs on one page, to open in a browser: {out / PAGE}")


def arms(out: Path) -> dict[str, dict[str, str]]:
    """What is compared: name -> keys that differ."""
    return {
        "pre-trained": {
            "init": str(out / "run"),
            "tuning.transfer": "encoder_decoder",
            "optim.warmup_steps": "20",
        },
        "from scratch": {"init": "none"},
        "semi-supervised": {"init": "none", "unlabelled": str(out / "brains" / "images")},
    }


def build(folder: Path, count: int, seed: int) -> None:
    """A cohort with a progress bar."""
    with progress("building virtual brains", count) as show:
        build_cohort(folder, count, seed, show)
    say(f"{count} virtual brains with labels: {folder}")


def learn_tissues(out: Path, folder: Path, arm: Mapping[str, str], config: DemoConfig) -> bool:
    """Fine-tune on three labelled brains, with the keys of an arm."""
    steps = str(config.finetune_steps)
    keys = {
        "data": str(out / "labelled"),
        "out": str(folder),
        "task.name": "segmentation",
        "task.classes": "[grey=1, white=2, other=3]",
        "size": "small",
        "steps": steps,
        "seed": str(config.seed),
        "validate_every": steps,
        "validation.overlap": "0",
        "preview_every": steps,
        "split.val_share": str(1 - TRAINED / LABELLED),
        **arm,
    }
    return bool(finetune(FINETUNE.resolve({}, keys)))


def last_validation(folder: Path) -> dict[str, float]:
    """Metrics after the last step: nothing was selected on these images."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [row for row in rows if "val/score" in row][-1]
    return {name.removeprefix("val/"): value for name, value in last.items() if "dice" in name}


def as_table(scores: Mapping[str, Mapping[str, float]], steps: str) -> str:
    """The arms side by side, and what they do not prove."""
    columns = list(next(iter(scores.values())))
    rows = [f"{arm:<16}" + "".join(f"{values[c]:>16.3f}" for c in columns) for arm, values in scores.items()]
    return "\n".join(
        [
            "",
            f"tissues from {TRAINED} labelled brains, {steps} steps; semi-supervised: {BRAINS} more images:",
            " " * 16 + "".join(f"{column:>16}" for column in columns),
            *rows,
            f"Dice on {LABELLED - TRAINED} brains that no run has seen. One seed and virtual brains: this "
            "shows that the parts fit together, not which of them helps.",
            "",
        ]
    )
