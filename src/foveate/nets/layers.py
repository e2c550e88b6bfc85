"""The convolution block and the normalisation that encoders and decoders are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from foveate.core.dims import LAYERS
from foveate.core.types import Norm

Net = TypeVar("Net", bound=nn.Module)


def norm_layer(norm: Norm, channels: int, dimension: int) -> nn.Module:
    """The normalisation of a feature map; group norm uses 8 groups, fewer where 8 do not divide."""
    if norm == "batch":
        return LAYERS[dimension].batch_norm(channels)
    if norm == "instance":
        return LAYERS[dimension].instance_norm(channels, affine=True)
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def set_norm(module: nn.Module, norm: Norm, dimension: int) -> None:
    """Put the named normalisation in the place of every batch norm of a network that knows no other."""
    if norm == "batch":
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, norm_layer(norm, child.num_features, dimension))
        else:
            set_norm(child, norm, dimension)


class ConvBlock(nn.Sequential):
    """3-convolution, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, dimension: int, norm: Norm, bias: bool) -> None:
        super().__init__()
        self.conv = LAYERS[dimension].conv(inputs, outputs, 3, padding=1, bias=bias)
        self.norm = norm_layer(norm, outputs, dimension)
        self.act = nn.ReLU(inplace=True)


def pooled_levels(levels: Iterable[nn.Module], pool: nn.Module, x: Tensor) -> list[Tensor]:
    """Maps of an image after each level, fine to coarse, pooled in between."""
    maps: list[Tensor] = []
    for level in levels:
        x = level(pool(x) if maps else x)
        maps.append(x)
    return maps


@contextmanager
def running_statistics(module: nn.Module, update: bool) -> Iterator[None]:
    """Inside the context BatchNorm layers use batch statistics and write the running ones only if `update`.

    Small crops at a 2x2x2 bottleneck must not write what is exported; momentum 0 is the one switch that
    changes nothing else.
    """
    layers = [] if update else [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


@contextmanager
def cumulative_statistics(module: nn.Module) -> Iterator[None]:
    """Inside the context BatchNorm layers forget their running statistics and average what passes by."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for a plain average
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def forget_statistics(module: nn.Module) -> None:
    """Set the running statistics of BatchNorm layers back to those of a new network."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.reset_running_stats()


def anchored(losses: dict[str, Tensor], module: nn.Module, but: str, wanted: bool) -> dict[str, Tensor]:
    """Losses plus 0 times every parameter whose name does not start with `but`, where that is `wanted`.

    Heads that a step did not draw then have a gradient of zero instead of none: the graph is the same at
    every step, which data-parallel training and gradient accumulation rely on.
    """
    if not wanted:
        return losses
    sums = [p.sum() for name, p in module.named_parameters() if not name.startswith(but)]
    first = next(iter(losses))
    return losses | {first: losses[first] + 0.0 * torch.stack(sums).sum()}


def stages(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters of an encoder by depth, the coarsest level first; what is no level is the stem."""
    children = [
        c for each in encoder.children() for c in (each if isinstance(each, nn.ModuleList) else [each])
    ]
    levels = [list(child.parameters()) for child in children if isinstance(child, nn.Sequential)]
    in_levels = {p for level in levels for p in level}
    stem = [p for p in encoder.parameters() if p not in in_levels]
    return [*reversed(levels), *([stem] if stem else [])]


def laid_out(net: Net, dimension: int, device_type: str = "cpu") -> Net:
    """The network with channels beside each other in memory where convolutions of that device are faster so.

    On GPUs that is everywhere but with instance or group norm, which hand their maps on with channels apart
    there: every convolution would copy them. On CPUs everywhere but with a 1x1 convolution with a stride
    (residual networks): in torch 2.13 the gradient of one with 8 channels over 64^2 pixels in that layout
    kills the process.
    """
    table = LAYERS[dimension]
    if device_type == "cuda":
        apart = any(isinstance(m, _InstanceNorm | nn.GroupNorm) for m in net.modules())
    else:
        kinds = [m for m in net.modules() if isinstance(m, table.conv)]
        apart = any(set(m.kernel_size) == {1} and set(m.stride) != {1} for m in kinds)
    layout = torch.contiguous_format if apart else table.channels_last
    return net.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]
