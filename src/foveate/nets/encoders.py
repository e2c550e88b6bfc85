"""Encoders: feature maps fine to coarse, with `channels` and `strides`. One function adds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.registry import Registry
from foveate.core.types import Dimension, Size
from foveate.nets.layers import ConvBlock, Norm, norm_layer, set_norm
from foveate.nets.resnet import RESNET_BLOCKS, ResNetEncoder
from foveate.nets.swin import SwinConfig, SwinEncoder

SLOPE = 0.01  # of the leaky rectifier of nnU-Net's networks


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


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """MONAI's residual networks with the usual stem (stride 2, then pooling).

    Attributes:
        name: Which encoder.
        in_channels: Channels of the image.
        width: Channels of the stem; stages have 1, 2, 4 and 8 times as many.
        norm: Normalisation of every block.
        shortcut: Where a block changes the shape, "conv" projects its input, "pad" subsamples it and adds
            channels of zeros (MedicalNet's ResNet-18 and 34).
        dilated: Stages 3 and 4 keep stride 8 and dilate by 2 and 4, as MedicalNet does: maps at 2, 4 and 8.
    """

    name: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"] = "resnet18"
    in_channels: int = 1
    width: int = 64
    norm: Norm = "batch"
    shortcut: Literal["conv", "pad"] = "conv"
    dilated: bool = False


@dataclass(frozen=True, kw_only=True)
class ResEncConfig:
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


class ResEncEncoder(nn.Module):
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


def build_resnet(config: ResNetConfig, dimension: Dimension) -> nn.Module:
    """A residual network with the normalisation that its configuration names."""
    encoder = ResNetEncoder(config, dimension)
    set_norm(encoder, config.norm, dimension)
    return encoder


def stages(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters of an encoder by depth, the coarsest level first; what is no level is the stem."""
    children = [
        c for each in encoder.children() for c in (each if isinstance(each, nn.ModuleList) else [each])
    ]
    levels = [list(child.parameters()) for child in children if isinstance(child, nn.Sequential)]
    in_levels = {p for level in levels for p in level}
    stem = [p for p in encoder.parameters() if p not in in_levels]
    return [*reversed(levels), *([stem] if stem else [])]


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
    build=build_resnet,
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
