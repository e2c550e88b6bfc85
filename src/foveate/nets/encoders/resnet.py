"""Residual networks whose parameters have their usual names: torchvision's, timm's and MedicalNet's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch.nn.functional as F
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from torch import Tensor, nn

from foveate.core.networks import Encoder, EncoderConfig, EncoderEntry
from foveate.core.types import Dimension, Norm
from foveate.nets.layers import set_norm

RESNET_BLOCKS: dict[str, tuple[type[ResNetBlock | ResNetBottleneck], list[int]]] = {
    "resnet10": (ResNetBlock, [1, 1, 1, 1]),
    "resnet18": (ResNetBlock, [2, 2, 2, 2]),
    "resnet34": (ResNetBlock, [3, 4, 6, 3]),
    "resnet50": (ResNetBottleneck, [3, 4, 6, 3]),
    "resnet101": (ResNetBottleneck, [3, 4, 23, 3]),
}


@final
@dataclass(frozen=True, kw_only=True)
class ResNetConfig(EncoderConfig):
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

    @property
    def decoder_norm(self) -> Norm:
        """The encoder's own."""
        return self.norm


class PaddedShortcut(nn.Module):
    """Every stride-th voxel, and channels of zeros up to the wanted number: a shortcut without parameters."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to (B, channels, *S / stride)."""
        missing, spatial = self.channels - x.shape[1], x.ndim - 2
        every = (slice(None), slice(None), *[slice(None, None, self.stride)] * spatial)
        return F.pad(x[every], (*(0, 0) * spatial, 0, missing))


@final
class ResNetEncoder(Encoder):
    """A residual network whose parameters have their usual names (conv1, bn1, layer1 ...)."""

    input_weight = "conv1.weight"

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
        if config.shortcut == "pad":
            pad_shortcuts(self)
        if config.dilated:
            dilate(self.layer3, 2)
            dilate(self.layer4, 4)
        widths = [config.width, *(p * block.expansion for p in planes)]
        self.dilated, self.in_channels = config.dilated, config.in_channels
        self.channels = (*widths[:2], widths[4]) if config.dilated else tuple(widths)
        self.strides = (2, 4, 8) if config.dilated else (2, 4, 8, 16, 32)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps at strides 2, 4, 8, 16 and 32; at 2, 4 and 8 (the last stage) when dilated."""
        maps = [self.act(self.bn1(self.conv1(x)))]
        maps.append(self.layer1(self.maxpool(maps[0])))
        for layer in (self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return [*maps[:2], maps[4]] if self.dilated else maps


def pad_shortcuts(net: nn.Module) -> None:
    """Put a shortcut without parameters in the place of every projecting one."""
    for block in list(net.modules()):
        if isinstance(block, ResNetBlock | ResNetBottleneck) and isinstance(block.downsample, nn.Sequential):
            projection = block.downsample[0]
            if isinstance(projection, nn.Conv2d | nn.Conv3d):
                block.downsample = PaddedShortcut(projection.stride[0], projection.out_channels)


def dilate(stage: nn.Module, rate: int) -> None:
    """Keep the resolution of a stage, and spread its 3-convolutions instead."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.stride = (1,) * len(module.kernel_size)
            if module.kernel_size[0] > 1:
                module.dilation = module.padding = (rate,) * len(module.kernel_size)
        elif isinstance(module, PaddedShortcut):
            module.stride = 1


def build_resnet(config: ResNetConfig, dimension: Dimension) -> ResNetEncoder:
    """A residual network with the normalisation that its configuration names."""
    encoder = ResNetEncoder(config, dimension)
    set_norm(encoder, config.norm, dimension)
    return encoder


RESNET = EncoderEntry(
    config=ResNetConfig,
    build=build_resnet,
    dimensions=(2, 3),
    upsample="nearest",
    widest=lambda config: 8 * config.width,
)
