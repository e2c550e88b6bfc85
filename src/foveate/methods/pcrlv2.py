"""PCRLv2: pixels, semantics and scales in one objective (Zhou et al., TPAMI 2023, arXiv:2301.00772).

    L = L_pix + L_sia + L_loc + beta(t) L_mid,    beta(t) = (1 + cos(pi t)) / 2,  t in [0, 1]

L_pix restores the clean first view from its corrupted one at the finest scale, L_mid from the drawn scale s;
L_sia = C_s(x_1, x_2) compares the two global views there; L_loc is the mean of C over every pair of a local
and a global view, each pair at a scale of its own. C is the symmetric negative cosine of pooled features.

Differs from the authors' code: beta follows the run's own length, not 240 epochs; local views do not write
BatchNorm's running statistics, lie inside the union box of the pair, and swap disjoint patches only (all three
as published under `compat: reference`); restoration heads that were not drawn are not computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.core.rng import stream
from foveate.core.types import Batch, CropSpec, Dimension, FoveateError, Progress, Size
from foveate.losses.agreement import symmetric_cosine
from foveate.nets.heads import Embedder, Projection, Restoration, final_restorer, middle_restorer, resize_to
from foveate.nets.layers import running_statistics
from foveate.nets.pyramid import Pyramid
from foveate.views.pipeline import Appearance, corrupt, normalise

Pair = tuple[int, int, int]  # local view, global view, scale


@dataclass(frozen=True, kw_only=True)
class Config:
    """PCRLv2; every default is the published code's value.

    Attributes:
        name: The method.
        compat: "reference" brings back what the published code does and the paper does not say.
        global_crops: The two compared views; the first is restored.
        local_crops: The sub-crops.
        global_appearance: Corruption of the global views.
        local_appearance: Corruption of the sub-crops.
        scales: Decoder scales that take part, 0 the coarsest, or "all".
        scale_sampling: One scale for each compared pair, one shared by a step, or the mean over all scales.
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

    name: Literal["pcrlv2"] = "pcrlv2"
    compat: Literal["fixed", "reference"] = "fixed"
    global_crops: CropSpec
    local_crops: CropSpec
    global_appearance: Appearance
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
    def preset(cls, dimension: Dimension, size: Size) -> Config:
        """The published values in a dimension, on the views of a size."""
        row = defaults(dimension, size)
        global_look, local_look = APPEARANCE[dimension]
        return cls(
            global_crops=row.global_crops,
            local_crops=row.local_crops,
            global_appearance=global_look,
            local_appearance=local_look,
            restoration=RESTORATION[dimension],
        )


VOLUME = Appearance(
    blur_sigma=(0.0, 2.0), noise_std=(0.0, 0.25), log_gamma=(-0.3, 0.3), normalisation="zscore"
)
PICTURE = Appearance(
    blur_sigma=(0.1, 2.0), blur_probability=0.5, brightness=0.4, contrast=0.4, normalisation="imagenet"
)
APPEARANCE = {
    2: (replace(PICTURE, cutout_size=(32, 32), cutout_count=3), PICTURE),
    3: (replace(VOLUME, swap_patch=(8, 4, 4), swap_count=100), VOLUME),
}
RESTORATION: dict[int, Restoration] = {2: "linear", 3: "sigmoid"}


