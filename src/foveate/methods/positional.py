"""Positional contrast: views at like positions of their volumes belong together (Zeng et al., MICCAI 2021).

    L = mean over views i of the mean over j with |u_i - u_j| < t of -log e(i, j) / sum over k != i of e(i, k)

e(i, j) = exp(z_i . z_j / tau), z = n(projector(pool(f(x)))), u the position along the volume: of a slice its
place among the slices, of a crop of a volume the middle of the crop along z. j may be any image of the batch,
of any patient; another view of i's own image always is one.

Differs from the authors' code: any encoder will do; the loss is not multiplied by tau / 0.07, which the rate
makes up for; views are shares of the image and not bent elastically.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self, final

import torch
from torch import Tensor, nn

from foveate.core.contracts import Draw, Method
from foveate.core.types import Batch, CropSpec, Dimension, FoveateError, Progress, Size
from foveate.losses.gather import joined
from foveate.losses.places import Kernel, Places, answered, place_contrast, sites
from foveate.nets.heads import pooled
from foveate.nets.pyramid import Pyramid
from foveate.views.alignment import Sites
from foveate.views.appearance import Appearance
from foveate.views.drawn import drawn
from foveate.views.settings import ViewsConfig

VIEWS = Sites(crop="global", cells=0)


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """Positional contrast.

    Attributes:
        global_crops: The two compared views.
        global_appearance: Their corruption; the published one is none.
        threshold: t: how far apart positions are the same, as a share of the volume.
        hidden: Channels inside the projector.
        embedding: Channels of the embeddings.
        temperature: tau.
    """

    name: Literal["positional"] = "positional"
    threshold: float = 0.35
    hidden: int = 512
    embedding: int = 512
    temperature: float = 0.1

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """Slices turned and mirrored at will, as published; volumes as the other methods here see them."""
        config = super().preset(dimension, size)
        config = replace(config, global_appearance=Appearance(normalisation="zscore"))
        config = replace(config, global_crops=TURNED[dimension](config.global_crops))
        return replace(config, hidden=128, embedding=64) if size == "small" else config

    @property
    def draws(self) -> Sequence[Draw]:
        """What is drawn for the views, and where they lie."""
        return [*super().draws, VIEWS]


TURNED: dict[int, Callable[[CropSpec], CropSpec]] = {
    2: partial(replace, volume_share=(0.5, 1.0), flip_axes=(0, 1), rotation_degrees=180.0),
    3: replace,
}


@final
class Positional(Method):
    """One encoder, one projector."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        if not 0 < config.threshold <= 1:
            raise FoveateError(f"method.threshold {config.threshold}: accepted is a share above 0, up to 1.")
        if config.global_crops.count < 2:
            raise FoveateError("method.global_crops.count: accepted are 2 views or more.")
        net.keep_scales(0)
        inside = nn.Linear(net.encoder_channels[-1], config.hidden)
        self.projector = nn.Sequential(inside, nn.ReLU(), nn.Linear(config.hidden, config.embedding))
        self.kernel = Kernel(sigma=torch.inf, gamma=1.0, rho=config.threshold, falloff="step")

    def places(self, batch: Batch, seed: int) -> Places:
        """Where the views of all processes lie, as far as it counts: along the last axis."""
        cells = sites(drawn(batch, VIEWS, seed, batch["crops"]["global"].device), stride=0)
        return cells._replace(position=cells.position[:, -1:], extent=cells.extent[:, -1:])

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """How well views find those at like positions in the batches of all processes."""
        views = self.config.corrupted(batch, channels=self.net.in_channels, seed=progress.seed)
        z = self.projector(pooled(self.net.encoder(views.flatten(0, 1))[-1]))
        rows = joined(z.unflatten(0, views.shape[:2])).flatten(0, 1)
        cells = self.places(batch, progress.seed)
        return {"contrast": place_contrast(rows, self.kernel(cells), cells.view, self.config.temperature)}

    def measures(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The share of the views that have another image at their position."""
        return {"positives/whole": answered(self.kernel.other_samples(self.places(batch, progress.seed)))}


build = Positional
