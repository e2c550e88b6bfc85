"""PGL: prior-guided local self-supervised learning (Xie et al., 2020, arXiv:2011.12640).

    L_local = mean over aligned cells r of || n(q(F_1)_r) - sg n(F'_2)_r ||^2, and the same from view 2 to 1

F are projected feature maps of two overlapping views of one volume, F' those of a target that follows by
moving average, q a predictor, n unit length. The views' affines are the prior: both maps are read on one grid
over the overlap, flips, crops and scales undone, and compared where neither is extrapolated.

Differs from the authors' code, which was never released: written from the abstract and a re-implementer's
notes on crops, flips and intensities; widths, momentum and the level are choices of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self, final

from torch import Tensor, nn

from foveate.core.contracts import Draw
from foveate.core.dims import defaults
from foveate.core.types import Batch, CropSpec, Dimension, FoveateError, Progress, Size
from foveate.losses.agreement import normalised_error
from foveate.nets.ema import Momentum, TargetMethod, as_target, frozen_copy, momentum_at
from foveate.nets.heads import mlp, per_cell, pooled
from foveate.nets.layers import anchored
from foveate.nets.pyramid import Pyramid
from foveate.views.alignment import Overlap, aligned, seen_by_both
from foveate.views.appearance import Appearance
from foveate.views.drawn import drawn
from foveate.views.settings import ViewsConfig


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """PGL.

    Attributes:
        global_crops: The two views; they must overlap.
        global_appearance: Their corruption.
        features: Whether maps of the encoder or of the decoder are compared.
        level: Which of these maps, 0 the coarsest.
        hidden: Channels inside projectors and predictors.
        embedding: Channels of the embeddings.
        momentum: Of the target at the start of the run.
        momentum_schedule: Whether it rises to 1 on a half cosine or stays.
        local_weight: Weight of the agreement of aligned cells.
        global_weight: Weight of BYOL's agreement of the pooled bottleneck; with local_weight 0 the baseline.
    """

    name: Literal["pgl"] = "pgl"
    features: Literal["encoder", "decoder"] = "decoder"
    level: int = 0
    hidden: int = 512
    embedding: int = 256
    momentum: float = 0.99
    momentum_schedule: Momentum = "cosine"
    local_weight: float = 1.0
    global_weight: float = 0.0

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The noted crops and intensities, on the grid of a dimension and size."""
        grid = GRIDS.get((dimension, size), defaults(dimension, size).global_crops.grid)
        crops = CropSpec(
            count=2, grid=grid, grid_scale=(1.1, 1.4), min_iou=0.1, flip_axes=tuple(range(dimension))
        )
        config = cls(global_crops=crops, global_appearance=LOOK, level=LEVELS[dimension])
        return replace(config, hidden=128, embedding=64, momentum=0.97) if size == "small" else config


GRIDS = {(3, "paper"): (96, 96, 16)}
LEVELS = {2: 1, 3: 0}  # stride 8 of a ResNet's decoder, 4 of the 3D U-Net's: cells enough to compare
LOOK = Appearance(
    blur_sigma=(0.5, 1.0),
    blur_probability=0.2,
    noise_std=(0.0, math.sqrt(0.1)),
    noise_probability=0.1,
    brightness=0.25,
    brightness_probability=0.5,
    log_gamma=(math.log(0.7), math.log(1.5)),
    gamma_probability=0.5,
    normalisation="zscore",
)


