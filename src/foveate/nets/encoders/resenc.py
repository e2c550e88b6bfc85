"""The residual encoder of nnU-Net's ResEnc presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.networks import Encoder, EncoderConfig, EncoderEntry
from foveate.core.types import Dimension, Norm
from foveate.nets.layers import norm_layer

SLOPE = 0.01  # of the leaky rectifier of nnU-Net's networks


@final
@dataclass(frozen=True, kw_only=True)
class ResEncConfig(EncoderConfig):
    """The residual encoder of nnU-Net's ResEnc presets, which nnssl pre-trains, with strides of 2.

    Attributes:
        name: Which encoder.
        in_channels: Channels of the image.
        width: Channels of the first stage; every stage doubles them.
        widest: No stage has more channels than this.
        blocks: Residual blocks of each stage; as many stages as numbers, the coarsest stride is
            2^(stages - 1).
        norm: Normalisation of every block; "instance" needs more than one voxel at the coarsest stride.
    """

    name: Literal["resenc"] = "resenc"
    in_channels: int = 1
    width: int = 32
    widest: int = 320
    blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    norm: Norm = "instance"

    @property
    def decoder_norm(self) -> Norm:
        """The encoder's own."""
        return self.norm


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut that averages and projects where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, dimension: Dimension, norm: Norm) -> None:
        super().__init__()
        conv = LAYERS[dimension].conv
        self.conv1 = conv(inputs, outputs, 3, stride=stride, padding=1)
        self.norm1 = norm_layer(norm, outputs, dimension)
        self.conv2 = conv(outputs, outputs, 3, padding=1)
        self.norm2 = norm_layer(norm, outputs, dimension)
        self.pool = LAYERS[dimension].avg_pool(stride)
        project = [conv(inputs, outputs, 1, bias=False), norm_layer(norm, outputs, dimension)]
        self.shortcut = nn.Sequential(*(project if inputs != outputs else []))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to (B, C', *S / stride)."""
        inner = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        return F.leaky_relu(self.norm2(self.conv2(inner)) + self.shortcut(self.pool(x)), SLOPE)


@final
class ResEncEncoder(Encoder):
    """A stem and stages of residual blocks; the first keeps the resolution."""

    input_weight = "stem.0.weight"

    def __init__(self, config: ResEncConfig, dimension: Dimension) -> None:
        super().__init__()
        stages = range(len(config.blocks))
        self.channels = tuple(min(config.width * 2**i, config.widest) for i in stages)
        self.strides = tuple(2**i for i in stages)
        self.in_channels = config.in_channels
        first = self.channels[0]
        conv = LAYERS[dimension].conv(config.in_channels, first, 3, padding=1)
        self.stem = nn.Sequential(conv, norm_layer(config.norm, first, dimension), nn.LeakyReLU(SLOPE))
        before = (first, *self.channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    ResidualBlock(
                        self.channels[i] if j else before[i],
                        self.channels[i],
                        2 if i and not j else 1,
                        dimension,
                        config.norm,
                    )
                    for j in range(config.blocks[i])
                )
            )
            for i in stages
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_d, *S / 2^d), fine to coarse."""
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


RESENC = EncoderEntry(
    config=ResEncConfig,
    build=ResEncEncoder,
    dimensions=(2, 3),
    upsample="transpose",
    widest=lambda config: min(config.width << len(config.blocks) - 1, config.widest),
    widths={"paper": 32, "small": 8},
)
