"""The encoders: images to maps, fine to coarse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
RESNETS = {  # convolutions of a block, blocks of each stage
    "resnet10": (2, (1, 1, 1, 1)),
    "resnet18": (2, (2, 2, 2, 2)),
    "resnet34": (2, (3, 4, 6, 3)),
    "resnet50": (3, (3, 4, 6, 3)),
    "resnet101": (3, (3, 4, 23, 3)),
}
SLOPE = 0.01  # of leaky rectifiers


def norm_of(kind: str, channels: int, dimension: int) -> nn.Module:
    """Batch, instance or group normalisation."""
    if kind == "batch":
        return BATCH[dimension](channels)
    if kind == "instance":
        return INSTANCE[dimension](channels, affine=True)
    return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)


def conv_block(inputs: int, outputs: int, dimension: int, norm: str, bias: bool) -> nn.Sequential:
    """Convolution, normalisation, rectifier."""
    block = nn.Sequential()
    block.add_module("conv", CONV[dimension](inputs, outputs, 3, padding=1, bias=bias))
    block.add_module("norm", norm_of(norm, outputs, dimension))
    block.add_module("act", nn.ReLU())
    return block


def pooled_levels(levels: Iterable[nn.Module], pool: nn.Module, x: Tensor) -> list[Tensor]:
    """Maps of an image after each level, fine to coarse, pooled in between."""
    maps: list[Tensor] = []
    for level in levels:
        x = level(pool(x) if maps else x)
        maps.append(x)
    return maps


class UNetEncoder(nn.Module):
    """Levels of two blocks with max-pooling in between."""

    def __init__(self, dimension: int, said: Mapping[str, Any]) -> None:
        super().__init__()
        width, norm = said["width"], said["norm"]
        self.channels = tuple(2 * width * 2**d for d in range(said["levels"]))
        self.strides = tuple(2**d for d in range(said["levels"]))
        inputs = (said["in_channels"], *self.channels[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(
                conv_block(inputs[d], width * 2**d, dimension, norm, True),
                conv_block(width * 2**d, self.channels[d], dimension, norm, True),
            )
            for d in range(said["levels"])
        )
        self.pool = MAX_POOL[dimension](2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps, fine to coarse."""
        return pooled_levels(self.levels, self.pool, x)


class SonoNetEncoder(nn.Module):
    """Two levels of two convolutions, then levels of three, with max-pooling in between."""

    def __init__(self, dimension: int, said: Mapping[str, Any]) -> None:
        super().__init__()
        self.channels = tuple(said["width"] * min(2**d, 8) for d in range(said["levels"]))
        self.strides = tuple(2**d for d in range(said["levels"]))
        self.pool, self.levels, before = MAX_POOL[dimension](2), nn.ModuleList(), said["in_channels"]
        for d, width in enumerate(self.channels):
            inputs = [before, *[width] * (1 if d < 2 else 2)]
            blocks = [conv_block(each, width, dimension, said["norm"], False) for each in inputs]
            self.levels.append(nn.Sequential(*blocks))
            before = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps, fine to coarse."""
        return pooled_levels(self.levels, self.pool, x)


class ResidualBlock(nn.Module):
    """Of nnU-Net's residual encoder: the shortcut averages, and projects where channels change."""

    def __init__(self, inputs: int, outputs: int, stride: int, dimension: int, norm: str) -> None:
        super().__init__()
        conv = CONV[dimension]
        self.conv1 = conv(inputs, outputs, 3, stride=stride, padding=1)
        self.norm1 = norm_of(norm, outputs, dimension)
        self.conv2 = conv(outputs, outputs, 3, padding=1)
        self.norm2 = norm_of(norm, outputs, dimension)
        self.pool = AVERAGE_POOL[dimension](stride)
        project = [conv(inputs, outputs, 1, bias=False), norm_of(norm, outputs, dimension)]
        self.shortcut = nn.Sequential(*(project if inputs != outputs else []))

    def forward(self, x: Tensor) -> Tensor:
        """The block's map."""
        inner = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        return F.leaky_relu(self.norm2(self.conv2(inner)) + self.shortcut(self.pool(x)), SLOPE)


