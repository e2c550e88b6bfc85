"""SimSiam: two views agree, no negatives, no teacher (Chen and He, CVPR 2021, arXiv:2011.10566).

    L = -1/2 [ cos(p_1, sg z_2) + cos(p_2, sg z_1) ],    z = projector(pool(f(x))),  p = predictor(z)

sg stops the gradient; without it the embeddings collapse.

Differs from the authors' code: views are the volume's or picture's own (`global_crops`), the same as for the
other global methods here, with intensities drawn as for medical images; widths are fields; one learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self, final

from torch import Tensor

from foveate.core.contracts import Method
from foveate.core.types import Batch, Dimension, Progress, Size
from foveate.losses.agreement import symmetric_cosine
from foveate.nets.heads import mlp, pooled
from foveate.nets.pyramid import Pyramid
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """SimSiam.

    Attributes:
        global_crops: The two compared views.
        global_appearance: Their corruption.
        embedding: Channels of the embeddings and of the projector's layers.
        bottleneck: Channels inside the predictor.
        stop_gradient: Whether projections are targets only; without it the embeddings collapse.
    """

    name: Literal["simsiam"] = "simsiam"
    embedding: int = 2048
    bottleneck: int = 512
    stop_gradient: bool = True

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The published widths, and narrow ones."""
        config = super().preset(dimension, size)
        return replace(config, embedding=128, bottleneck=32) if size == "small" else config


@final
class SimSiam(Method):
    """One encoder, one projector, one predictor."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        net.keep_scales(0)
        width = config.embedding
        self.projector = mlp((net.encoder_channels[-1], width, width, width), last_norm=True)
        self.predictor = mlp((width, config.bottleneck, width))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The agreement of the views."""
        sides = []
        for x in self.views(batch, progress.seed):
            z = self.projector(pooled(self.net.encoder(x)[-1]))
            sides.append((self.predictor(z), z))
        return {"siamese": symmetric_cosine(*sides, stop_gradient=self.config.stop_gradient)}


build = SimSiam
