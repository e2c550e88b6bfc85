"""Context Restoration: put swapped patches back (Chen et al., Medical Image Analysis 58, 2019).

    x~ = x with T swaps of two disjoint patches, one after the other;    L = mean (f(x~) - x)^2

Every intensity stays, only its context breaks. With skip connections for a later segmentation, with a light
decoder without skips (`--decoder.light true --decoder.skips false`) for a later classification.

Differs from the authors' code, which was not at hand: written from the abstract. Patch sizes and T are
choices of ours; patches are disjoint and reach every place; the restored image is the normalised one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, final

from torch import Tensor

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.types import Batch, Dimension, FoveateError, Progress, Size
from foveate.losses.restoration import Error, restoration_error
from foveate.nets.heads import Restorers
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import Appearance
from foveate.views.pipeline import moved_by, normalise, with_channels
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """Context Restoration.

    Attributes:
        global_crops: The restored view.
        global_appearance: Its corruption: the swaps, and the normalisation of input and target.
        error: What a wrong voxel costs: its square (l2), its size (l1), or Huber's mixture.
        moved_weight: Weight of voxels that were swapped, those left alone having 1: with skip connections
            the latter are nearly free.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    skips: ClassVar[bool] = True
    name: Literal["context_restoration"] = "context_restoration"
    error: Error = "l2"
    moved_weight: float = 1.0

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """One view of a dimension and size, with about a third of it disturbed."""
        crops = replace(defaults(dimension, size).global_crops, count=1)
        return cls(global_crops=crops, global_appearance=LOOKS[dimension, size])


STILL = Appearance(normalisation="zscore")
LOOKS: dict[tuple[int, str], Appearance] = {
    (2, "paper"): replace(STILL, swap_patch=(8, 8), swap_patch_largest=(24, 24), swap_count=30),
    (2, "small"): replace(STILL, swap_patch=(4, 4), swap_patch_largest=(12, 12), swap_count=25),
    (3, "paper"): replace(STILL, swap_patch=(4, 4, 4), swap_patch_largest=(12, 12, 12), swap_count=50),
    (3, "small"): replace(STILL, swap_patch=(3, 3, 3), swap_patch_largest=(6, 6, 6), swap_count=60),
}


@final
class ContextRestoration(Method):
    """One corrupted view through a network with a restoring head."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        if not (config.global_appearance.swap_count and config.global_appearance.swap_patch):
            raise FoveateError(
                "method.global_appearance: swap_count and swap_patch are empty; without a swap there is "
                "nothing to restore."
            )
        self.restore = Restorers("linear", net, [])

    def looks(self, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
        """Clean and corrupted views (B * V, C, *S), both normalised."""
        channels = self.net.in_channels
        corrupted = self.config.corrupted(batch, channels=channels, seed=seed).flatten(0, 1)
        clean = with_channels(batch["crops"]["global"], channels).flatten(0, 1)
        return normalise(clean, self.normalisation), corrupted

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The error of the restoration."""
        c = self.config
        clean, corrupted = self.looks(batch, progress.seed)
        weights = None
        if c.moved_weight != 1:
            moved = moved_by(batch, "global", c.global_appearance, seed=progress.seed)
            weights = 1 + (c.moved_weight - 1) * moved.to(clean)
        restored = self.restore(self.net(corrupted))
        return {"restoration": restoration_error(restored, clean, c.error, weights)}

    def marks(self, batch: Batch, seed: int) -> Mapping[str, Tensor]:
        """Where patches were swapped."""
        views = batch["crops"]["global"]
        moved = moved_by(batch, "global", self.config.global_appearance, seed=seed)
        return {"swapped": moved.reshape(*views.shape[:2], *views.shape[3:])}

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Clean view, swapped view, restoration."""
        clean, corrupted = self.looks(batch, progress.seed)
        return {"clean": clean, "swapped": corrupted, "restored": self.restore(self.net(corrupted))}


build = ContextRestoration
