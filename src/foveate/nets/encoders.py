"""Encoders: feature maps fine to coarse, with `channels` and `strides`. One function adds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.registry import Registry
from foveate.core.types import Dimension, Size
from foveate.nets.layers import ConvBlock, Norm
from foveate.nets.resenc import ResEncConfig, ResEncEncoder
from foveate.nets.resnet import RESNET_BLOCKS, ResNetConfig, ResNetEncoder
from foveate.nets.swin import SwinConfig, SwinEncoder


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
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


class UNetEncoder(nn.Module):
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
        maps: list[Tensor] = []
        for level in self.levels:
            x = level(self.pool(x) if maps else x)
            maps.append(x)
        return maps


@dataclass(frozen=True, kw_only=True)
class EncoderEntry:
    """How an encoder is configured and built, and the decoder that its family comes with.

    What is built has `channels`, `strides` and `in_channels`, and names the weight that reads the image in
    `input_weight`, so that a file with another number of channels can be adapted there.
    """

    config: type[Any]
    build: Callable[[Any, Dimension], nn.Module]
    dimensions: tuple[int, ...]
    upsample: Literal["nearest", "transpose"]
    widest: Callable[[Any], int] = lambda config: config.width  # squared, fewer than the weights of the whole
    widths: Mapping[Size, int] = field(default_factory=dict)  # where those of the dimension do not suit


def unet_entry(dimension: Dimension) -> EncoderEntry:
    """The U-Net of one dimension."""
    return EncoderEntry(
        config=UNetConfig,
        build=UNetEncoder,
        dimensions=(dimension,),
        upsample="transpose",
        widest=lambda config: config.width << config.levels,
    )


RESNET = EncoderEntry(
    config=ResNetConfig,
    build=ResNetEncoder,
    dimensions=(2, 3),
    upsample="nearest",
    widest=lambda config: 8 * config.width,
)

ENCODERS: Registry[EncoderEntry] = Registry(
    "encoder",
    "foveate.encoders",
    {
        "unet2d": unet_entry(2),
        "unet3d": unet_entry(3),
        **dict.fromkeys(RESNET_BLOCKS, RESNET),
        "resenc": EncoderEntry(
            config=ResEncConfig,
            build=ResEncEncoder,
            dimensions=(2, 3),
            upsample="transpose",
            widest=lambda config: min(config.width << len(config.blocks) - 1, config.widest),
            widths={"paper": 32, "small": 8},
        ),
        "swin": EncoderEntry(
            config=SwinConfig,
            build=SwinEncoder,
            dimensions=(2, 3),
            upsample="transpose",
            widest=lambda config: 8 * config.width,
            widths={"paper": 48, "small": 12},
        ),
    },
)
