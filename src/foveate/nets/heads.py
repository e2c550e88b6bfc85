"""Heads on pyramid maps: projection, prediction, restoration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.networks import Encoder
from foveate.core.types import Norm
from foveate.nets.layers import ConvBlock, norm_layer
from foveate.nets.pyramid import Pyramid

Projection = Literal["bn", "mlp", "plain"]
Restoration = Literal["linear", "sigmoid"]


def projector(kind: Projection, channels: int) -> nn.Module:
    """From pooled features to an embedding of the same length.

    `bn` is one batch norm (the published PCRLv2), `mlp` three linear layers with batch norm, `plain`
    nothing at all: no statistics cross samples, so a batch may be split at will.
    """
    if kind == "plain":
        return nn.Identity()
    if kind == "bn":
        return nn.BatchNorm1d(channels)
    layers: list[nn.Module] = []
    for last in (False, False, True):
        layers += [nn.Linear(channels, channels, bias=False), nn.BatchNorm1d(channels)]
        layers += [] if last else [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def predictor(kind: Projection, channels: int) -> nn.Module:
    """C -> 2C -> C, with batch norm inside unless the projector is plain."""
    norm = nn.Identity() if kind == "plain" else nn.BatchNorm1d(2 * channels)
    return nn.Sequential(
        nn.Linear(channels, 2 * channels), norm, nn.ReLU(inplace=True), nn.Linear(2 * channels, channels)
    )


def mlp(widths: Sequence[int], *, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with batch norm and ReLU in between: the projectors and predictors of global methods.

    Args:
        widths: channels in, of every layer between, and out.
        last_norm: whether a batch norm ends it, as in SimSiam's projector.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last_norm))
    return nn.Sequential(*layers, *([nn.BatchNorm1d(widths[-1])] if last_norm else []))


def pooled(features: Tensor) -> Tensor:
    """The mean of a map over space, (B, C, *S) to (B, C), in float32 at least.

    A mean that is rounded to bfloat16 can lose what a batch norm over samples that are much alike enlarges.
    """
    return features.flatten(2).mean(2, dtype=torch.promote_types(features.dtype, torch.float32))


def per_cell(layers: nn.Module, features: Tensor) -> Tensor:
    """Layers for rows applied to every cell of a map, as 1x1 convolutions: (B, C, *S) to (B, C', *S)."""
    cells = features.movedim(1, -1)  # (B, *S, C)
    rows: Tensor = layers(cells.reshape(-1, cells.shape[-1]))
    return rows.reshape(*cells.shape[:-1], -1).movedim(-1, 1)


class Branch(nn.Module):
    """Encoder and projector: what a target network is a copy of."""

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, x: Tensor) -> Tensor:
        """A view (B, C, *S) to its projection (B, E)."""
        projected: Tensor = self.projector(pooled(self.encoder(x)[-1]))
        return projected


class Embedder(nn.Module):
    """Pooled features of a map, projected (the target z) and predicted from there (p)."""

    projector: nn.Module

    def __init__(self, kind: Projection, channels: int) -> None:
        super().__init__()
        self.projector, self.predictor = projector(kind, channels), predictor(kind, channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, *S) to prediction and projection, each (B, C)."""
        z = self.projector(pooled(features))
        return self.predictor(z), z


class Embedders(nn.ModuleDict):
    """An embedder for each scale of a pyramid that takes part."""

    def __init__(self, kind: Projection, channels: tuple[int, ...], scales: list[int]) -> None:
        super().__init__({str(s): Embedder(kind, channels[s]) for s in scales})

    def forward(self, maps: list[Tensor], scales: Iterable[int]) -> dict[int, tuple[Tensor, Tensor]]:
        """Prediction and projection at the wanted scales only."""
        return {s: self[str(s)](maps[s]) for s in sorted(scales)}

    def projectors(self) -> dict[int, nn.Module]:
        """The projector of every scale."""
        return {int(s): each.projector for s, each in self.items() if isinstance(each, Embedder)}


def middle_restorer(form: Restoration, channels: int, images: int, dimension: int, norm: Norm) -> nn.Module:
    """From the map of one scale to an image at that scale's resolution."""
    conv = LAYERS[dimension].conv
    if form == "sigmoid":
        normalised = norm_layer(norm, images, dimension)
        return nn.Sequential(conv(channels, images, 3, padding=1), normalised, nn.Sigmoid())
    return nn.Sequential(ConvBlock(channels, channels, dimension, norm, bias=True), conv(channels, images, 1))


def final_restorer(form: Restoration, channels: int, images: int, dimension: int) -> nn.Module:
    """From the finest map to the image."""
    conv = LAYERS[dimension].conv
    if form == "sigmoid":
        return nn.Sequential(conv(channels, images, 1), nn.Sigmoid())
    return nn.Sequential(conv(channels, images, 3, padding=1))


class Restorers(nn.Module):
    """Restoration at the finest scale, and one head for each scale that takes part."""

    def __init__(self, form: Restoration, net: Pyramid, scales: list[int]) -> None:
        super().__init__()
        self.strides, images, n = net.strides, net.in_channels, net.dimension
        self.heads = nn.ModuleDict(
            {str(s): middle_restorer(form, net.channels[s], images, n, net.norm) for s in scales}
        )
        self.final = final_restorer(form, net.channels[-1], images, n)
        self.interpolation = LAYERS[n].linear_interpolation

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The image from the finest map."""
        image: Tensor = self.final(maps[-1])
        return image

    def middle(self, maps: list[Tensor], scale: int) -> Tensor:
        """The image from one scale, linearly up-sampled to the full view."""
        image = self.heads[str(scale)](maps[scale])
        factor = float(self.strides[scale])
        return F.interpolate(image, scale_factor=factor, mode=self.interpolation, align_corners=False)
