"""Localized Region Contrast over any base (Yan et al., MICCAI 2023, arXiv:2304.03406).

    L = L_base + lambda(t) L_region
    L_region = mean over anchors i, positives p of -log e(i, p) / (e(i, p) + sum over negatives k of e(i, k))

e(i, j) = exp(z_i . z_j / tau), z unit embeddings of decoder cells. Anchors lie in a super-pixel of one view,
positives in the same super-pixel of the other, negatives in others; both ways. Encoder and decoder train.

Differs from the authors' code, which was never released: written from the paper's outline; all numbers are
fields, also the schedule. Regions are compared on the base's windows, under a corruption that moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from foveate.core.contracts import DerivedSpec, Draw, Method, MethodConfig, WrapperConfig
from foveate.core.plugins import MethodBuilder
from foveate.core.types import Batch, CropSpec, Dimension, FoveateError, Normalisation, Progress, Size
from foveate.data.superpixels import SuperpixelConfig, superpixels
from foveate.losses.contrast import region_contrast, region_means, sampled_contrast
from foveate.nets.layers import anchored
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import INTENSITIES, Appearance, CropLook
from foveate.views.drawn import drawn
from foveate.views.pipeline import corrupted_crop
from foveate.views.regions import KINDS, WAYS, Pool, RegionCells, RegionSampling

MAP = "superpixels"
ADVICE = "Lower method.superpixels.foreground or .scale, or raise .segments; or leave the image out."


@final
@dataclass(frozen=True, kw_only=True)
class Config(WrapperConfig):
    """Localized Region Contrast.

    Attributes:
        base: The method that it is put around; `--method.base NAME` chooses it.
        schedule: "joint" adds the region term to the base's. "after" trains the region term alone, from the
            weights that `--init` names: an earlier run of any method, a supervised one, or a converted file.
        superpixels: How regions are found.
        region_appearance: Corruption of the views that regions are compared in; it must move nothing.
        stride: Of the decoder map that is compared, 1 the finest.
        region_pool: Compare sampled cells, or the means of whole regions.
        sampling: What is drawn from the regions.
        hidden: Channels inside the embedding head.
        embedding: Channels of the embeddings.
        temperature: tau.
        weight: lambda.
        warmup: Share of the run over which lambda rises from 0.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    default_base: ClassVar[str] = "pcrlv2"
    name: Literal["region_contrast"] = "region_contrast"
    schedule: Literal["joint", "after"] = "joint"
    superpixels: SuperpixelConfig
    region_appearance: Appearance
    stride: int = 1
    region_pool: Pool = "sample"
    sampling: RegionSampling = field(default_factory=RegionSampling)
    hidden: int = 64
    embedding: int = 64
    temperature: float = 0.1
    weight: float = 1.0
    warmup: float = 0.05

    @classmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:  # noqa: ARG003 - the base's views have it
        """The noted numbers; whoever composes the run adds the base."""
        return cls(superpixels=SuperpixelConfig.preset(dimension), region_appearance=INTENSITIES[dimension])

    def around(self, base: MethodConfig) -> Self:
        """The same around any method's Config, whose normalisation it takes on."""
        look = replace(self.region_appearance, normalisation=base.normalisation)
        return replace(super().around(base), region_appearance=look)

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """The base's windows; regions alone need the global ones only."""
        every = self.wrapped.crops
        return every if self.schedule == "joint" else {"global": every["global"]}

    @property
    def normalisation(self) -> Normalisation:
        """That of the views that regions are compared in, which is the base's."""
        return self.region_appearance.normalisation

    def views(self, batch: Batch, *, channels: int, seed: int) -> list[Tensor]:
        """The two views that regions are compared in, each (B, C, *S)."""
        look = self.region_appearance
        return list(corrupted_crop(batch, "global", look, channels=channels, seed=seed).unbind(1))[:2]


