"""The views of most methods as fields of their Config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from foveate.core.contracts import Draw, MethodConfig
from foveate.core.dims import defaults
from foveate.core.types import Batch, CropSpec, Dimension, Normalisation, Size
from foveate.views.appearance import INTENSITIES, Appearance, CropLook
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

    @property
    def appearances(self) -> Mapping[str, Appearance]:
        """How each kind of crop is corrupted, of those that are."""
        return {"global": self.global_appearance}

    @property
    def draws(self) -> Sequence[Draw]:
        """The parameters of these corruptions."""
        return [CropLook(crop=crop, appearance=look) for crop, look in self.appearances.items()]

    def corrupted(self, batch: Batch, crop: str = "global", *, channels: int, seed: int) -> Tensor:
        """The corrupted views of one kind (B, V, C, *S), the global ones unless said."""
        return corrupted_crop(batch, crop, self.appearances[crop], channels=channels, seed=seed)

    def views(self, batch: Batch, *, channels: int, seed: int) -> list[Tensor]:
        """The first two corrupted global views, each (B, C, *S)."""
        return list(self.corrupted(batch, channels=channels, seed=seed).unbind(1))[:2]
