"""Ordinal regression: grades in their order, 0, 1, 2 ..., of a whole image (cumulative logits).

P(y > k) = sigmoid(s(x) - b_k), b_0 < b_1 < ...; L = mean over k of BCE(P(y > k), [y > k]).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.contracts import Draw, VolumeReader
from foveate.core.dims import classification_crops
from foveate.core.labels import is_missing
from foveate.core.tasks import Answered, ImageConfig, ImageTask
from foveate.core.types import (
    Activation,
    Array,
    Batch,
    CropSpec,
    Dimension,
    FoveateError,
    LabelFacts,
    Normalisation,
    Progress,
    Size,
)
from foveate.nets.layers import stages
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import Appearance, CropLook
from foveate.views.pipeline import corrupted_crop, make_views, normalise, with_channels


@dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Ordinal regression.

    Attributes:
        grades: How many there are, from 0 on; those of the training labels where it is 0.
        crops: The windows.
        appearance: Corruption of the windows.
    """

    less_is_better: ClassVar[tuple[str, ...]] = ("largest_error",)  # `mae` is known of the kind
    name: Literal["ordinal"] = "ordinal"
    grades: int = 0
    crops: CropSpec
    appearance: Appearance

    @classmethod
    def preset(cls, dimension: Dimension, size: Size, normalisation: Normalisation) -> Self:
        """The usual windows of a classification."""
        look = Appearance(noise_std=(0.0, 0.03), normalisation=normalisation)
        return cls(crops=classification_crops(dimension, size), appearance=look)

    @property
    def normalisation(self) -> Normalisation:
        """That of the appearance."""
        return self.appearance.normalisation

    def settle(self, facts: LabelFacts) -> Self:
        """The number of grades, from the training labels."""
        if len(self.targets) != 1 or self.targets[0] not in facts.columns:
            known = ", ".join(facts.columns) or "none"
            raise FoveateError(f"task.targets {list(self.targets)}: accepted is one column of: {known}.")
        found = [self.encode({self.targets[0]: value}) for value in facts.columns[self.targets[0]]]
        grades = [value for each in found for value in each.values() if not math.isnan(value)]
        return replace(self, grades=self.grades or int(max(grades, default=0)) + 1)

    def encode(self, labels: Mapping[str, Any]) -> dict[str, float]:
        """The grade, NaN where it is missing."""
        (target,) = self.targets
        value = labels.get(target)
        if is_missing(value):
            return {target: math.nan}
        if not str(value).isdecimal() or (self.grades and int(str(value)) >= self.grades):
            raise FoveateError(f"Column {target!r} holds {value!r}; accepted are grades: 0, 1, 2 and so on.")
        return {target: float(str(value))}

    def stratum(self, labels: Mapping[str, Any]) -> str:
        """Every grade in every part of a split."""
        return str(labels.get(self.targets[0], ""))

    def score(self, answers: Array, labels: Array) -> dict[str, float]:
        """Mean and largest error of the expected grade; kappa with quadratic weights of the likeliest."""
        known = ~np.isnan(labels[:, 0])
        shares, truth = answers[known], labels[known, 0]
        grades = np.arange(answers.shape[1])
        errors = np.abs(shares @ grades - truth) if truth.size else np.array([math.nan])
        return {
            "kappa": quadratic_kappa(shares.argmax(1), truth.astype(int)),
            "mae": float(errors.mean()),
            "largest_error": float(errors.max()),
            "n": float(known.sum()),
        }


def quadratic_kappa(chosen: Array, truth: Array) -> float:
    """1 - observed over expected squared differences; NaN where neither varies.

    >>> quadratic_kappa(np.array([0, 1, 2]), np.array([0, 1, 2]))
    1.0
    """
    if not truth.size:
        return math.nan
    expected = float(((chosen[:, None] - truth[None]) ** 2).mean())
    return 1 - float(((chosen - truth) ** 2).mean()) / expected if expected else math.nan


