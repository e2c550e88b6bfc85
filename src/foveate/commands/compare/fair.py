"""What is checked before the first run: arms differ in their initialisation only, labels count patients."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from foveate.commands.compare import work
from foveate.commands.compare.config import SCRATCH, CompareConfig
from foveate.commands.compare.cost import pretraining
from foveate.commands.compare.folder import RUNS, Bench, example
from foveate.core.types import FoveateError


def check_fair(bench: Bench) -> None:
    """Look at every task.

    Raises:
        FoveateError: naming the first task, and the arms or the patients.
    """
    for name, task in bench.config.tasks.items():
        work.held_out(bench, name)
        check_inputs(bench.config, name)
        if task.count == "cases":
            check_count(bench.config, name)


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
    """How images are normalised in every arm."""
    nowhere = Path(config.grid.out) / RUNS / "none"
    found: dict[str, str] = {SCRATCH: example(config, task, nowhere).task.normalisation}
    for arm in config.arms:
        found[arm] = pretraining(config, task, arm).method.normalisation
    return found


def check_count(config: CompareConfig, task: str) -> None:
    """Refuse to count images where some are of one patient: ten slices of one teach less than of ten."""
    split, _ = work.split_of(example(config, task, Path(config.grid.out) / RUNS / "none"))
    images = Counter(record.patient for record in split["train"] if record.patient)
    if several := sum(count > 1 for count in images.values()):
        raise FoveateError(
            f"tasks.{task}.count is cases, but {several} of {len(images)} training patients have several "
            "labelled images; accepted: count: patients."
        )
