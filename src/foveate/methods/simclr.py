"""SimCLR: two views of an image find each other among the batch (Chen et al., ICML 2020, arXiv:2002.05709).

    L = mean over views i of -log e(i, j(i)) / sum over k != i of e(i, k),   e(i, k) = exp(z_i . z_k / tau)

z = n(projector(pool(f(x)))), j(i) the other view of i's image; k runs over the views of all processes.

Differs from the authors' code: views are the volume's or picture's own (`global_crops`), as for the other
global methods here; the optimizer is the run's, not LARS; batch norm is not synchronised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self, final

from torch import Tensor

from foveate.core.contracts import Method
from foveate.core.types import Batch, Dimension, Progress, Size
from foveate.losses.contrast import nt_xent
from foveate.losses.gather import joined
from foveate.nets.heads import mlp, pooled
from foveate.nets.pyramid import Pyramid
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """SimCLR.

    Attributes:
        global_crops: The two compared views.
        global_appearance: Their corruption.
        hidden: Channels inside the projector.
        embedding: Channels of the embeddings.
        temperature: tau.
    """

    name: Literal["simclr"] = "simclr"
    hidden: int = 2048
    embedding: int = 128
    temperature: float = 0.1

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The published widths, and narrow ones."""
        config = super().preset(dimension, size)
        return replace(config, hidden=128, embedding=64) if size == "small" else config


@final
class SimCLR(Method):
    """One encoder, one projector."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        net.keep_scales(0)
        self.projector = mlp((net.encoder_channels[-1], config.hidden, config.embedding))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """How well views find their other halves in the batches of all processes."""
        sides = [self.projector(pooled(self.net.encoder(x)[-1])) for x in self.views(batch, progress.seed)]
        first, second = (joined(z) for z in sides)
        return {"contrast": nt_xent(first, second, self.config.temperature)}


build = SimCLR
