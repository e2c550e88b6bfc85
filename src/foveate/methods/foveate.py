"""One comparison over places, and restoration of what was moved or hidden (this project; ADR 71).

    K_ij = [same image] a_ij exp(-|p_i - p_j|^2 / 2 s_ij^2)
         + gamma [other image] exp(-|(u_i - u_j) / r_ij|^2 / 2)
    L_s  = mean over cells i of the cross entropy between K_i. / sum K_i. and softmax(z_i . z_j / tau)
    L    = L_whole + mean over s of L_s + |D(x) - y|^2 + 1/2 |R_s(x) - y|^2

A cell has a place p in millimetres in its own volume and a position u as a share of that volume; j runs over
the cells of all other views of the batch. s and r grow with the cells; at the coarsest scale a cell is the
whole view. x is the view y after swaps, holes and changes of intensity; R_s restores from a drawn scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self, final

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.contracts import DerivedSpec, Draw, Method
from foveate.core.rng import stream
from foveate.core.types import Batch, Dimension, FoveateError, Progress, Size
from foveate.data.superpixels import SuperpixelConfig, superpixels
from foveate.losses.agreement import mean
from foveate.losses.gather import joined
from foveate.losses.places import Kernel, answered, place_contrast, sites
from foveate.nets.heads import Restorers, mlp, per_cell, pooled
from foveate.nets.layers import anchored
from foveate.nets.pyramid import Pyramid, numbered
from foveate.views.alignment import Sites, read_at
from foveate.views.appearance import INTENSITIES, Appearance
from foveate.views.drawn import drawn
from foveate.views.pipeline import normalise, with_channels
from foveate.views.settings import ViewsConfig

MAP = "superpixels"
ADVICE = "Lower method.superpixels.foreground or .scale; or leave the image out."


@final
@dataclass(frozen=True, kw_only=True)
class Config(ViewsConfig):
    """One comparison over places.

    Attributes:
        global_crops: The compared and restored views.
        global_appearance: Their corruption.
        levels: Maps whose cells are compared: 0 the decoder's coarsest, 1 the next; -1 the encoder's.
        cells: Cells that are drawn from each view.
        kernel: Which pairs of cells count, and how much.
        superpixels: How super-pixels are found, where the kernel is gated by them.
        scales: Decoder scales that are restored beside the finest, one drawn for a step; "all" or some.
        hidden: Channels inside the projectors.
        embedding: Channels of the embeddings.
        temperature: tau.
        whole_weight: Weight of the comparison of whole views, at the bottleneck.
        cells_weight: Weight of the comparison of cells.
        pixel_weight: Weight of the restoration at the finest scale.
        middle_weight: Weight of the restoration at the drawn scale.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    skips: ClassVar[bool] = True
    name: Literal["foveate"] = "foveate"
    levels: tuple[int, ...] = (0, 1)
    cells: int = 16
    kernel: Kernel = field(default_factory=Kernel)
    superpixels: SuperpixelConfig
    scales: tuple[int, ...] | Literal["all"] = "all"
    hidden: int = 128
    embedding: int = 64
    temperature: float = 0.1
    whole_weight: float = 1.0
    cells_weight: float = 1.0
    pixel_weight: float = 1.0
    middle_weight: float = 0.5

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """Views that are not mirrored, which would put what is on the left on the right."""
        views, look = ViewsConfig.preset(dimension, size), LOOKS[dimension, size]
        crops = replace(views.global_crops, flip_axes=(), rotation_degrees={2: 20.0, 3: 10.0}[dimension])
        return cls(global_crops=crops, global_appearance=look, superpixels=SuperpixelConfig.preset(dimension))

    def settled(self, aligned: Callable[[], bool]) -> Self:
        """With or without the comparison with other images."""
        return replace(self, kernel=self.kernel.settled(aligned))


NOISY = replace(INTENSITIES[2], noise_std=(0.0, 0.05), normalisation="zscore", swap_count=4, cutout_count=4)
DEEP = replace(INTENSITIES[3], cutout_size=(8, 8, 8), cutout_count=20)
LOOKS: dict[tuple[int, str], Appearance] = {
    (2, "paper"): replace(NOISY, swap_patch=(14, 14), swap_patch_largest=(56, 56), cutout_size=(36, 36)),
    (2, "small"): replace(NOISY, swap_patch=(6, 6), swap_patch_largest=(24, 24), cutout_size=(16, 16)),
    (3, "paper"): replace(DEEP, swap_patch=(4, 4, 4), swap_patch_largest=(12, 12, 12), swap_count=25),
    (3, "small"): replace(DEEP, swap_patch=(3, 3, 3), swap_patch_largest=(6, 6, 6), swap_count=30),
}


