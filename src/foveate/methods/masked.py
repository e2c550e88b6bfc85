"""Masked image modelling for convolutional pyramids (after SimMIM, Xie et al., CVPR 2022, arXiv:2111.09886).

    L = mean over masked voxels of (h(g(f(m x))) - x)^2

x is the normalised view, m hides a share of its blocks, f the encoder, g the decoder, h a last convolution. A
block is what one cell of the bottleneck stands for, so that no cell sees half a block.

Differs from the authors' code: theirs is for transformers, with a mask token and an absolute error. Here
hidden voxels have the mean of the view, and errors are squared as in the other restoring methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, final

import numpy as np
import torch
from torch import Tensor

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.rng import stream
from foveate.core.types import Batch, Dimension, FoveateError, Progress, Size
from foveate.losses.restoration import restoration_error
from foveate.nets.heads import Restorers
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import Appearance
from foveate.views.pipeline import view_keys
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
class Masked(Method):
    """One view in part hidden, through a pyramid with a restoring head."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        if not 0 < config.mask_share < 1:
            raise FoveateError(f"method.mask_share {config.mask_share}: accepted are shares between 0 and 1.")
        self.restore = Restorers("linear", net, [])

    def looks(self, batch: Batch, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Whole and masked views (B * V, C, *S), and where the latter are hidden: bool (B * V, 1, *S)."""
        views = self.config.corrupted(batch, channels=self.net.in_channels, seed=seed)
        keys, whole = view_keys(batch["index"], views.shape[1]).tolist(), views.flatten(0, 1)
        grid, stride = whole.shape[2:], self.net.stride
        hidden = [draw_mask(grid, stride, self.config.mask_share, seed=seed, key=i) for i in keys]
        mask = torch.stack(hidden).to(whole.device)[:, None]
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


def draw_mask(grid: Sequence[int], stride: int, share: float, *, seed: int, key: int) -> Tensor:
    """Where a view of a grid is hidden, in blocks of the stride: bool (*S)."""
    cells = [n // stride for n in grid]
    total = int(np.prod(cells))
    count = min(max(1, round(share * total)), max(1, total - 1))
    chosen = np.zeros(total, np.bool_)
    chosen[stream(seed, "masked blocks", key).permutation(total)[:count]] = True
    return torch.from_numpy(np.kron(chosen.reshape(cells), np.ones([stride] * len(cells), np.bool_)))


build = Masked
