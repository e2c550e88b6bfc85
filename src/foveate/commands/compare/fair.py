"""What is checked before the first run: arms differ in their initialisation only, labels count patients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from foveate.commands.compare.arms import SCRATCH
from foveate.commands.compare.config import CompareConfig
from foveate.commands.compare.folder import RUNS
from foveate.commands.compare.grid import Job, example, pretraining
from foveate.core.types import FoveateError, Record
from foveate.nets.weights import store as weights


def check_inputs(config: CompareConfig, task: str) -> None:
    """Refuse arms whose networks see images that are normalised in different ways, unless that is allowed."""
    seen = normalisations(config, task)
    if len(set(seen.values())) > 1 and config.grid.allow_different != "inputs":
        said = ", ".join(f"{arm}: {how}" for arm, how in seen.items())
        raise FoveateError(
            f"tasks.{task}: images are normalised differently ({said}), so arms would differ in more than "
            "their initial weights; accepted: one normalisation for all, with "
            f"method.global_appearance.normalisation in tasks.{task}.pretrain (or of an arm) and "
            f"task.appearance.normalisation in tasks.{task}.finetune, or "
            "--allow_different inputs, which the title of the report then says."
        )


def normalisations(config: CompareConfig, task: str) -> dict[str, str]:
    """How images are normalised in every arm that is run now."""
    nowhere = Path(config.grid.out) / RUNS / "none"
    found: dict[str, str] = {SCRATCH: example(config, task, nowhere).task.normalisation}
    for name in dict.fromkeys(config.origin(name) for name in config.working if name in config.arms):
        arm = config.arms[name]
        if arm.method:
            job = Job(kind="pretrain", task=task, arm=name, pretrain_seed=config.grid.pretrain_seeds[0])
            found[name] = pretraining(config, job, nowhere).method.normalisation
        elif arm.weights:
            found[name] = weights.read(arm.weights)[1].get("normalisation") or "unknown"
    return found


def check_count(task: str, train: Sequence[Record]) -> None:
    """Refuse to count images where some are of one patient: ten slices of one teach less than of ten."""
    images = Counter(record.patient for record in train if record.patient)
    if several := sum(count > 1 for count in images.values()):
        raise FoveateError(
            f"tasks.{task}.count is cases, but {several} of {len(images)} training patients have several "
            "labelled images; accepted: count: patients."
        )
