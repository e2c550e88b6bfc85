"""The only table of what differs between 2D and 3D; nothing else asks for the dimension."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from foveate.core.types import Dimension, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The torch layers of one dimension."""

    conv: type[nn.Conv2d | nn.Conv3d]
    conv_transpose: type[nn.ConvTranspose2d | nn.ConvTranspose3d]
    batch_norm: type[nn.BatchNorm2d | nn.BatchNorm3d]
    instance_norm: type[nn.InstanceNorm2d | nn.InstanceNorm3d]
    max_pool: type[nn.MaxPool2d | nn.MaxPool3d]
    linear_interpolation: str


LAYERS: dict[int, Layers] = {
    2: Layers(
        conv=nn.Conv2d,
        conv_transpose=nn.ConvTranspose2d,
        batch_norm=nn.BatchNorm2d,
        instance_norm=nn.InstanceNorm2d,
        max_pool=nn.MaxPool2d,
        linear_interpolation="bilinear",
    ),
    3: Layers(
        conv=nn.Conv3d,
        conv_transpose=nn.ConvTranspose3d,
        batch_norm=nn.BatchNorm3d,
        instance_norm=nn.InstanceNorm3d,
        max_pool=nn.MaxPool3d,
        linear_interpolation="trilinear",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a run starts from in one dimension at one size."""

    global_grid: tuple[int, ...]
    local_grid: tuple[int, ...]
    global_sizes: tuple[tuple[int, ...], ...]  # source boxes in voxels; empty: a share of the image
    local_sizes: tuple[tuple[int, ...], ...]
    encoder: str
    width: int
    batch_size: int
    learning_rate: float


DEFAULTS: dict[tuple[int, str], Defaults] = {
    (2, "paper"): Defaults(
        global_grid=(224, 224),
        local_grid=(96, 96),
        global_sizes=(),
        local_sizes=(),
        encoder="resnet18",
        width=64,
        batch_size=64,
        learning_rate=1e-2,
    ),
    (2, "small"): Defaults(  # a ResNet needs multiples of 32, so 64 where 96 / 2 would be 48
        global_grid=(96, 96),
        local_grid=(64, 64),
        global_sizes=(),
        local_sizes=(),
        encoder="resnet18",
        width=8,
        batch_size=4,
        learning_rate=1e-2,
    ),
    (3, "paper"): Defaults(
        global_grid=(64, 64, 32),
        local_grid=(16, 16, 16),
        global_sizes=((96, 96, 64), (96, 96, 96), (112, 112, 64), (64, 64, 32)),
        local_sizes=((32, 32, 16), (16, 16, 16), (32, 32, 32), (8, 8, 8)),
        encoder="unet3d",
        width=32,
        batch_size=32,
        learning_rate=1e-3,
    ),
    (3, "small"): Defaults(
        global_grid=(32, 32, 32),
        local_grid=(16, 16, 16),
        global_sizes=((48, 48, 32), (48, 48, 48), (40, 40, 40), (32, 32, 32)),
        local_sizes=((24, 24, 16), (16, 16, 16), (24, 24, 24), (12, 12, 12)),
        encoder="unet3d",
        width=8,
        batch_size=4,
        learning_rate=1e-2,
    ),
}


def defaults(dimension: Dimension, size: Size) -> Defaults:
    """The row of the table for a dimension and a size."""
    return DEFAULTS[(dimension, size)]
