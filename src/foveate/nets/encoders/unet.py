"""The contracting half of a U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.networks import Encoder, EncoderConfig, EncoderEntry
from foveate.core.types import Dimension, Norm
from foveate.nets.layers import ConvBlock, pooled_levels


@final
@dataclass(frozen=True, kw_only=True)
class UNetConfig(EncoderConfig):
    """The contracting half of a U-Net, in the shape of PCRLv2's 3D network.

    Attributes:
        name: Which encoder.
        in_channels: Channels of the image.
        width: Channels of the first convolution; level d ends with 2 * width * 2^d.
        levels: Resolutions; the coarsest stride is 2^(levels - 1).
        norm: Normalisation of every block.
    """

    name: Literal["unet3d", "unet2d"] = "unet3d"
    in_channels: int = 1
    width: int = 32
    levels: int = 4
    norm: Norm = "batch"

    @property
    def decoder_norm(self) -> Norm:
        """The encoder's own."""
        return self.norm


@final
class UNetEncoder(Encoder):
    """Levels of two convolution blocks with max-pooling in between."""

    input_weight = "levels.0.0.conv.weight"

    def __init__(self, config: UNetConfig, dimension: Dimension) -> None:
        super().__init__()
        w, levels = config.width, range(config.levels)
        self.channels = tuple(2 * w * 2**d for d in levels)
        self.strides = tuple(2**d for d in levels)
        self.in_channels = config.in_channels
        inputs = (config.in_channels, *self.channels[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(
                ConvBlock(inputs[d], w * 2**d, dimension, config.norm, bias=True),
                ConvBlock(w * 2**d, self.channels[d], dimension, config.norm, bias=True),
            )
            for d in levels
        )
        self.pool = LAYERS[dimension].max_pool(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_d, *S / 2^d), fine to coarse."""
        return pooled_levels(self.levels, self.pool, x)


def unet_entry(dimension: Dimension) -> EncoderEntry[UNetConfig]:
    """The U-Net of one dimension."""
    return EncoderEntry(
        config=UNetConfig,
        build=UNetEncoder,
        dimensions=(dimension,),
        upsample="transpose",
        widest=lambda config: config.width << config.levels,
    )


UNET_2D, UNET_3D = unet_entry(2), unet_entry(3)