class ResEncEncoder(nn.Module):
    """A stem and stages of residual blocks; the first keeps the resolution."""

    def __init__(self, dimension: int, said: Mapping[str, Any]) -> None:
        super().__init__()
        blocks, norm = said["blocks"], said["norm"]
        self.channels = tuple(min(said["width"] * 2**i, said["widest"]) for i in range(len(blocks)))
        self.strides = tuple(2**i for i in range(len(blocks)))
        first = self.channels[0]
        stem = CONV[dimension](said["in_channels"], first, 3, padding=1)
        self.stem = nn.Sequential(stem, norm_of(norm, first, dimension), nn.LeakyReLU(SLOPE))
        self.stages = nn.ModuleList()
        before = first
        for i, (count, width) in enumerate(zip(blocks, self.channels, strict=True)):
            sizes = [(before, 2 if i else 1), *[(width, 1)] * (count - 1)]
            stage = [ResidualBlock(inputs, width, stride, dimension, norm) for inputs, stride in sizes]
            self.stages.append(nn.Sequential(*stage))
            before = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps, fine to coarse."""
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Padded(nn.Module):
    """A shortcut without weights: every stride-th voxel, and channels of zeros."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        """Smaller, with more channels."""
        spatial, missing = x.ndim - 2, self.channels - x.shape[1]
        every = (slice(None), slice(None), *[slice(None, None, self.stride)] * spatial)
        return F.pad(x[every], (*(0, 0) * spatial, 0, missing))


class Block(nn.Module):
    """Two 3-convolutions, or a 3-convolution between two of 1."""

    def __init__(
        self, inputs: int, width: int, stride: int, rate: int, dimension: int, said: Mapping[str, Any]
    ) -> None:
        super().__init__()
        conv, norm, convs = CONV[dimension], said["norm"], RESNETS[said["name"]][0]
        outputs = width if convs == 2 else 4 * width
        wide: dict[str, Any] = {"kernel_size": 3, "padding": rate, "dilation": rate, "bias": False}
        if convs == 2:
            self.conv1 = conv(inputs, width, stride=stride, **wide)
            self.conv2 = conv(width, outputs, **wide)
        else:
            self.conv1 = conv(inputs, width, 1, bias=False)
            self.conv2 = conv(width, width, stride=stride, **wide)
            self.conv3 = conv(width, outputs, 1, bias=False)
            self.bn3 = norm_of(norm, outputs, dimension)
        self.bn1 = norm_of(norm, width, dimension)
        self.bn2 = norm_of(norm, width if convs > 2 else outputs, dimension)
        self.convs = convs
        project: list[nn.Module] = []
        if stride > 1 or inputs != outputs:
            project = [
                conv(inputs, outputs, 1, stride=stride, bias=False),
                norm_of(norm, outputs, dimension),
            ]
            project = [Padded(stride, outputs)] if said["shortcut"] == "pad" else project
        self.downsample = nn.Sequential(*project)

    def forward(self, x: Tensor) -> Tensor:
        """The block's map."""
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = self.bn2(self.conv2(inner))
        if self.convs > 2:
            inner = self.bn3(self.conv3(F.relu(inner)))
        return F.relu(inner + self.downsample(x))


class ResNetEncoder(nn.Module):
    """A residual network under its usual names."""

    def __init__(self, dimension: int, said: Mapping[str, Any]) -> None:
        super().__init__()
        convs, blocks = RESNETS[said["name"]]
        width, dilated = said["width"], said["dilated"]
        grows = 1 if convs == 2 else 4
        self.conv1 = CONV[dimension](said["in_channels"], width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm_of(said["norm"], width, dimension)
        self.maxpool = MAX_POOL[dimension](3, stride=2, padding=1)
        inputs = width
        for i, count in enumerate(blocks):
            rate = max(1, 2 ** (i - 1)) if dilated else 1
            stride = 2 if i and rate == 1 else 1
            stage = [Block(inputs, width * 2**i, stride, rate, dimension, said)]
            inputs = width * 2**i * grows
            stage += [Block(inputs, width * 2**i, 1, rate, dimension, said) for _ in range(count - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        widths = (width, *(width * 2**i * grows for i in range(4)))
        self.dilated = dilated
        self.channels = (*widths[:2], widths[4]) if dilated else widths
        self.strides = (2, 4, 8) if dilated else (2, 4, 8, 16, 32)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps, fine to coarse."""
        maps, layers = [F.relu(self.bn1(self.conv1(x)))], dict(self.named_children())
        x = self.maxpool(maps[0])
        for i in range(1, 5):
            x = layers[f"layer{i}"](x)
            maps.append(x)
        return [*maps[:2], maps[4]] if self.dilated else maps


class SwinEncoder(nn.Module):
    """The transformer of MONAI's SwinUNETR."""

    def __init__(self, dimension: int, said: Mapping[str, Any]) -> None:
        super().__init__()
        from monai.networks.nets.swin_unetr import SwinTransformer

        self.swin = SwinTransformer(
            in_chans=said["in_channels"],
            embed_dim=said["width"],
            window_size=(said["window"],) * dimension,
            patch_size=(2,) * dimension,
            depths=said["depths"],
            num_heads=[said["heads"] * 2**i for i in range(4)],
            spatial_dims=dimension,
            use_v2=said["residual_blocks"],
        )
        self.channels, self.strides = tuple(said["width"] * 2**i for i in range(5)), (2, 4, 8, 16, 32)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps, fine to coarse."""
        from monai.networks.nets.swin_unetr import compute_mask, get_window_size

        x = self.swin.patch_embed(x)
        maps, layers = [normalised(x)], dict(self.swin.named_children())
        for i in range(1, 5):
            if self.swin.use_v2:
                x = layers[f"layers{i}c"][0](x.contiguous())
            stage = layers[f"layers{i}"][0]
            window, shift = get_window_size(x.shape[2:], stage.window_size, stage.shift_size)
            whole = [-(-n // w) * w for n, w in zip(x.shape[2:], window, strict=True)]
            mask = compute_mask(whole, window, shift, x.device)
            x = x.movedim(1, -1)
            for block in stage.blocks:
                x = block(x, mask)
            x = stage.downsample(x).movedim(-1, 1)
            maps.append(normalised(x))
        return maps


def normalised(x: Tensor) -> Tensor:
    """Every place's channels with mean 0 and variance 1."""
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)


Made = UNetEncoder | SonoNetEncoder | ResEncEncoder | ResNetEncoder | SwinEncoder
ENCODERS: dict[str, Callable[[int, Mapping[str, Any]], Made]] = {
    "unet2d": UNetEncoder,
    "unet3d": UNetEncoder,
    "sononet": SonoNetEncoder,
    "resenc": ResEncEncoder,
    "swin": SwinEncoder,
    **dict.fromkeys(RESNETS, ResNetEncoder),
}
