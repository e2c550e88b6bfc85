"""An encoder: convolutions of stride 2, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.networks import Encoder, EncoderConfig, EncoderEntry
from foveate.core.types import Dimension, Norm
from foveate.nets.layers import ConvBlock


@dataclass(frozen=True, kw_only=True)
class Config(EncoderConfig):
    """Plain.

    Attributes:
        name: Which encoder.
        in_channels: Channels of the image.
        width: Channels of the first map; every level doubles them.
        norm: Normalisation of every block.
    """

    name: Literal["plain"] = "plain"
    in_channels: int = 1
    width: int = 16
    norm: Norm = "batch"

    @property
    def decoder_norm(self) -> Norm:
        """The same."""
        return self.norm


class Plain(Encoder):
    """Maps at strides 1, 2 and 4."""

    input_weight = "levels.0.0.conv.weight"

    def __init__(self, config: Config, dimension: Dimension) -> None:
        super().__init__()
        self.in_channels, self.strides = config.in_channels, (1, 2, 4)
        self.channels = tuple(config.width * s for s in self.strides)
        self.pool = LAYERS[dimension].max_pool(2)
        inputs = (config.in_channels, *self.channels[:-1])
        blocks = (
            ConvBlock(i, o, dimension, config.norm, bias=True)
            for i, o in zip(inputs, self.channels, strict=True)
        )
        self.levels = nn.ModuleList(nn.Sequential(block) for block in blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Fine to coarse."""
        maps: list[Tensor] = []
        for level in self.levels:
            x = level(self.pool(x) if maps else x)
            maps.append(x)
        return maps


ENTRY = EncoderEntry(config=Config, build=Plain, dimensions=(2, 3), upsample="nearest")
