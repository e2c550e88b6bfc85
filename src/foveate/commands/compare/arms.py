"""The arms of a comparison: what each starts from, and what it learns from beside the labelled images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, final

from foveate.commands.compare.keys import Keys, checked, groups_of, refused
from foveate.core.types import FoveateError
from foveate.runtime.config import REST
from foveate.runtime.registries import METHODS

SCRATCH, LONG = "scratch", "scratch_long"
NAME = re.compile(r"[a-z][a-z0-9_]*")

# The keys that may differ between arms: the method and how its weights are used. All others are shared.
ARM_PRETRAIN = ("method.", "optim.", "decoder.")
ARM_FINETUNE = (
    *(f"tuning.{name}" for name in ("encoder", "frozen_steps", "layer_decay", "transfer", "norm_statistics")),
    "optim.warmup_steps",
)
STARTS = ("method", "weights", "after", "planted")
PLANTED_SEEDS = 10**6  # added to those of scratch: other initial weights, other batches
TWICE = 2  # the labels of a planted gain


@final
@dataclass(frozen=True, kw_only=True)
class ArmConfig:
    """One arm besides scratch and scratch_long, which are always included.

    Attributes:
        method: The pre-training method.
        weights: A run folder or weights file to start from instead, or with a method to start its
            pre-training from; $VARIABLES of the environment are expanded. What it has seen is checked as far
            as its run folder says.
        after: Another arm, with whose pre-trained weights and keys of `finetune` this one starts; its own
            keys go before those.
        planted: A check of the comparison itself. "no_gain": scratch again, from other random weights and in
            another order of the same labelled images; "gain": scratch with twice the labels; "shuffled", with
            a method: it is pre-trained on images whose voxels are permuted.
        unlabelled: Images without labels that this arm's fine-tuning learns from as well: "rest", the images
            of the training patients that are not labelled in this cell, or a folder. With no method, weights
            or after, it starts from random weights.
        labels: The only numbers of labels that this arm runs with; empty: all of a task's.
        seeds: How many seeds it is run with at the most; 0: as many as the task says.
        pretrain: Keys of `foveate pretrain` for this arm only: method.*, optim.*, decoder.*
        finetune: Keys of `foveate finetune` for this arm only: tuning.*, but not tuning.average,
            optim.warmup_steps, and semi.* where it has unlabelled images
    """

    method: str = ""
    weights: str = ""
    after: str = ""
    planted: Literal["", "no_gain", "gain", "shuffled"] = ""
    unlabelled: str = ""
    labels: tuple[int, ...] = ()
    seeds: int = 0
    pretrain: Keys = field(default_factory=dict)
    finetune: Keys = field(default_factory=dict)

    @property
    def starts(self) -> tuple[str, ...]:
        """What its fine-tuning starts from, by name; none: random weights."""
        before = "" if self.method else self.weights  # else the pre-training starts there
        said = (self.method, before, self.after, self.other_scratch)
        return tuple(name for name, value in zip(STARTS, said, strict=True) if value)

    @property
    def other_scratch(self) -> str:
        """How it is planted, where it is scratch with other draws: "" for all others."""
        return "" if self.planted == "shuffled" else self.planted


def arm_of(name: str, said: object) -> ArmConfig:
    """One arm, its paths complete."""
    where = f"arms.{name}"
    if not NAME.fullmatch(name) or name in (SCRATCH, LONG):
        raise FoveateError(
            f"{where}: accepted are names of small letters, digits and underscores; {SCRATCH} and {LONG} "
            "are added automatically."
        )
    config, parts = groups_of({"method": said} if isinstance(said, str) else said, ArmConfig(), where)
    if len(config.starts) != 1 and not (config.unlabelled and not config.starts):
        raise FoveateError(
            f"{where}: accepted is one of {', '.join(STARTS[:-1])} and {STARTS[-1]}, or unlabelled without "
            "any of them."
        )
    if config.method:
        METHODS[config.method]  # an unknown one is an error that names the others
    elif "pretrain" in parts:
        raise FoveateError(f"{where}.pretrain: accepted with {where}.method only: nothing is pre-trained.")
    if config.other_scratch and ("finetune" in parts or config.unlabelled):
        raise FoveateError(
            f"{where}: a planted arm is trained as scratch; accepted: no finetune and no unlabelled."
        )
    if config.planted == "shuffled" and not config.method:
        raise FoveateError(f"{where}.planted shuffled: accepted with {where}.method only.")
    config = replace(
        config,
        weights=complete(config.weights, f"{where}.weights"),
        unlabelled=config.unlabelled
        if config.unlabelled == REST
        else complete(config.unlabelled, f"{where}.unlabelled"),
    )
    equal = "must be equal for all arms; set it for the task instead"
    may = (*ARM_FINETUNE, *(["semi."] if config.unlabelled else []))
    checked(parts.get("pretrain", {}), ARM_PRETRAIN, f"{where}.pretrain", equal)
    refused(parts.get("pretrain", {}), ("method.name",), f"{where}.pretrain", f"set {where}.method instead")
    checked(parts.get("finetune", {}), may, f"{where}.finetune", equal)
    return replace(config, pretrain=parts.get("pretrain", {}), finetune=parts.get("finetune", {}))


def complete(path: str, where: str) -> str:
    """A path that means the same wherever the command is given; "" stays."""
    found = os.path.expandvars(path)
    if "$" in found:
        raise FoveateError(f"{where} {path!r}: an environment variable is not set.")
    return str(Path(found).resolve()) if found else ""


def check_after(arms: Mapping[str, ArmConfig]) -> None:
    """Refuse an arm after one that leaves no weights."""
    usable = [name for name, arm in arms.items() if arm.method or arm.weights]
    for name, arm in arms.items():
        if arm.after and arm.after not in usable:
            raise FoveateError(
                f"arms.{name}.after {arm.after}: accepted are arms with a method or weights: "
                f"{', '.join(usable) or 'there is none'}."
            )
