"""The demo: the main job on virtual brains, offline, on a laptop, in minutes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rich.progress import Progress as Bar

from foveate.commands.demo.brains import build_cohort
from foveate.commands.pretrain.config import resolve
from foveate.commands.pretrain.run import pretrain
from foveate.core.types import FoveateError
from foveate.train.logging import CONSOLE, say

BRAINS, LABELLED, TRAINED = 24, 8, 3  # without labels; others with; of which the task is learnt from
DEFAULTS = {"out": "demo", "steps": "300", "finetune_steps": "120", "seed": "0"}


def run_demo(flags: Mapping[str, str]) -> bool:
    """Pre-train a small 3D PCRLv2 on virtual brains, learn tissues from three others with and without it."""
    if unknown := sorted(set(flags) - set(DEFAULTS)):
        raise FoveateError(f"--{unknown[0]}: `foveate demo` takes {', '.join(f'--{k}' for k in DEFAULTS)}.")
    chosen = {**DEFAULTS, **flags}
    out = Path(chosen["out"])
    build(out / "brains", BRAINS, 0)
    build(out / "labelled", LABELLED, 1)
    keys = {
        "data": str(out / "brains"),
        "out": str(out / "run"),
        "size": "small",
        "steps": chosen["steps"],
        "seed": chosen["seed"],
        "preview_every": "100",
    }
    if not pretrain(resolve({}, keys)):
        return False
    say(f"look at {out / 'run' / 'previews'}: clean view, corrupted view, restoration at every scale")
    say(f'then: foveate.load_encoder("{out / "run"}") in Python')
    scores = {}
    for arm, init in (("pre-trained", str(out / "run")), ("from scratch", "none")):
        folder = out / f"segmentation-{arm.split()[-1]}"
        if not learn_tissues(out, folder, init, chosen):
            return False
        scores[arm] = last_validation(folder)
    say(as_table(scores, chosen["finetune_steps"]))
    say(f"look at {out / 'segmentation-pre-trained' / 'previews'}: truth and prediction")
    return True


def build(folder: Path, count: int, seed: int) -> None:
    """A cohort with a progress bar."""
    with Bar(console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as bar:
        task = bar.add_task("building virtual brains", total=count)
        build_cohort(folder, count, seed, lambda done, _total: bar.update(task, completed=done))
    say(f"{count} virtual brains with labels: {folder}")


def learn_tissues(out: Path, folder: Path, init: str, chosen: Mapping[str, str]) -> bool:
    """Fine-tune on three labelled brains."""
    from foveate.commands.finetune.config import resolve as resolve_task
    from foveate.commands.finetune.run import finetune

    steps = chosen["finetune_steps"]
    keys = {
        "data": str(out / "labelled"),
        "out": str(folder),
        "task.name": "segmentation",
        "task.classes": "[grey=1, white=2, other=3]",
        "init": init,
        "size": "small",
        "steps": steps,
        "seed": chosen["seed"],
        "validate_every": steps,
        "preview_every": steps,
        "split.val_share": str(1 - TRAINED / LABELLED),
    }
    return bool(finetune(resolve_task({}, keys)))


def last_validation(folder: Path) -> dict[str, float]:
    """Metrics after the last step: nothing was selected on these images."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [row for row in rows if "val/score" in row][-1]
    return {name.removeprefix("val/"): value for name, value in last.items() if "dice" in name}


def as_table(scores: Mapping[str, Mapping[str, float]], steps: str) -> str:
    """The arms side by side, and what they do not prove."""
    columns = list(next(iter(scores.values())))
    rows = [f"{arm:<14}" + "".join(f"{values[c]:>16.3f}" for c in columns) for arm, values in scores.items()]
    return "\n".join(
        [
            "",
            f"tissues from {TRAINED} labelled brains, {steps} steps each, the same batches:",
            " " * 14 + "".join(f"{column:>16}" for column in columns),
            *rows,
            f"Dice on {LABELLED - TRAINED} brains that no run has seen. One seed and virtual brains: this "
            "shows that the parts fit together, not that pre-training helps.",
            "",
        ]
    )