class PCRLv2(Method):
    """Two corrupted global views and some corrupted sub-crops through one pyramid."""

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net, config
        available = range(len(net.channels))
        self.scales = list(available) if config.scales == "all" else sorted(set(config.scales))
        if not self.scales or not set(self.scales) <= set(available):
            raise FoveateError(
                f"method.scales {config.scales}: this pyramid has scales 0 (coarsest) to {available[-1]}; "
                'accepted: some of these, or "all".'
            )
        at, images = net.channels, net.in_channels
        self.embedders = nn.ModuleDict({str(s): Embedder(config.projector, at[s]) for s in self.scales})
        self.restorers = nn.ModuleDict(
            {
                str(s): middle_restorer(config.restoration, at[s], images, net.dimension, net.norm)
                for s in self.scales
            }
        )
        self.final = final_restorer(config.restoration, at[-1], images, net.dimension)

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """Global and local windows."""
        local = replace(self.config.local_crops, loose=self.config.compat == "reference")
        return {"global": self.config.global_crops, "local": local}

    def exported(self) -> dict[str, nn.Module]:
        """Encoder and decoder: what a downstream task starts from."""
        return {"encoder": self.net.encoder, "decoder": self.net.decoder}

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The four terms."""
        targets, views, locals_ = self.looks(batch, progress.seed)
        scale, pairs = self.draw_scales(locals_.shape[1], progress)
        return self.terms(targets, views, locals_, scale, pairs, progress.fraction)

    def looks(self, batch: Batch, seed: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Targets and corrupted global views (each B, C, *S), and corrupted sub-crops (B, K, C, *s)."""
        c = self.config
        clean, small = (self.as_channels(batch["crops"][name]) for name in ("global", "local"))
        look = replace(c.global_appearance, swap_overlaps=c.compat == "reference")
        views = corrupt_views(clean, batch["index"], look, seed, "global")
        locals_ = corrupt_views(small, batch["index"], c.local_appearance, seed, "local")
        linear = c.restoration == "linear"
        targets = [normalise(x, look.normalisation) if linear else x for x in clean.unbind(1)]
        return targets, list(views.unbind(1)), locals_

    def draw_scales(self, locals_: int, progress: Progress) -> tuple[list[int], list[Pair]]:
        """Scales of the global pair, and of every local-global pair; the same on all ranks."""
        every = [(k, j) for k in range(locals_) for j in (0, 1)]
        if self.config.scale_sampling == "all":
            return self.scales, [(k, j, s) for k, j in every for s in self.scales]
        pick = stream(progress.seed, "pcrlv2 scale of the pair", progress.step).integers
        pair = self.scales[pick(len(self.scales))]
        if self.config.scale_sampling == "shared":
            return [pair], [(k, j, pair) for k, j in every]
        pick = stream(progress.seed, "pcrlv2 scales of the locals", progress.step).integers
        drawn = pick(len(self.scales), size=len(every))
        return [pair], [(k, j, self.scales[i]) for (k, j), i in zip(every, drawn, strict=True)]

    def terms(
        self,
        targets: list[Tensor],
        views: list[Tensor],
        locals_: Tensor,
        scales: list[int],
        pairs: list[Pair],
        time: float,
    ) -> dict[str, Tensor]:
        """The losses of corrupted views at given scales; `time` runs from 0 to 1.

        Nothing that no term needs is computed: a view that is not restored stops at its coarsest need.
        """
        c = self.config
        restored = 0 if c.pixel_weight + c.middle_weight == 0 else 2 if c.restore_views == "both" else 1
        compared = scales if c.siamese_weight else []
        pairs = pairs if c.local_weight else []
        wanted = [set(compared) | {s for _, j, s in pairs if j == view} for view in (0, 1)]
        maps = [
            self.net(x, len(self.net.channels) if j < restored else 1 + max(wanted[j]))
            if wanted[j] or j < restored
            else []
            for j, x in enumerate(views)
        ]
        sides = [self.embed(maps[j], wanted[j]) for j in (0, 1)]
        losses: dict[str, Tensor] = {}
        if compared:
            agreements = [self.compare(sides[0][s], sides[1][s]) for s in compared]
            losses["siamese"] = c.siamese_weight * torch.stack(agreements).mean()
        if pairs:
            losses["local"] = c.local_weight * self.local_agreement(sides, locals_, pairs)
        if restored:
            losses |= self.restore(maps[:restored], targets, scales, time)
        return self.anchored(losses)

    def embed(self, maps: list[Tensor], scales: set[int]) -> dict[int, tuple[Tensor, Tensor]]:
        """Prediction and projection at the wanted scales."""
        return {s: self.embedders[str(s)](maps[s]) for s in sorted(scales)}

    def compare(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """C of the docstring."""
        return symmetric_cosine(first, second, stop_gradient=self.config.stop_gradient)

    def local_agreement(
        self, sides: list[dict[int, tuple[Tensor, Tensor]]], locals_: Tensor, pairs: list[Pair]
    ) -> Tensor:
        """L_loc: all sub-crops in one pass."""
        scales = {s for _, _, s in pairs}
        with running_statistics(self.net, update=self.config.compat == "reference"):
            maps = self.net(locals_.flatten(0, 1), 1 + max(scales))
        embedded = {
            s: [side.unflatten(0, locals_.shape[:2]).unbind(1) for side in both]  # per local (B, C_s)
            for s, both in self.embed(maps, scales).items()
        }
        return torch.stack(
            [self.compare(sides[j][s], (embedded[s][0][k], embedded[s][1][k])) for k, j, s in pairs]
        ).mean()

    def restore(
        self, maps: list[list[Tensor]], targets: list[Tensor], scales: list[int], time: float
    ) -> dict[str, Tensor]:
        """L_pix and beta L_mid, averaged over the restored views and the drawn scales."""
        c = self.config
        beta = half_cosine(time) if c.middle_decay == "half_cosine" else 1.0
        both = list(zip(maps, targets, strict=False))
        pixel = [F.mse_loss(self.final(m[-1]), y) for m, y in both]
        middle = [F.mse_loss(self.middle(m, s), y) for m, y in both for s in scales if c.middle_weight]
        losses = {"pixel": c.pixel_weight * torch.stack(pixel).mean()}
        return losses | ({"middle": c.middle_weight * beta * torch.stack(middle).mean()} if middle else {})

    def middle(self, maps: list[Tensor], scale: int) -> Tensor:
        """The restoration of one scale at full size."""
        factor = self.net.strides[scale]
        image = self.restorers[str(scale)](maps[scale])
        return resize_to(image, tuple(factor * n for n in image.shape[2:]))

    def anchored(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a static graph: heads that were not drawn contribute 0 times their parameters."""
        idle = [p.sum() for name, p in self.named_parameters() if not name.startswith("net.encoder.")]
        first = next(iter(losses))
        return losses | {first: losses[first] + 0.0 * torch.stack(idle).sum()}

    def clean_pass(self, batch: Batch) -> None:
        """Both clean global views through the pyramid."""
        clean = self.as_channels(batch["crops"]["global"]).flatten(0, 1)
        self.net(normalise(clean, self.config.global_appearance.normalisation))

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Clean view, corrupted view, restoration at the finest and at every scale."""
        targets, views, _ = self.looks(batch, progress.seed)
        maps = self.net(views[0])
        pictures = {"clean": targets[0], "corrupted": views[0], "restored": self.final(maps[-1])}
        return pictures | {
            f"from 1/{self.net.strides[s]} scale": self.middle(maps, s) for s in reversed(self.scales)
        }

    def as_channels(self, crops: Tensor) -> Tensor:
        """Grey crops (B, V, 1, *S) repeated where the encoder takes several channels."""
        same = crops.shape[2] == self.net.in_channels
        return crops if same else crops.expand(-1, -1, self.net.in_channels, *crops.shape[3:])


def corrupt_views(clean: Tensor, index: Tensor, look: Appearance, seed: int, name: str) -> Tensor:
    """Every view of every sample (B, V, C, *S) under draws of its own."""
    count = clean.shape[1]
    keys = index[:, None] * count + torch.arange(count, device=index.device)  # (B, V)
    corrupted = corrupt(clean.flatten(0, 1), keys.flatten(), look, seed=seed, view=name)
    return corrupted.unflatten(0, clean.shape[:2])


def half_cosine(time: float) -> float:
    """From 1 at the start of a run to 0 at its end."""
    return 0.5 * (1 + math.cos(math.pi * time))


def build(config: Config, net: Pyramid) -> PCRLv2:
    """The method on a network."""
    return PCRLv2(net, config)
