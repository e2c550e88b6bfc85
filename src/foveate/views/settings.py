"""The views of most methods as fields of their Config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from foveate.core.contracts import MethodConfig
from foveate.core.dims import defaults
from foveate.core.types import Batch, CropSpec, Dimension, Normalisation, Size
from foveate.views.appearance import INTENSITIES, Appearance
from foveate.views.pipeline import corrupted_crop


@dataclass(frozen=True, kw_only=True)
class ViewsConfig(MethodConfig):
    """Windows of an image, and how they are corrupted.

    Attributes:
        global_crops: The views.
        global_appearance: Their corruption.
    """

    global_crops: CropSpec
    global_appearance: Appearance

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The views of a dimension and size, with the intensities of the dimension."""
        crops = defaults(dimension, size).global_crops
        return cls(global_crops=crops, global_appearance=INTENSITIES[dimension])

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """Global windows."""
        return {"global": self.global_crops}

    @property
    def normalisation(self) -> Normalisation:
        """That of the global views."""
        return self.global_appearance.normalisation

    def corrupted(self, batch: Batch, *, channels: int, seed: int) -> Tensor:
        """The corrupted global views (B, V, C, *S)."""
        return corrupted_crop(batch, "global", self.global_appearance, channels=channels, seed=seed)

    def views(self, batch: Batch, *, channels: int, seed: int) -> list[Tensor]:
        """The first two corrupted global views, each (B, C, *S)."""
        return list(self.corrupted(batch, channels=channels, seed=seed).unbind(1))[:2]
