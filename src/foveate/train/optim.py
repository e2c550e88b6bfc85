"""Optimizers and the learning-rate schedule, the latter a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights move.

    Attributes:
        name: Optimizer.
        lr: Learning rate at its peak.
        weight_decay: Weight decay; decoupled for adamw.
        momentum: Momentum of sgd.
        schedule: From the peak to 0 on a half cosine, or constant.
        warmup_steps: Linear rise from 0 before that.
        clip_norm: Largest norm of the gradient; 0 for no clipping.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    clip_norm: float = 0.0


def build_optimizer(model: nn.Module, config: OptimConfig, *, fused: bool = False) -> Optimizer:
    """The optimizer over all parameters that take a gradient."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if config.name == "adamw":
        return AdamW(weights, lr=config.lr, weight_decay=config.weight_decay, fused=fused)
    decay, momentum = config.weight_decay, config.momentum
    return SGD(weights, lr=config.lr, momentum=momentum, weight_decay=decay, fused=fused)


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
    return config.lr * 0.5 * (1 + math.cos(math.pi * share))


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Write the rate into every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = value
