"""Masked image modelling for convolutional pyramids (after SimMIM, Xie et al., CVPR 2022, arXiv:2111.09886).

    L = mean over masked voxels of (h(g(f(m x))) - x)^2

x is the normalised view, m hides a share of its blocks, f the encoder, g the decoder, h a last convolution. A
block is what one cell of the bottleneck stands for, so that no cell sees half a block.

Differs from the authors' code: theirs is for transformers, with a mask token and an absolute error. Here
hidden voxels have the mean of the view, and errors are squared as in the other restoring methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, final

import numpy as np
import torch
from torch import Tensor

from foveate.core.contracts import Draw, Method
from foveate.core.dims import defaults
from foveate.core.rng import stream
from foveate.core.types import Batch, Dimension, FoveateError, Progress, Size
from foveate.losses.restoration import restoration_error
from foveate.nets.heads import Restorers
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import Appearance, view_keys
from foveate.views.drawn import drawn
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """Masked image modelling.

    Attributes:
        global_crops: The view, in part hidden.
        global_appearance: What is done to it before: what is hidden is to be restored with it.
        mask_share: Share of the blocks that are hidden; at least one is, and one is not.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    name: Literal["masked"] = "masked"
    mask_share: float = 0.6

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """One view of a dimension and size."""
        crops = replace(defaults(dimension, size).global_crops, count=1)
        return cls(global_crops=crops, global_appearance=Appearance(normalisation="zscore"))


@final
@dataclass(frozen=True, kw_only=True)
class HiddenBlocks(Draw):
    """Which blocks of the global views are hidden.

    Attributes:
        stride: Side of a block.
        share: Of the blocks of a view.
    """

    stride: int
    share: float

    def draw(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Bool (B * V, *cells)."""
        views = batch["crops"]["global"].shape
        cells = [n // self.stride for n in views[3:]]
        keys = view_keys(batch["index"], views[1])
        return {"cells": torch.stack([draw_mask(cells, self.share, seed=seed, key=i) for i in keys])}


@final
class Masked(Method):
    """One view in part hidden, through a pyramid with a restoring head."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        if not 0 < config.mask_share < 1:
            raise FoveateError(f"method.mask_share {config.mask_share}: accepted are shares between 0 and 1.")
        self.restore = Restorers("linear", net, [])

    @property
    def hidden(self) -> HiddenBlocks:
        """What is drawn besides the view."""
        return HiddenBlocks(stride=self.net.stride, share=self.config.mask_share)

    @property
    def draws(self) -> Sequence[Draw]:
        """The view's, and what is hidden of it."""
        return [*self.config.draws, self.hidden]

    def looks(self, batch: Batch, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Whole and masked views (B * V, C, *S), and where the latter are hidden: bool (B * V, 1, *S)."""
        whole = self.config.corrupted(batch, channels=self.net.in_channels, seed=seed).flatten(0, 1)
        cells = drawn(batch, self.hidden, seed, whole.device)["cells"]
        mask = blocks(cells, self.net.stride)[:, None]
        means = whole.mean(tuple(range(2, whole.ndim)), keepdim=True)
        return whole, torch.where(mask, means, whole), mask

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The error where the view was hidden."""
        whole, masked, mask = self.looks(batch, progress.seed)
        restored = self.restore(self.net(masked))
        return {"masked": restoration_error(restored, whole, "l2", mask[:, 0].to(whole.dtype))}

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Whole, masked, and restored where it was hidden."""
        whole, masked, mask = self.looks(batch, progress.seed)
        restored = torch.where(mask, self.restore(self.net(masked)).to(whole.dtype), whole)
        return {"clean": whole, "corrupted": masked, "restored": restored}


def draw_mask(cells: Sequence[int], share: float, *, seed: int, key: int) -> Tensor:
    """Which blocks of a view are hidden: bool (*cells)."""
    total = math.prod(cells)
    count = min(max(1, round(share * total)), max(1, total - 1))
    chosen = np.zeros(total, np.bool_)
    chosen[stream(seed, "masked blocks", key).permutation(total)[:count]] = True
    return torch.from_numpy(chosen).reshape(tuple(cells))


def blocks(cells: Tensor, stride: int) -> Tensor:
    """Every cell of (B, *cells) as a block of voxels: (B, *S)."""
    for axis in range(1, cells.ndim):
        wider = cells.unsqueeze(axis + 1).expand(*cells.shape[: axis + 1], stride, *cells.shape[axis + 1 :])
        cells = wider.flatten(axis, axis + 1)
    return cells


build = Masked
