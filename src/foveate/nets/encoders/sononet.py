"""The convolutions of SonoNet, a VGG-like network that names the scan planes of fetal ultrasound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.networks import Encoder, EncoderConfig, EncoderEntry
from foveate.core.types import Dimension, FoveateError, Norm
from foveate.nets.layers import ConvBlock, pooled_levels

WIDEST = 8  # times the first level's filters: SonoNet's fourth level, and every one below it


@final
@dataclass(frozen=True, kw_only=True)
class SonoNetConfig(EncoderConfig):
    """The convolutions of SonoNet-16, 32 and 64, without the two of 1x1 at its end: a task has its own head.

    Attributes:
        name: Which encoder.
        in_channels: Channels of the image.
        width: Filters of the first level; 16, 32 and 64 are the published networks.
        levels: Resolutions; 5 in SonoNet, and 6 are its form with one more stack of convolutions and pooling,
            which Context Restoration localises organs with.
        norm: Normalisation of every convolution.
    """

    name: Literal["sononet"] = "sononet"
    in_channels: int = 1
    width: int = 64
    levels: int = 5
    norm: Norm = "batch"

    @property
    def decoder_norm(self) -> Norm:
        """The encoder's own."""
        return self.norm


@final
class SonoNetEncoder(Encoder):
    """Two levels of two convolutions, then levels of three, with max-pooling in between."""

    input_weight = "levels.0.0.conv.weight"

    def __init__(self, config: SonoNetConfig, dimension: Dimension) -> None:
        super().__init__()
        if config.levels < 1:
            raise FoveateError(f"encoder.levels {config.levels}: accepted are 1 and more; SonoNet has 5.")
        self.channels = tuple(config.width * min(2**d, WIDEST) for d in range(config.levels))
        self.strides = tuple(2**d for d in range(config.levels))
        self.in_channels = config.in_channels
        before = (config.in_channels, *self.channels[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(
                    ConvBlock(c if i else before[d], c, dimension, config.norm, bias=False)
                    for i in range(2 if d < 2 else 3)
                )
            )
            for d, c in enumerate(self.channels)
        )
        self.pool = LAYERS[dimension].max_pool(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_d, *S / 2^d), fine to coarse."""
        return pooled_levels(self.levels, self.pool, x)


SONONET = EncoderEntry(
    config=SonoNetConfig,
    build=SonoNetEncoder,
    dimensions=(2, 3),
    upsample="nearest",
    widest=lambda config: config.width * min(1 << config.levels - 1, WIDEST),
    widths={"paper": 64, "small": 16},
)