@final
class Foveate(Method):
    """All views through one pyramid; a head for every map that is compared or restored."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        c, wide = config, (config.hidden, config.embedding)
        self.levels = net.chosen_levels(c.levels) if c.cells_weight else []
        self.scales = net.chosen_scales(c.scales) if c.middle_weight else []
        self.restored = c.pixel_weight + c.middle_weight > 0
        refuse(c, compared=bool(self.levels or c.whole_weight), restored=self.restored)
        self.restore = Restorers("linear", net, self.scales) if self.restored else None
        channels = numbered(net.encoder_channels, net.channels)
        self.heads = nn.ModuleDict({str(level): mlp((channels[level], *wide)) for level in self.levels})
        if c.whole_weight:
            self.projector = mlp((net.encoder_channels[-1], *wide))
        if not self.restored:
            net.keep_scales(max([0, *(level + 1 for level in self.levels)]))
        self.strides = numbered(net.encoder.strides, net.strides)
        self.sites = Sites(crop="global", cells=c.cells, regions=MAP if c.kernel.gated else "")

    @property
    def derived(self) -> Mapping[str, DerivedSpec[SuperpixelConfig]]:
        """The super-pixels, where they are a gate."""
        spec = DerivedSpec(compute=superpixels, config=self.config.superpixels, fewest=1, advice=ADVICE)
        return {MAP: spec} if self.config.kernel.gated else {}

    @property
    def draws(self) -> Sequence[Draw]:
        """The views', and the cells."""
        return [*self.config.draws, self.sites]

    def looks(self, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
        """Clean and corrupted views (B * V, C, *S), both normalised."""
        corrupted = self.config.corrupted(batch, channels=self.net.in_channels, seed=seed)
        clean = with_channels(batch["crops"]["global"], self.net.in_channels)
        return normalise(clean.flatten(0, 1), self.normalisation), corrupted.flatten(0, 1)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The comparisons and the restorations."""
        c, (clean, views) = self.config, self.looks(batch, progress.seed)
        encoded = self.net.encoder(views)
        decoded = self.net.decoder(encoded, len(self.net.decoder.blocks))
        found = drawn(batch, self.sites, progress.seed, views.device)
        at, maps, losses = found["at"], numbered(encoded, decoded), dict[str, Tensor]()
        if c.whole_weight:
            z = pooled(per_cell(self.projector, encoded[-1])).reshape(*at.shape[:2], 1, -1)
            losses["whole"] = c.whole_weight * self.compare(z, found, stride=0)
        if self.levels:
            rows = {s: read_at(maps[s], at.flatten(0, 1)).flatten(0, 1) for s in self.levels}
            sides = {s: self.heads[str(s)](x).reshape(*at.shape[:3], -1) for s, x in rows.items()}
            terms = (self.compare(x, found, self.strides[s]) for s, x in sides.items())
            losses["cells"] = c.cells_weight * mean(terms)
        if self.restore is not None and c.pixel_weight:
            losses["pixel"] = c.pixel_weight * F.mse_loss(self.restore(decoded), clean)
        if self.restore is not None and c.middle_weight:
            pick = stream(progress.seed, "foveate restored scale", progress.step).choice(self.scales)
            losses["middle"] = c.middle_weight * F.mse_loss(self.restore.middle(decoded, int(pick)), clean)
        # What was not drawn, and stages below all compared maps, have a gradient of 0 instead of none.
        reached = c.pixel_weight or (not self.restored and (c.whole_weight or max(self.levels) >= -1))
        return anchored(losses, self, "net." if reached else "everything.", wanted=True)

    def compare(self, z: Tensor, found: Mapping[str, Tensor], stride: int) -> Tensor:
        """Embeddings (B, V, cells, E) of cells of a stride, 0: whole views, among those of all processes."""
        kernel = self.config.kernel if stride else replace(self.config.kernel, gated=False)
        cells = sites(found, stride)
        return place_contrast(joined(z).flatten(0, 2), kernel(cells), cells.view, self.config.temperature)

    def embedders(self) -> dict[int, nn.Module]:
        """The projectors of the bottleneck and of the decoder's compared maps."""
        return super().embedders() | {level: self.heads[str(level)] for level in self.levels if level >= 0}

    def measures(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The share of views and of cells that another image has something for."""
        found = drawn(batch, self.sites, progress.seed, batch["crops"]["global"].device)
        strides = [0] * (self.config.whole_weight > 0) + [self.strides[level] for level in self.levels]
        cells = {stride: self.config.kernel.other_samples(sites(found, stride)) for stride in strides}
        return {f"positives/{f'stride{s}' if s else 'whole'}": answered(k) for s, k in cells.items()}

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Clean view, corrupted view, restoration."""
        clean, seen = self.looks(batch, progress.seed)
        found = {"clean": clean, "corrupted": seen}
        return found | {"restored": self.restore(self.net(seen))} if self.restore else found


def refuse(config: Config, *, compared: bool, restored: bool) -> None:
    """Errors for what trains nothing or has nothing to compare."""
    if not compared and not restored:
        raise FoveateError("method: the weights of all four terms are 0, or levels is empty; one must count.")
    if compared and (config.global_crops.count < 2 or config.cells < 1):
        raise FoveateError("method.global_crops.count, method.cells: accepted are 2 views, 1 cell or more.")


build = Foveate
