"""Networks that follow others, parameters and buffers: BYOL's and PGL's targets, averages of weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Literal, TypeVar, final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from foveate.core.contracts import Draw, Method, Trainable
from foveate.core.tasks import Task
from foveate.core.types import Batch, CropSpec, Progress
from foveate.nets.heads import Branch
from foveate.nets.layers import running_statistics

Momentum = Literal["cosine", "constant"]
M = TypeVar("M", bound=nn.Module)


def frozen_copy(online: M) -> M:
    """A copy that takes no gradient, with the same values."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move a target to momentum * target + (1 - momentum) * online; what is not a fraction is copied.

    Running statistics are averaged like parameters: they then belong to the averaged weights.
    """
    pairs = list(zip(_tensors(target), _tensors(online), strict=True))
    fractions = [(t, o) for t, o in pairs if t.is_floating_point()]
    move = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]
    move([t for t, _ in fractions], [o for _, o in fractions], 0)
    for t, o in pairs:
        if not t.is_floating_point():
            t.copy_(o)


def momentum_at(progress: Progress, start: float, schedule: Momentum) -> float:
    """From `start` at the first step to 1 at the end of the run on a half cosine, or constant.

    >>> [momentum_at(Progress(step, 10), 0.9, "cosine") for step in (0, 10)]
    [0.9, 1.0]
    """
    return start if schedule == "constant" else 1 - (1 - start) * progress.half_cosine


@contextmanager
def as_target(target: nn.Module) -> Iterator[None]:
    """Inside the context a target computes with batch statistics, writes none and takes no gradient."""
    with torch.no_grad(), running_statistics(target, update=False):
        yield


class TargetMethod(Method):
    """A method with a target network that follows the trained one after every step.

    A leaf sets `target` to a frozen copy of `online`, when all of that is there, and `momentum`.
    """

    projector: nn.Module
    target: nn.Module
    momentum: Callable[[Progress], float]

    @property
    def online(self) -> nn.Module:
        """What the target follows: by default encoder and `projector`."""
        return Branch(self.net.encoder, self.projector)

    def after_step(self, progress: Progress) -> None:
        """The target follows."""
        follow(self.target, self.online, self.momentum(progress))

    def weights_given(self) -> None:
        """The target starts where the network does."""
        follow(self.target, self.online, 0.0)


@final
class Averaged(Trainable):
    """A task and the moving average of its weights: the task is trained, the average judged and exported."""

    def __init__(self, task: Task, momentum: float) -> None:
        super().__init__()
        self.task, self.momentum = task, momentum
        self.average = frozen_copy(task)

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """The task's."""
        return self.task.crops

    @property
    def draws(self) -> Sequence[Draw]:
        """The task's."""
        return self.task.draws

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The task's losses."""
        losses: dict[str, Tensor] = self.task(batch, progress)
        return losses

    def after_step(self, progress: Progress) -> None:
        """The average follows."""
        self.task.after_step(progress)
        follow(self.average, self.task, risen(self.momentum, progress))


def risen(momentum: float, progress: Progress) -> float:
    """A momentum that starts low, so that an average soon forgets its first weights.

    >>> [round(risen(0.99, Progress(step, 2000)), 2) for step in (0, 89, 1999)]
    [0.1, 0.91, 0.99]
    """
    done = progress.step + 1
    return min(momentum, done / (done + 9))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())
