"""Denoising: the clean view from a noisy one (an example, not a paper).

L = mean (f(x + n) - x)^2,    n ~ N(0, strength^2)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.core.contracts import Method, MethodConfig
from foveate.core.dims import LAYERS, defaults
from foveate.core.rng import torch_stream
from foveate.core.types import Batch, CropSpec, Dimension, Normalisation, Progress, Size
from foveate.nets.pyramid import Pyramid
from foveate.views.pipeline import with_channels


@dataclass(frozen=True, kw_only=True)
class Config(MethodConfig):
    """Denoising.

    Attributes:
        global_crops: The views.
        strength: Standard deviation of the noise.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    name: Literal["denoising"] = "denoising"
    global_crops: CropSpec
    strength: float = 0.1

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The usual views of a dimension and size."""
        return cls(global_crops=defaults(dimension, size).global_crops)

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """Global windows."""
        return {"global": self.global_crops}

    @property
    def normalisation(self) -> Normalisation:
        """None: views stay in [0, 1]."""
        return "none"


class Denoising(Method):
    """One view, one convolution on the finest map."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        self.head = LAYERS[net.dimension].conv(net.channels[-1], net.in_channels, 1)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The mean squared error; noise is keyed by the global sample index, so no rank or worker matters."""
        clean = with_channels(batch["crops"]["global"], self.net.in_channels)[:, 0]
        draws = [torch_stream(clean.device, progress.seed, "denoising", i) for i in batch["index"]]
        noise = torch.stack([torch.randn(clean.shape[1:], generator=g, device=clean.device) for g in draws])
        return {"pixel": F.mse_loss(self.head(self.net(clean + self.config.strength * noise)[-1]), clean)}


build = Denoising
