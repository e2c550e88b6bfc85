"""SimSiam: two views agree, no negatives, no teacher (Chen and He, CVPR 2021, arXiv:2011.10566).

    L = -1/2 [ cos(p_1, sg z_2) + cos(p_2, sg z_1) ],    z = projector(pool(f(x))),  p = predictor(z)

sg stops the gradient; without it the embeddings collapse.

Differs from the authors' code: views are the volume's or picture's own (`global_crops`), the same as for the
other global methods here, with intensities drawn as for medical images; widths are fields; one learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.types import Batch, CropSpec, Dimension, Normalisation, Progress, Size
from foveate.losses.agreement import symmetric_cosine
from foveate.nets.heads import mlp, pooled
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import INTENSITIES, Appearance
from foveate.views.pipeline import corrupted_crop


@dataclass(frozen=True, kw_only=True)
class Config:
    """SimSiam.

    Attributes:
        global_crops: The two compared views.
        global_appearance: Their corruption.
        embedding: Channels of the embeddings and of the projector's layers.
        bottleneck: Channels inside the predictor.
        stop_gradient: Whether projections are targets only; without it the embeddings collapse.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder",)
    name: Literal["simsiam"] = "simsiam"
    global_crops: CropSpec
    global_appearance: Appearance
    embedding: int = 2048
    bottleneck: int = 512
    stop_gradient: bool = True

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Config:
        """The published widths, on the views of a dimension and size."""
        row = defaults(dimension, size)
        look = INTENSITIES[dimension]
        return cls(global_crops=row.global_crops, global_appearance=look, **WIDTHS[size])


WIDTHS: dict[str, dict[str, Any]] = {"paper": {}, "small": {"embedding": 128, "bottleneck": 32}}


class SimSiam(Method):
    """One encoder, one projector, one predictor."""

    net: Pyramid

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net, config
        net.keep_scales(0)
        width = config.embedding
        self.projector = mlp((net.encoder_channels[-1], width, width, width), last_norm=True)
        self.predictor = mlp((width, config.bottleneck, width))

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
        """The agreement of the views."""
        sides = []
        for x in self.views(batch, progress.seed):
            z = self.projector(pooled(self.net.encoder(x)[-1]))
            sides.append((self.predictor(z), z))
        return {"siamese": symmetric_cosine(*sides, stop_gradient=self.config.stop_gradient)}

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The two views."""
        first, second = self.views(batch, progress.seed)
        return {"view 1": first, "view 2": second}


build = SimSiam
