"""BYOL: predict what a slowly moving target sees (Grill et al., NeurIPS 2020, arXiv:2006.07733).

    L = || n(q(z_1)) - sg n(z'_2) ||^2 + || n(q(z_2)) - sg n(z'_1) ||^2
    xi <- m xi + (1 - m) theta,    m = 1 - (1 - m_0) (1 + cos(pi t)) / 2,  t in [0, 1]

z = projector(pool(f(x))) by the online weights theta, z' by the target's xi, q the predictor, n unit length.

Differs from the authors' code: views are the volume's or picture's own (`global_crops`), the same as for the
other global methods here, with intensities drawn as for medical images; the optimizer is the run's, not LARS;
running statistics follow with the momentum of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self, final

from torch import Tensor

from foveate.core.types import Batch, Dimension, Progress, Size
from foveate.losses.agreement import normalised_error
from foveate.nets.ema import Momentum, TargetMethod, as_target, frozen_copy, momentum_at
from foveate.nets.heads import mlp
from foveate.nets.pyramid import Pyramid
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """BYOL.

    Attributes:
        global_crops: The two compared views.
        global_appearance: Their corruption.
        hidden: Channels inside projector and predictor.
        embedding: Channels of the embeddings.
        momentum: Of the target at the start of the run.
        momentum_schedule: Whether it rises to 1 on a half cosine or stays.
    """

    name: Literal["byol"] = "byol"
    hidden: int = 4096
    embedding: int = 256
    momentum: float = 0.996
    momentum_schedule: Momentum = "cosine"

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The published widths; a run of 300 steps is shorter than the memory of a target at 0.996."""
        config = super().preset(dimension, size)
        return replace(config, hidden=128, embedding=64, momentum=0.97) if size == "small" else config


@final
class BYOL(TargetMethod):
    """An online encoder with projector and predictor, and a target with the first two."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        net.keep_scales(0)
        self.projector = mlp((net.encoder_channels[-1], config.hidden, config.embedding))
        self.predictor = mlp((config.embedding, config.hidden, config.embedding))
        self.target = frozen_copy(self.online)
        start, schedule = config.momentum, config.momentum_schedule
        self.momentum = partial(momentum_at, start=start, schedule=schedule)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The error of both predictions."""
        views = self.views(batch, progress.seed)
        with as_target(self.target):
            first, second = (self.target(x) for x in views)
        predictions = [self.predictor(self.online(x)) for x in views]
        errors = normalised_error(predictions[0], second) + normalised_error(predictions[1], first)
        return {"siamese": errors}


build = BYOL
