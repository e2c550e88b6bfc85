"""Models Genesis: restore a volume from four kinds of damage (Zhou et al., MICCAI 2019, arXiv:1908.06912).

    L = mean (f(x~) - x)^2,   x~ = paint( shuffle( curve( x )))

curve: intensities go through a random monotone Bezier function; shuffle: voxels change places inside small
windows; paint: boxes are filled with one value, or all but some boxes. Each happens to a share of the views.

Differs from the authors' code, which has another licence and was not used: written from the paper's idea.
Shuffled windows do not overlap; how often and how strong each damage is are choices of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, final

from torch import Tensor

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.types import Batch, Dimension, Progress, Size
from foveate.losses.restoration import Error, restoration_error
from foveate.nets.heads import Restoration, Restorers
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import Appearance
from foveate.views.pipeline import normalise, with_channels
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """Models Genesis.

    Attributes:
        global_crops: The restored view.
        global_appearance: Its damage.
        restoration: "sigmoid" regresses the view in [0, 1], "linear" the normalised view.
        error: What a wrong voxel costs: its square (l2), its size (l1), or Huber's mixture.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    skips: ClassVar[bool] = True
    name: Literal["models_genesis"] = "models_genesis"
    restoration: Restoration = "sigmoid"
    error: Error = "l2"

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """One view of a dimension and size; shuffled windows are up to a tenth of it wide."""
        crops = replace(defaults(dimension, size).global_crops, count=1)
        window = tuple(max(2, n // 10) for n in crops.grid)
        return cls(global_crops=crops, global_appearance=replace(DAMAGE, shuffle_window=window))


DAMAGE = Appearance(
    bezier_strength=1.0,
    bezier_probability=0.9,
    bezier_falling=0.5,
    shuffle_share=(0.5, 1.0),
    shuffle_probability=0.5,
    paint_windows=5,
    paint_probability=0.9,
    paint_outside=0.8,
)


@final
class ModelsGenesis(Method):
    """One damaged view through a network with a restoring head."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        self.restore = Restorers(config.restoration, net, [])

    def looks(self, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
        """What is to be restored and the damaged views, both (B * V, C, *S)."""
        channels = self.net.in_channels
        damaged = self.config.corrupted(batch, channels=channels, seed=seed).flatten(0, 1)
        clean = with_channels(batch["crops"]["global"], channels).flatten(0, 1)
        how = self.normalisation if self.config.restoration == "linear" else "none"
        return normalise(clean, how), damaged

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The error of the restoration."""
        clean, damaged = self.looks(batch, progress.seed)
        return {"restoration": restoration_error(self.restore(self.net(damaged)), clean, self.config.error)}

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Clean view, damaged view, restoration."""
        clean, damaged = self.looks(batch, progress.seed)
        return {"clean": clean, "damaged": damaged, "restored": self.restore(self.net(damaged))}


build = ModelsGenesis