@final
class RegionContrast(Method):
    """A base on the same layers, and a head on cells of the decoder."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config, build: MethodBuilder) -> None:
        super().__init__(net, config)
        refuse(config)
        if config.stride not in net.strides:
            raise FoveateError(f"method.stride {config.stride}: accepted are {net.strides}, the decoder's.")
        self.level = net.strides.index(config.stride)
        c = config
        self.cells = RegionCells(name=MAP, stride=c.stride, pool=c.region_pool, how=c.sampling)
        self.base = build(net.sharing(), config.wrapped) if config.schedule == "joint" else None
        inside = nn.Linear(net.channels[self.level], config.hidden)
        self.head = nn.Sequential(inside, nn.ReLU(), nn.Linear(config.hidden, config.embedding))

    @property
    def derived(self) -> Mapping[str, DerivedSpec[SuperpixelConfig]]:
        """The super-pixels."""
        how = self.config.superpixels
        return {MAP: DerivedSpec(compute=superpixels, config=how, fewest=2, advice=ADVICE)}

    @property
    def draws(self) -> Sequence[Draw]:
        """The base's, and those of the regions."""
        own = CropLook(crop="global", appearance=self.config.region_appearance), self.cells
        return [*self.base.draws, *own] if self.base else own

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The base's terms and the regions'."""
        losses = self.base(batch, progress) if self.base else {}
        if weight := self.weight_at(progress):
            losses["region"] = weight * self.region_term(batch, progress.seed)
        return anchored(losses, self, but="net.encoder.", wanted=True)

    def weight_at(self, progress: Progress) -> float:
        """Lambda at a step: it rises on a line and is never 0 unless it always is."""
        ramp = self.config.warmup * progress.total
        return self.config.weight * min(1.0, (progress.step + 1) / max(1.0, ramp))

    def region_term(self, batch: Batch, seed: int) -> Tensor:
        """The contrast of regions; samples whose views share fewer than two add nothing."""
        c, maps = self.config, [self.net(x, self.level + 1)[self.level] for x in self.views(batch, seed)]
        cells = [x.movedim(1, -1).flatten(0, -2) for x in maps]  # (B * cells, C)
        found, terms = drawn(batch, self.cells, seed, cells[0].device), []
        if "pairs" in found:
            pairs, rows = found["pairs"], (found["first"], found["second"])
            means = [region_means(self.head(x), r, len(pairs)) for x, r in zip(cells, rows, strict=True)]
            terms = [region_contrast(means[0], means[1], pairs, c.temperature)]
        for (here, there), way in ((cells, WAYS[0]), (cells[::-1], WAYS[1])):
            if f"anchors {way}" in found:
                sides = zip(KINDS, (here, there, there), strict=True)
                z = [self.head(x[found[f"{kind} {way}"]]) for kind, x in sides]
                terms.append(sampled_contrast(z[0], z[1], z[2], c.temperature))
        return torch.stack(terms).mean() if terms else 0.0 * torch.cat([x[:1] for x in cells]).sum()

    def after_step(self, progress: Progress) -> None:
        """The base's."""
        if self.base:
            self.base.after_step(progress)

    def weights_given(self) -> None:
        """The base's."""
        if self.base:
            self.base.weights_given()

    def embedders(self) -> dict[int, nn.Module]:
        """The base's."""
        return self.base.embedders() if self.base else {}

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The base's pictures, and the regions of both views in shades of grey."""
        maps = enumerate(batch["regions"][f"{MAP}/global"].unbind(1)[:2], 1)
        own = {f"regions {i}": ((x * 0.618) % 1.0 * (x > 0))[:, None] for i, x in maps}
        return self.base.preview(batch, progress) | own if self.base else own


def refuse(config: Config) -> None:
    """Errors for what does not fit together."""
    base, look = config.wrapped, config.region_appearance
    if base.crops["global"].count < 2:
        raise FoveateError(
            f"--method.base {base.name} looks at one view, and regions are compared between two; accepted: "
            "--method.base.global_crops.count 2, or another base."
        )
    if look.normalisation != base.normalisation:
        raise FoveateError(
            f"method.region_appearance.normalisation: accepted is the base's, {base.normalisation}."
        )
    if look.swap_count or any(look.shuffle_window):
        raise FoveateError("method.region_appearance: swaps and shuffling move tissue out of its region.")
    if config.schedule == "after" and not config.weight:
        raise FoveateError("method.schedule after with method.weight 0 trains nothing.")


build = RegionContrast
