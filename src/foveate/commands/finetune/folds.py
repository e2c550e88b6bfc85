"""Cross-validation: a run for every fold in a folder of its own, what is finished is skipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from foveate.commands.finetune.config import FinetuneConfig
from foveate.core import config as parsing
from foveate.core.files import json_with, replace_text
from foveate.core.types import Ending, FoveateError
from foveate.nets.weights.store import FOLDS
from foveate.runtime.config import PATHS, RESUMABLE
from foveate.runtime.folder import defaulted, fold_folder
from foveate.runtime.processes import starter
from foveate.train import checkpoint
from foveate.train.logging import say


def cross_validate(config: FinetuneConfig, run: Callable[[FinetuneConfig], Ending]) -> Ending:
    """Run the folds one after the other, or the one that is asked for."""
    out = Path(config.out)
    check(config)
    if config.fold is None and config.devices * config.num_nodes > 1 and starter() != "nobody":
        raise FoveateError(
            "--folds with several processes of torchrun or SLURM: accepted is a job for each fold (--fold)."
        )
    claim(config, out)
    for number in range(config.folds) if config.fold is None else [config.fold]:
        one = fold_of(config, number)
        if is_finished(one):
            say(f"fold {number}: it is finished, and skipped")
            continue
        say(f"fold {number}, of {config.folds} from 0 to {config.folds - 1}, in {one.out}")
        if not (ending := run(one)):
            return ending
    refuse_overlap(config, out)
    say(summary(config, out), lines=True)
    return Ending.FINISHED


def check(config: FinetuneConfig) -> None:
    """Refuse folds that cannot be drawn, and a fold of none."""
    if config.fold is not None and not 0 <= config.fold < config.folds:
        raise FoveateError(
            f"--fold {config.fold} with --folds {config.folds}: accepted are folds from 0 to below --folds; "
            "an entry of --split.source is --split.fold."
        )
    if config.split.save_as:
        raise FoveateError("--split.save_as: accepted for one run, and --folds makes several.")
    fold_of(config, config.fold or 0)  # refuses what makes no folds


def fold_of(config: FinetuneConfig, number: int) -> FinetuneConfig:
    """The run of one fold."""
    split = replace(config.split, folds=config.folds, fold=number)
    return replace(config, folds=0, fold=None, split=split, out=str(fold_folder(Path(config.out), number)))


def claim(config: FinetuneConfig, out: Path) -> None:
    """Write down what all folds share, or refuse a folder of other folds."""
    skipped = (*PATHS, "fold")
    said = {k: v for k, v in parsing.flatten(parsing.to_mapping(config)) if k not in skipped}
    path = out / FOLDS
    if path.exists():
        before = dict(defaulted(config)) | json_with("settings", path)["settings"]
        if changed := parsing.differences(before, said, (*RESUMABLE, *skipped)):
            raise FoveateError(
                f"--out {out} holds folds with another configuration ({'; '.join(changed)}). Give the same "
                "values to go on, or choose another --out."
            )
    elif out.is_dir() and any(out.iterdir()):
        raise FoveateError(
            f"--out {out} holds other files; accepted: a new or empty folder, or that of earlier --folds."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps({"folds": config.folds, "settings": said}, indent=1) + "\n")
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None


def is_finished(config: FinetuneConfig) -> bool:
    """Whether the weights of a run's last step were exported."""
    out = Path(config.out)
    exported = (out / "exported" / "card.json").is_file()
    return exported and checkpoint.newest_step(out / "checkpoints") >= config.steps


def refuse_overlap(config: FinetuneConfig, out: Path) -> None:
    """Refuse folds that were drawn from different images: one of them would be in two."""
    owner: dict[str, int] = {}
    for number in range(config.folds):
        path = fold_folder(out, number) / "split.json"
        for name in json_with("val", path)["val"] if path.exists() else []:
            if owner.setdefault(name, number) != number:
                raise FoveateError(
                    f"--out {out}: fold {owner[name]} and fold {number} validate on the same image, so the "
                    "images of --data or their patients changed in between; accepted: another --out."
                )


def summary(config: FinetuneConfig, out: Path) -> str:
    """The validation score of each finished fold, and what to do next."""
    scores, missing = [], []
    for number in range(config.folds):
        one = fold_of(config, number)
        if not is_finished(one):
            missing.append(str(number))
            continue
        key = "validation_score"
        score = json_with(key, Path(one.out) / "exported" / "card.json")[key]
        scores.append("none" if score is None else f"{score:.4f}")
    rest = f"; to do: fold {', '.join(missing)}" * bool(missing)
    ready = f"; next: foveate evaluate --run {out}, foveate predict --run {out}" * (not missing)
    return f"validation score by fold: {', '.join(scores)}{rest}{ready}"
