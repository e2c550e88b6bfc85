"""VICReg: agree, keep a spread, decorrelate (Bardes et al., ICLR 2022, arXiv:2105.04906).

    L = lambda mean (z_1 - z_2)^2 + mu [v(z_1) + v(z_2)] / 2 + nu [c(z_1) + c(z_2)]
    v(z) = mean over channels of max(0, 1 - sqrt(var + 1e-4)),    c(z) = sum of squared covariances / channels

z = expander(pool(f(x))); variances and covariances are those of the batches of all processes.

Differs from the authors' code: views are the volume's or picture's own (`global_crops`), as for the other
global methods here; the optimizer is the run's, not LARS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self, final

import torch.nn.functional as F
from torch import Tensor

from foveate.core.contracts import Method
from foveate.core.types import Batch, Dimension, Progress, Size
from foveate.losses.agreement import off_covariance, spread_shortfall
from foveate.losses.gather import joined
from foveate.nets.heads import mlp, pooled
from foveate.nets.pyramid import Pyramid
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """VICReg.

    Attributes:
        global_crops: The two compared views.
        global_appearance: Their corruption.
        embedding: Channels of every layer of the expander.
        invariance_weight: lambda, of the agreement.
        variance_weight: mu, of the spread over the batch.
        covariance_weight: nu, of the decorrelation of channels.
    """

    name: Literal["vicreg"] = "vicreg"
    embedding: int = 8192
    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The published width, and a narrow one."""
        config = super().preset(dimension, size)
        return replace(config, embedding=128) if size == "small" else config


@final
class VICReg(Method):
    """One encoder, one expander."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        net.keep_scales(0)
        width = config.embedding
        self.projector = mlp((net.encoder_channels[-1], width, width, width))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The three terms."""
        sides = [self.projector(pooled(self.net.encoder(x)[-1])) for x in self.views(batch, progress.seed)]
        first, second = (joined(z).float() if z.dtype.itemsize < 4 else joined(z) for z in sides)
        c = self.config
        return {
            "invariance": c.invariance_weight * F.mse_loss(first, second),
            "variance": 0.5 * c.variance_weight * (spread_shortfall(first) + spread_shortfall(second)),
            "covariance": c.covariance_weight * (off_covariance(first) + off_covariance(second)),
        }


build = VICReg
