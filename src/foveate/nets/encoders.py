"""Encoders: feature maps fine to coarse, with `channels` and `strides`. One function adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.registry import Registry
from foveate.core.types import Dimension
from foveate.nets.layers import ConvBlock, Norm, set_norm


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
    """

    name: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    in_channels: int = 1
    width: int = 64
    norm: Norm = "batch"


class UNetEncoder(nn.Module):
    """Levels of two convolution blocks with max-pooling in between."""

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


class ResNetEncoder(nn.Module):
    """A residual network whose parameters have their usual names (conv1, bn1, layer1 ...)."""

    def __init__(self, config: ResNetConfig, dimension: Dimension) -> None:
        super().__init__()
        block, layers = RESNET_BLOCKS[config.name]
        planes = [config.width * 2**i for i in range(4)]
        net = ResNet(
            block,
            layers,
            planes,
            spatial_dims=dimension,
            n_input_channels=config.in_channels,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
        self.conv1, self.bn1, self.act, self.maxpool = net.conv1, net.bn1, net.act, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        set_norm(self, config.norm, dimension)
        self.channels = (config.width, *(p * block.expansion for p in planes))
        self.strides = (2, 4, 8, 16, 32)
        self.in_channels = config.in_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps at strides 2, 4, 8, 16 and 32."""
        maps = [self.act(self.bn1(self.conv1(x)))]
        maps.append(self.layer1(self.maxpool(maps[0])))
        for layer in (self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps


def stages(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters of an encoder by depth, the coarsest level first; what is no level is the stem."""
    children = [
        c for each in encoder.children() for c in (each if isinstance(each, nn.ModuleList) else [each])
    ]
    levels = [list(child.parameters()) for child in children if isinstance(child, nn.Sequential)]
    in_levels = {p for level in levels for p in level}
    stem = [p for p in encoder.parameters() if p not in in_levels]
    return [*reversed(levels), *([stem] if stem else [])]


RESNET_BLOCKS: dict[str, tuple[Any, list[int]]] = {
    "resnet18": (ResNetBlock, [2, 2, 2, 2]),
    "resnet34": (ResNetBlock, [3, 4, 6, 3]),
    "resnet50": (ResNetBottleneck, [3, 4, 6, 3]),
}


@dataclass(frozen=True, kw_only=True)
class EncoderEntry:
    """How an encoder is configured and built, and the decoder that its family comes with."""

    config: type[Any]
    build: Callable[[Any, Dimension], nn.Module]
    dimensions: tuple[int, ...]
    upsample: Literal["nearest", "transpose"]


ENCODERS: Registry[EncoderEntry] = Registry(
    "encoder",
    "foveate.encoders",
    {
        "unet2d": EncoderEntry(config=UNetConfig, build=UNetEncoder, dimensions=(2,), upsample="transpose"),
        "unet3d": EncoderEntry(config=UNetConfig, build=UNetEncoder, dimensions=(3,), upsample="transpose"),
        **{
            name: EncoderEntry(
                config=ResNetConfig, build=ResNetEncoder, dimensions=(2, 3), upsample="nearest"
            )
            for name in RESNET_BLOCKS
        },
    },
)
