"""PCRLv2: pixels, semantics and scales in one objective (Zhou et al., TPAMI 2023, arXiv:2301.00772).

    L = L_pix + L_sia + L_loc + beta(t) L_mid,    beta(t) = (1 + cos(pi t)) / 2,  t in [0, 1]

L_pix restores the clean first view from its corrupted one at the finest scale, L_mid from the drawn scale s.
L_sia = C_s(x_1, x_2) compares the two global views, L_loc averages C over all local-global pairs, each at a
scale of its own. C is the symmetric negative cosine of pooled features.

Differs from the authors' code: beta follows the run's own length, not 240 epochs; sub-crops do not write
BatchNorm's running statistics and lie inside the pair's union box; swapped patches are disjoint (these three
as published under `compat: reference`); restoration heads that were not drawn are not computed, but decay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, Self, final

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.rng import stream
from foveate.core.types import Batch, CropSpec, Dimension, Progress, Size
from foveate.losses.agreement import mean, symmetric_cosine
from foveate.nets.heads import Embedders, Projection, Restoration, Restorers
from foveate.nets.layers import anchored, running_statistics
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import INTENSITIES, Appearance
from foveate.views.pipeline import normalise, with_channels
from foveate.views.settings import ViewsConfig

Scales = tuple[Sequence[int], Sequence[tuple[int, int, int]]]  # of the pair; (sub-crop, global view, scale)


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """PCRLv2; every default at size "paper" is the published code's value.

    Attributes:
        compat: "reference" brings back what the published code does and the paper does not say.
        global_crops: The two compared views; the first is restored.
        local_crops: The sub-crops.
        global_appearance: Corruption of the global views.
        local_appearance: Corruption of the sub-crops.
        scales: Decoder scales that take part, 0 the coarsest, or "all".
        scale_sampling: A scale for each compared pair, one shared by a step, or the mean over all.
        projector: What turns pooled features into embeddings.
        restoration: "sigmoid" heads regress the view in [0, 1], "linear" ones the normalised view.
        restore_views: Whether only the first global view is restored or both.
        stop_gradient: Whether projections are targets only; without it the embeddings collapse.
        pixel_weight: Weight of the restoration at the finest scale.
        middle_weight: Weight of the restoration at the drawn scale, before its decay.
        middle_decay: Whether that weight falls to 0 on a half cosine over the run.
        siamese_weight: Weight of the agreement of the two global views.
        local_weight: Weight of the agreement of sub-crops with global views.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    name: Literal["pcrlv2"] = "pcrlv2"
    compat: Literal["fixed", "reference"] = "fixed"
    local_crops: CropSpec
    local_appearance: Appearance
    scales: tuple[int, ...] | Literal["all"] = "all"
    scale_sampling: Literal["per_pair", "shared", "all"] = "per_pair"
    projector: Projection = "bn"
    restoration: Restoration = "sigmoid"
    restore_views: Literal["first", "both"] = "first"
    stop_gradient: bool = True
    pixel_weight: float = 1.0
    middle_weight: float = 1.0
    middle_decay: Literal["half_cosine", "constant"] = "half_cosine"
    siamese_weight: float = 1.0
    local_weight: float = 1.0

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The published values in a dimension, on the views of a size."""
        row = defaults(dimension, size)
        config = cls(
            global_crops=row.global_crops,
            local_crops=row.local_crops,
            global_appearance=GLOBAL_LOOKS[dimension, size],
            local_appearance=INTENSITIES[dimension],
            restoration=RESTORATIONS[dimension],
        )  # at batch 4 the terms below drown the pixels at weight 1
        return replace(config, siamese_weight=0.02, local_weight=0.02) if size == "small" else config

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """Global and local windows."""
        return {**super().crops, "local": replace(self.local_crops, loose=self.compat == "reference")}

    @property
    def appearances(self) -> Mapping[str, Appearance]:
        """Of global and local windows."""
        whole = replace(self.global_appearance, swap_overlaps=self.compat == "reference")
        return {"global": whole, "local": self.local_appearance}


HOLES = replace(INTENSITIES[2], cutout_size=(32, 32), cutout_count=3)
SWAPS = replace(INTENSITIES[3], swap_patch=(8, 4, 4), swap_count=100)
GLOBAL_LOOKS: dict[tuple[int, str], Appearance] = {
    (2, "paper"): HOLES,
    (2, "small"): replace(HOLES, cutout_size=(14, 14)),
    (3, "paper"): SWAPS,
    (3, "small"): replace(SWAPS, swap_count=25),
}
RESTORATIONS: dict[int, Restoration] = {2: "linear", 3: "sigmoid"}


@final
class PCRLv2(Method):
    """Two corrupted global views and some corrupted sub-crops through one pyramid."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        self.scales = net.chosen_scales(config.scales)
        self.embed = Embedders(config.projector, net.channels, self.scales)
        self.agree = partial(symmetric_cosine, stop_gradient=config.stop_gradient)
        self.restore = Restorers(config.restoration, net, self.scales)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The four terms."""
        targets, views, crops = self.looks(batch, progress.seed)
        return self.terms(targets, views, crops, self.draw(crops.shape[1], progress), progress.half_cosine)

    def looks(self, batch: Batch, seed: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Targets and corrupted global views (each B, C, *S), and corrupted sub-crops (B, K, C, *s)."""
        c, look = self.config, partial(self.config.corrupted, batch, channels=self.net.in_channels, seed=seed)
        how = c.normalisation if c.restoration == "linear" else "none"
        clean = with_channels(batch["crops"]["global"], self.net.in_channels)
        targets = [normalise(x, how) for x in clean.unbind(1)]
        return targets, list(look("global").unbind(1)), look("local")

    def draw(self, crops: int, progress: Progress) -> Scales:
        """The scales of a step, the same on all ranks; the two draws are streams of their own."""
        every = [(k, j) for k in range(crops) for j in (0, 1)]
        if self.config.scale_sampling == "all":
            return self.scales, [(k, j, s) for k, j in every for s in self.scales]
        names = ("pcrlv2 scale of the pair", "pcrlv2 scales of the locals")
        pick, picks = (stream(progress.seed, name, progress.step).integers for name in names)
        pair, drawn = self.scales[pick(len(self.scales))], picks(len(self.scales), size=len(every))
        each = [pair if self.config.scale_sampling == "shared" else self.scales[i] for i in drawn]
        return [pair], [(k, j, s) for (k, j), s in zip(every, each, strict=True)]

    def terms(
        self, targets: list[Tensor], views: list[Tensor], crops: Tensor, scales: Scales, beta: float
    ) -> dict[str, Tensor]:
        """The losses at given scales; what is not restored is decoded only as far as it is compared."""
        c, every = self.config, len(self.net.channels)
        restored = 0 if c.pixel_weight + c.middle_weight == 0 else 2 if c.restore_views == "both" else 1
        pair, local = scales[0] if c.siamese_weight else (), scales[1] if c.local_weight else ()
        wanted = [{*pair, *(s for _, j, s in local if j == view)} for view in (0, 1)]
        depth = [every if j < restored else 1 + max(w, default=-1) for j, w in enumerate(wanted)]
        maps = [self.net(x, n) if n else [] for x, n in zip(views, depth, strict=True)]
        sides = [self.embed(m, w) for m, w in zip(maps, wanted, strict=True)]
        losses: dict[str, Tensor] = {}
        if pair:
            losses["siamese"] = c.siamese_weight * mean(self.agree(sides[0][s], sides[1][s]) for s in pair)
        if local:
            small = self.embed_crops(crops, {s for _, _, s in local})
            losses["local"] = c.local_weight * mean(self.agree(sides[j][s], small[s][k]) for k, j, s in local)
        both = list(zip(maps, targets, strict=False))[:restored]
        if c.pixel_weight:
            losses["pixel"] = c.pixel_weight * mean(F.mse_loss(self.restore(m), y) for m, y in both)
        if c.middle_weight:
            weight = c.middle_weight * (beta if c.middle_decay == "half_cosine" else 1.0)
            errors = [F.mse_loss(self.restore.middle(m, s), y) for m, y in both for s in scales[0]]
            losses["middle"] = weight * mean(errors)
        return anchored(losses, self, "net." if restored else "net.encoder.", c.compat == "fixed")

    def embed_crops(self, crops: Tensor, scales: set[int]) -> dict[int, list[tuple[Tensor, ...]]]:
        """All sub-crops in one pass; scale -> the embedding of each."""
        with running_statistics(self.net, update=self.config.compat == "reference"):
            maps = self.net(crops.flatten(0, 1), 1 + max(scales))
        sides = {s: [x.unflatten(0, crops.shape[:2]) for x in e] for s, e in self.embed(maps, scales).items()}
        return {s: list(zip(p.unbind(1), z.unbind(1), strict=True)) for s, (p, z) in sides.items()}

    def embedders(self) -> dict[int, nn.Module]:
        """The projector of every scale that takes part."""
        return self.embed.projectors()

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Clean view, corrupted view, restoration at full resolution and from every scale."""
        targets, views, _ = self.looks(batch, progress.seed)
        maps = self.net(views[0])
        scales = {f"from 1/{self.net.strides[s]}": self.restore.middle(maps, s) for s in self.scales[::-1]}
        return {"clean": targets[0], "corrupted": views[0], "restored": self.restore(maps), **scales}


build = PCRLv2