class Ordinal(ImageTask):
    """One number from the pooled deepest map, and thresholds that rise."""

    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config, self.in_channels = net.encoder, config, net.in_channels
        if config.grades < 2:
            raise FoveateError(f"task.grades {config.grades}: accepted are whole numbers from 2.")
        self.head = nn.Linear(net.encoder.channels[-1], 1)
        self.steps = nn.ParameterDict({"raw": nn.Parameter(torch.zeros(config.grades - 1))})

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """One kind of window."""
        return {"image": self.config.crops}

    @property
    def draws(self) -> Sequence[Draw]:
        """Those of the windows' corruption."""
        return [CropLook(crop="image", appearance=self.config.appearance)]

    @property
    def patch(self) -> tuple[int, ...]:
        """The window's grid."""
        return self.config.crops.grid

    @property
    def activation(self) -> Activation:
        """Outputs are logarithms of probabilities."""
        return "softmax"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The grades."""
        return tuple(f"grade{k}" for k in range(self.config.grades))

    def exported(self) -> dict[str, nn.Module]:
        """Everything that predicts."""
        return {"encoder": self.net, "head": self.head, "steps": self.steps}

    def stages(self) -> list[list[nn.Parameter]]:
        """What is new, then the encoder."""
        return [[*self.head.parameters(), *self.steps.parameters()], *stages(self.net)]

    def above(self, images: Tensor) -> Tensor:
        """Clean images (B, C, *S) to the logits of y > k, (B, K - 1)."""
        seen = normalise(with_channels(images[:, None], self.in_channels)[:, 0], self.normalisation)
        return self.logits(seen)

    def logits(self, seen: Tensor) -> Tensor:
        """The same of normalised images."""
        raw = self.steps["raw"]
        rising = torch.cat([raw[:1], F.softplus(raw[1:])]).cumsum(0)
        pooled: Tensor = self.net(seen)[-1].flatten(2).mean(2)
        number: Tensor = self.head(pooled)
        return number - rising

    def outputs(self, images: Tensor) -> Tensor:
        """Logarithms of the grades' probabilities (B, K)."""
        above = self.above(images).float().sigmoid()
        ends = [torch.ones_like(above[:, :1]), above, torch.zeros_like(above[:, :1])]
        return (-torch.cat(ends, 1).diff(dim=1)).clamp_min(1e-6).log()

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The one term; an image without a label has no part in it."""
        look, channels = self.config.appearance, self.in_channels
        images = corrupted_crop(batch, "image", look, channels=channels, seed=progress.seed)
        logits = self.logits(images.flatten(0, 1))
        labels = batch["labels"][self.config.targets[0]].repeat_interleave(images.shape[1])
        known = ~labels.isnan()
        above = (labels[:, None] > torch.arange(logits.shape[1], device=labels.device)).float()
        each = F.binary_cross_entropy_with_logits(logits, above, reduction="none").mean(1)
        return {"grade": torch.where(known, each, each * 0).sum() / known.sum().clamp_min(1)}

    def view(self, volume: VolumeReader) -> Tensor:
        """The whole image on the window's grid."""
        whole = replace(
            self.config.crops, volume_share=(1.0, 1.0), flip_axes=(), rotation_degrees=0.0, zoom=0.0
        )
        return make_views(volume, 0, specs={"image": whole}, seed=0)["image"].images[:1]

    def metrics(self, judged: Sequence[Sequence[float]]) -> dict[str, float]:
        """The metrics; the smallest error is the best."""
        found = self.config.score(*self.answered(judged))
        return {"score": -found["mae"], **found}

    def row(self, answers: Sequence[float]) -> dict[str, str]:
        """The probabilities, the likeliest grade and the expected one."""
        expected = sum(k * share for k, share in enumerate(answers))
        return {**super().row(answers), "expected": f"{expected:.3f}"}

    def mistakes(self, found: Answered) -> Array:
        """How far the expected grade is from the true one."""
        away: Array = np.abs(found.answers @ np.arange(found.answers.shape[1]) - found.labels[:, 0])
        return away


build = Ordinal
