"""BYOL: predict what a slowly moving target sees (Grill et al., NeurIPS 2020, arXiv:2006.07733).

    L = || n(q(z_1)) - sg n(z'_2) ||^2 + || n(q(z_2)) - sg n(z'_1) ||^2
    xi <- m xi + (1 - m) theta,    m = 1 - (1 - m_0) (1 + cos(pi t)) / 2,  t in [0, 1]

z = projector(pool(f(x))) by the online weights theta, z' by the target's xi, q the predictor, n unit length.

Differs from the authors' code: views are the volume's or picture's own (`global_crops`), the same as for the
other global methods here, with intensities drawn as for medical images; the optimizer is the run's, not LARS;
running statistics follow with the momentum of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.types import Batch, CropSpec, Dimension, Normalisation, Progress, Size
from foveate.losses.agreement import normalised_error
from foveate.nets.ema import Momentum, as_target, follow, frozen_copy, momentum_at
from foveate.nets.heads import Branch, mlp
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import INTENSITIES, Appearance
from foveate.views.pipeline import corrupted_crop


@dataclass(frozen=True, kw_only=True)
class Config:
    """BYOL.

    Attributes:
        global_crops: The two compared views.
        global_appearance: Their corruption.
        hidden: Channels inside projector and predictor.
        embedding: Channels of the embeddings.
        momentum: Of the target at the start of the run.
        momentum_schedule: Whether it rises to 1 on a half cosine or stays.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder",)
    name: Literal["byol"] = "byol"
    global_crops: CropSpec
    global_appearance: Appearance
    hidden: int = 4096
    embedding: int = 256
    momentum: float = 0.996
    momentum_schedule: Momentum = "cosine"

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Config:
        """The published widths, on the views of a dimension and size."""
        row = defaults(dimension, size)
        look = INTENSITIES[dimension]
        return cls(global_crops=row.global_crops, global_appearance=look, **WIDTHS[size])


# A run of 300 steps is shorter than the memory of a target at 0.996.
WIDTHS: dict[str, dict[str, Any]] = {"paper": {}, "small": {"hidden": 128, "embedding": 64, "momentum": 0.97}}


class BYOL(Method):
    """An online encoder with projector and predictor, and a target with the first two."""

    net: Pyramid

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net, config
        net.keep_scales(0)
        self.projector = mlp((net.encoder_channels[-1], config.hidden, config.embedding))
        self.predictor = mlp((config.embedding, config.hidden, config.embedding))
        self.target = frozen_copy(self.online)

    @property
    def online(self) -> Branch:
        """What the target follows."""
        return Branch(self.net.encoder, self.projector)

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """Two global windows."""
        return {"global": self.config.global_crops}

    @property
    def normalisation(self) -> Normalisation:
        """What the encoder's input went through."""
        return self.config.global_appearance.normalisation

    def exported(self) -> dict[str, nn.Module]:
        """The online encoder."""
        return {"encoder": self.net.encoder}

    def views(self, batch: Batch, seed: int) -> list[Tensor]:
        """The two corrupted views, each (B, C, *S)."""
        look, channels = self.config.global_appearance, self.net.in_channels
        return list(corrupted_crop(batch, "global", look, channels=channels, seed=seed).unbind(1))[:2]

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The error of both predictions."""
        views = self.views(batch, progress.seed)
        with as_target(self.target):
            first, second = (self.target(x) for x in views)
        predictions = [self.predictor(self.online(x)) for x in views]
        errors = normalised_error(predictions[0], second) + normalised_error(predictions[1], first)
        return {"siamese": errors}

    def after_step(self, progress: Progress) -> None:
        """The target follows."""
        c = self.config
        follow(self.target, self.online, momentum_at(progress, c.momentum, c.momentum_schedule))

    def weights_given(self) -> None:
        """The target starts where the encoder does."""
        follow(self.target, self.online, 0.0)

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The two views."""
        first, second = self.views(batch, progress.seed)
        return {"view 1": first, "view 2": second}


build = BYOL