class Branch(nn.Module):
    """Network and projectors."""

    def __init__(self, net: Pyramid, projectors: nn.ModuleDict, config: Config) -> None:
        super().__init__()
        self.net, self.projectors, self.config = net, projectors, config

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Projected cells (B, E, *S) of the chosen level, and the projected pooled bottleneck (B, E)."""
        c, encoded = self.config, self.net.encoder(x)
        inputs = {"global": pooled(encoded[-1])}
        if "local" in self.projectors:
            maps = self.net.decoder(encoded, c.level + 1) if c.features == "decoder" else encoded[::-1]
            inputs["local"] = maps[c.level]
        return {k: per_cell(layers, inputs[k]) for k, layers in self.projectors.items()}


@final
class PGL(TargetMethod):
    """An online branch with predictors, and a target branch."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        inputs = term_channels(net, config)
        net.keep_scales(config.level + 1 if config.features == "decoder" and "local" in inputs else 0)
        wide, out = config.hidden, config.embedding
        self.projectors = nn.ModuleDict({term: mlp((c, wide, out)) for term, c in inputs.items()})
        self.predictors = nn.ModuleDict({term: mlp((out, wide, out)) for term in inputs})
        self.target = frozen_copy(self.online)
        start, schedule = config.momentum, config.momentum_schedule
        self.momentum = partial(momentum_at, start=start, schedule=schedule)

    @property
    def online(self) -> Branch:
        """What the target follows."""
        return Branch(self.net, self.projectors, self.config)

    @property
    def draws(self) -> Sequence[Draw]:
        """The views', and their overlap in the cells of the compared level."""
        c = self.config
        strides = self.net.strides if c.features == "decoder" else self.net.encoder.strides[::-1]
        cells = tuple(n // strides[c.level] for n in c.global_crops.grid)
        return [*c.draws, Overlap(crop="global", cells=cells)] if c.local_weight else c.draws

    def overlap(self, batch: Batch, like: Tensor, seed: int) -> dict[str, Tensor]:
        """Where the two views overlap, in the cells of a map."""
        return drawn(batch, Overlap(crop="global", cells=tuple(like.shape[2:])), seed, like.device)

    def exported(self) -> dict[str, nn.Module]:
        """The online encoder; the decoder only where all of it took part."""
        whole = len(self.net.decoder.blocks) == len(self.net.channels)
        return self.net.parts if whole else super().exported()

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The local and the global term, each both ways."""
        c, views = self.config, self.views(batch, progress.seed)
        with as_target(self.target):
            targets = [self.target(x) for x in views]
        online = [self.online(x) for x in views]
        losses = {}
        for term, predictor in self.predictors.items():
            maps, valid = [per_cell(predictor, z[term]) for z in online] + [z[term] for z in targets], None
            if term == "local":
                maps, valid = aligned(maps, self.overlap(batch, maps[0], progress.seed))
            p_1, p_2, z_1, z_2 = maps
            errors = normalised_error(p_1, z_2, valid) + normalised_error(p_2, z_1, valid)
            losses[term] = (c.local_weight if term == "local" else c.global_weight) * errors
        # Encoder stages below a finer level take part in nothing: a gradient of 0 keeps the graph static.
        return anchored(losses, self, but="target.", wanted=c.features == "encoder" and c.level > 0)

    def marks(self, batch: Batch, seed: int) -> Mapping[str, Tensor]:  # noqa: ARG002
        """What of each view the other shows as well."""
        return {"overlap": seen_by_both(batch["affines"]["global"], self.crops["global"].grid)}

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The views, and what each shows of their overlap: these two must be the same place."""
        first, second = self.views(batch, progress.seed)
        (one, two), _ = aligned([first, second], self.overlap(batch, first, progress.seed))
        return {"view 1": first, "view 2": second, "overlap in 1": one, "overlap in 2": two}


def term_channels(net: Pyramid, config: Config) -> dict[str, int]:
    """Channels of the maps that each term compares; refuses what cannot be compared."""
    every = net.channels if config.features == "decoder" else net.encoder_channels[::-1]
    if not 0 <= config.level < len(every):
        raise FoveateError(
            f"method.level {config.level}: the {config.features} has levels 0 (coarsest) to {len(every) - 1}."
        )
    if config.global_crops.count != 2 or config.global_crops.min_iou <= 0:
        raise FoveateError(
            "method.global_crops: accepted are count 2 and min_iou above 0: views that overlap."
        )
    channels = {"local": every[config.level], "global": net.encoder_channels[-1]}
    weights = {"local": config.local_weight, "global": config.global_weight}
    if not any(weights.values()):
        raise FoveateError("method.local_weight and method.global_weight are 0; one must be above.")
    return {term: channels[term] for term, weight in weights.items() if weight}


build = PGL
