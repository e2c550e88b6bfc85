"""SimCLR: two views of an image find each other among the batch (Chen et al., ICML 2020, arXiv:2002.05709).

    L = mean over views i of -log e(i, j(i)) / sum over k != i of e(i, k),   e(i, k) = exp(z_i . z_k / tau)

z = n(projector(pool(f(x)))), j(i) the other view of i's image; k runs over the views of all processes.

Differs from the authors' code: views are the volume's or picture's own (`global_crops`), as for the other
global methods here; the optimizer is the run's, not LARS; batch norm is not synchronised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.types import Batch, CropSpec, Dimension, Normalisation, Progress, Size
from foveate.losses.contrast import nt_xent
from foveate.losses.gather import joined
from foveate.nets.heads import mlp, pooled
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import INTENSITIES, Appearance
from foveate.views.pipeline import corrupted_crop


@dataclass(frozen=True, kw_only=True)
class Config:
    """SimCLR.

    Attributes:
        global_crops: The two compared views.
        global_appearance: Their corruption.
        hidden: Channels inside the projector.
        embedding: Channels of the embeddings.
        temperature: tau.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder",)
    name: Literal["simclr"] = "simclr"
    global_crops: CropSpec
    global_appearance: Appearance
    hidden: int = 2048
    embedding: int = 128
    temperature: float = 0.1

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Config:
        """The published widths, on the views of a dimension and size."""
        row, look = defaults(dimension, size), INTENSITIES[dimension]
        return cls(global_crops=row.global_crops, global_appearance=look, **WIDTHS[size])


WIDTHS: dict[str, dict[str, Any]] = {"paper": {}, "small": {"hidden": 128, "embedding": 64}}


class SimCLR(Method):
    """One encoder, one projector."""

    net: Pyramid

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net, config
        net.keep_scales(0)
        self.projector = mlp((net.encoder_channels[-1], config.hidden, config.embedding))

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """Two global windows."""
        return {"global": self.config.global_crops}

    @property
    def normalisation(self) -> Normalisation:
        """What the encoder's input went through."""
        return self.config.global_appearance.normalisation

    def exported(self) -> dict[str, nn.Module]:
        """The encoder."""
        return {"encoder": self.net.encoder}

    def views(self, batch: Batch, seed: int) -> list[Tensor]:
        """The two corrupted views, each (B, C, *S)."""
        look, channels = self.config.global_appearance, self.net.in_channels
        return list(corrupted_crop(batch, "global", look, channels=channels, seed=seed).unbind(1))[:2]

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """How well views find their other halves in the batches of all processes."""
        sides = [self.projector(pooled(self.net.encoder(x)[-1])) for x in self.views(batch, progress.seed)]
        first, second = (joined(z) for z in sides)
        return {"contrast": nt_xent(first, second, self.config.temperature)}

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The two views."""
        first, second = self.views(batch, progress.seed)
        return {"view 1": first, "view 2": second}


build = SimCLR
