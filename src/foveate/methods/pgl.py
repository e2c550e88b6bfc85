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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.types import Batch, CropSpec, Dimension, FoveateError, Normalisation, Progress, Size
from foveate.losses.agreement import normalised_error
from foveate.nets.ema import Momentum, as_target, follow, frozen_copy, momentum_at
from foveate.nets.heads import mlp, per_cell, pooled
from foveate.nets.layers import anchored
from foveate.nets.pyramid import Pyramid
from foveate.views.alignment import aligned
from foveate.views.appearance import Appearance
from foveate.views.pipeline import corrupted_crop


@dataclass(frozen=True, kw_only=True)
class Config:
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

    exports: ClassVar[tuple[str, ...]] = ("encoder",)
    name: Literal["pgl"] = "pgl"
    global_crops: CropSpec
    global_appearance: Appearance
    features: Literal["encoder", "decoder"] = "decoder"
    level: int = 0
    hidden: int = 512
    embedding: int = 256
    momentum: float = 0.99
    momentum_schedule: Momentum = "cosine"
    local_weight: float = 1.0
    global_weight: float = 0.0

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Config:
        """The noted crops and intensities, on the grid of a dimension and size."""
        grid = GRIDS.get((dimension, size), defaults(dimension, size).global_crops.grid)
        crops = CropSpec(
            count=2, grid=grid, grid_scale=(1.1, 1.4), min_iou=0.1, flip_axes=tuple(range(dimension))
        )
        return cls(global_crops=crops, global_appearance=LOOK, level=LEVELS[dimension], **WIDTHS[size])


GRIDS = {(3, "paper"): (96, 96, 16)}
LEVELS = {2: 1, 3: 0}  # stride 8 of a ResNet's decoder, 4 of the 3D U-Net's: cells enough to compare
WIDTHS: dict[str, dict[str, Any]] = {"paper": {}, "small": {"hidden": 128, "embedding": 64, "momentum": 0.97}}
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


class PGL(Method):
    """An online branch with predictors, and a target branch."""

    net: Pyramid

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net, config
        inputs = term_channels(net, config)
        net.keep_scales(config.level + 1 if config.features == "decoder" and "local" in inputs else 0)
        wide, out = config.hidden, config.embedding
        self.projectors = nn.ModuleDict({term: mlp((c, wide, out)) for term, c in inputs.items()})
        self.predictors = nn.ModuleDict({term: mlp((out, wide, out)) for term in inputs})
        self.target = frozen_copy(self.online)

    @property
    def online(self) -> Branch:
        """What the target follows."""
        return Branch(self.net, self.projectors, self.config)

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """Two overlapping windows."""
        return {"global": self.config.global_crops}

    @property
    def normalisation(self) -> Normalisation:
        """What the encoder's input went through."""
        return self.config.global_appearance.normalisation

    def exported(self) -> dict[str, nn.Module]:
        """The online encoder; the decoder only where all of it took part."""
        whole = len(self.net.decoder.blocks) == len(self.net.channels)
        return {"encoder": self.net.encoder, **({"decoder": self.net.decoder} if whole else {})}

    def views(self, batch: Batch, seed: int) -> list[Tensor]:
        """The two corrupted views, each (B, C, *S)."""
        look, channels = self.config.global_appearance, self.net.in_channels
        return list(corrupted_crop(batch, "global", look, channels=channels, seed=seed).unbind(1))

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
                maps, valid = aligned(maps, batch["affines"]["global"], views[0].shape[2:])
            p_1, p_2, z_1, z_2 = maps
            errors = normalised_error(p_1, z_2, valid) + normalised_error(p_2, z_1, valid)
            losses[term] = (c.local_weight if term == "local" else c.global_weight) * errors
        # Encoder stages below a finer level take part in nothing: a gradient of 0 keeps the graph static.
        return anchored(losses, self, but="target.", wanted=c.features == "encoder" and c.level > 0)

    def after_step(self, progress: Progress) -> None:
        """The target follows."""
        c = self.config
        follow(self.target, self.online, momentum_at(progress, c.momentum, c.momentum_schedule))

    def weights_given(self) -> None:
        """The target starts where the network does."""
        follow(self.target, self.online, 0.0)

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The views, and what each shows of their overlap: these two must be the same place."""
        first, second = self.views(batch, progress.seed)
        (one, two), _ = aligned([first, second], batch["affines"]["global"], first.shape[2:])
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
