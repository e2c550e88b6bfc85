"""Optimizers and the learning-rate schedule, the latter a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from foveate.core.types import FoveateError

POWER = 0.9  # of the polynomial schedule


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights move.

    Attributes:
        name: Optimizer.
        lr: Learning rate at its peak.
        weight_decay: Weight decay; decoupled for adamw.
        momentum: Momentum of sgd.
        schedule: From the peak to 0 on a half cosine, on a polynomial of power 0.9 (nearly a straight line),
            or constant.
        warmup_steps: Linear rise from 0 before that.
        clip_norm: Largest norm of the gradient; 0 for no clipping.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: Literal["cosine", "polynomial", "constant"] = "cosine"
    warmup_steps: int = 0
    clip_norm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """Which of the weights that a task starts from move, and how fast.

    Attributes:
        encoder: "train" moves it, "frozen" leaves weights and statistics alone: a probe of the features.
        frozen_steps: Steps at the start in which the encoder's learning rate is 0.
        layer_decay: Factor on the learning rate for every stage further from the answer; 1 is off.
        transfer: What is copied from --init.
        average: Share of itself that a moving average of the weights keeps at every step, such as 0.99; it is
            then what is validated and exported. 0: the weights themselves are. With `unlabelled` the
            teacher is such an average.
        norm_statistics: Whether running statistics of batch norm are copied too or start afresh.
    """

    encoder: Literal["train", "frozen"] = "train"
    frozen_steps: int = 0
    layer_decay: float = 1.0
    transfer: Literal["encoder", "encoder_decoder"] = "encoder"
    average: float = 0.0
    norm_statistics: Literal["transferred", "fresh"] = "transferred"

    def __post_init__(self) -> None:
        if not 0 <= self.average < 1:
            raise FoveateError(f"tuning.average is {self.average}; accepted: at least 0, below 1.")
        if not 0 < self.layer_decay <= 1:
            raise FoveateError(f"tuning.layer_decay is {self.layer_decay}; accepted: above 0, at most 1.")
        if self.frozen_steps < 0:
            raise FoveateError(f"tuning.frozen_steps is {self.frozen_steps}; accepted: 0 or more.")


Groups = list[dict[str, Any]]  # torch's parameter groups, with `lr_scale` and `from_step` of our own


def parameter_groups(
    stages: Sequence[Sequence[nn.Parameter]], encoder: set[nn.Parameter], config: TuningConfig
) -> Groups:
    """A group for every stage: its share of the learning rate and the step from which it moves."""
    return [
        {
            "params": weights,
            "lr_scale": config.layer_decay**distance,
            "from_step": config.frozen_steps if weights[0] in encoder else 0,
        }
        for distance, stage in enumerate(stages)
        if (weights := [p for p in stage if p.requires_grad])
    ]


def build_optimizer(model: nn.Module, config: OptimConfig, groups: Groups | None = None) -> Optimizer:
    """The optimizer over all parameters that take a gradient, in groups where they are given.

    Weights are updated many at a time (`foreach`): on a GPU in a few kernels, on a CPU to the same bits as
    one by one, in two thirds of the time. `fused` rounds otherwise.
    """
    weights: Any = groups or [p for p in model.parameters() if p.requires_grad]
    if config.name == "adamw":
        return AdamW(weights, lr=config.lr, weight_decay=config.weight_decay, foreach=True)
    decay, momentum = config.weight_decay, config.momentum
    return SGD(weights, lr=config.lr, momentum=momentum, weight_decay=decay, foreach=True)


def learning_rate(config: OptimConfig, step: int, total: int) -> float:
    """The learning rate of a step.

    >>> learning_rate(OptimConfig(lr=1.0, warmup_steps=2), 0, 10)
    0.5
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    share = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    if config.schedule == "polynomial":
        return config.lr * math.pow(max(0.0, 1 - share), POWER)
    return config.lr * 0.5 * (1 + math.cos(math.pi * share))


def set_learning_rate(optimizer: Optimizer, value: float, step: int = 0) -> None:
    """Write the rate of a step into every parameter group: its share, or 0 as long as it must not move."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("lr_scale", 1.0) if step >= group.get("from_step", 0) else 0.0
