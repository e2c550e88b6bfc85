"""MoCo v2: a view is told from earlier images by a queue of keys (Chen et al., 2020, arXiv:2003.04297).

    L = -log e(q, k+) / (e(q, k+) + sum over the queue of e(q, k)),    e(q, k) = exp(q . k / tau)
    xi <- m xi + (1 - m) theta

q = n(projector(pool(f(x_1)))) by the trained weights theta, k+ the same of x_2 by the momentum weights xi.
After every step the oldest keys of the queue give way to the new ones, of all processes.

Differs from the authors' code: views are the volume's or picture's own (`global_crops`), as for the other
global methods here; batches are not shuffled between processes before batch norm; the projector has one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.core.types import Batch, Dimension, Progress, Size
from foveate.losses.contrast import queue_contrast
from foveate.losses.gather import joined
from foveate.nets.ema import TargetMethod, as_target, frozen_copy, momentum_at
from foveate.nets.heads import mlp
from foveate.nets.pyramid import Pyramid
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """MoCo v2.

    Attributes:
        global_crops: The two compared views; the first is the query.
        global_appearance: Their corruption.
        hidden: Channels inside the projector.
        embedding: Channels of queries and keys.
        queue: Keys of earlier images that a query is told from.
        momentum: Of the weights that keys are made with.
        temperature: tau.
    """

    name: Literal["moco"] = "moco"
    hidden: int = 2048
    embedding: int = 128
    queue: int = 4096
    momentum: float = 0.999
    temperature: float = 0.2

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The published widths, and narrow ones with a short memory."""
        config = super().preset(dimension, size)
        small = replace(config, hidden=128, embedding=64, queue=128, momentum=0.97)
        return small if size == "small" else config


@final
class MoCo(TargetMethod):
    """An encoder with a projector, their momentum twin, and a queue."""

    fewest = 5
    net: Pyramid
    config: Config
    queue: Tensor
    cursor: Tensor
    fresh: Tensor

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        net.keep_scales(0)
        self.projector = mlp((net.encoder_channels[-1], config.hidden, config.embedding))
        self.target = frozen_copy(self.online)
        self.momentum = partial(momentum_at, start=config.momentum, schedule="constant")
        rows = torch.randn(config.queue, config.embedding)
        self.register_buffer("queue", F.normalize(rows, dim=1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))
        # Keys of the step so far: a buffer, so that whoever looks at the method in between can put it back.
        self.register_buffer("fresh", rows[:0].clone(), persistent=False)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """How well the first view finds the second among the queue."""
        first, second = self.views(batch, progress.seed)
        with as_target(self.target):
            keys = F.normalize(self.target(second).to(self.queue.dtype), dim=1)
        if self.training:
            self.fresh = torch.cat([self.fresh, keys])
        return {"contrast": queue_contrast(self.online(first), keys, self.queue, self.config.temperature)}

    def after_step(self, progress: Progress) -> None:
        """The target follows, then the step's keys enter the queue."""
        super().after_step(progress)
        enqueue(self.queue, self.cursor, joined(self.fresh))
        self.fresh = self.fresh[:0]


@torch.no_grad()
def enqueue(queue: Tensor, cursor: Tensor, keys: Tensor) -> None:
    """Write keys (M, E) over the oldest rows of a queue (N, E), in place; of more than N the last stay."""
    size = len(queue)
    places = (cursor + torch.arange(len(keys), device=queue.device))[-size:] % size
    queue[places] = keys[-size:]
    cursor.add_(len(keys)).remainder_(size)


build = MoCo
