"""Classification and regression: a class, several findings or numbers for a whole image.

Pooled maps of the pre-trained encoder, a dropout and a linear layer. Labels are columns of a table: one
column of class names or numbers (multiclass), several of 0 and 1 (multilabel), or measurements (regression).
A missing label (an empty field, NaN) has no part in the loss nor in the metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from foveate.core.contracts import Draw, VolumeReader
from foveate.core.dims import classification_crops
from foveate.core.labels import check_targets, is_missing, number_of, spelled
from foveate.core.tasks import Answered, ImageConfig, ViewTask
from foveate.core.types import (
    Activation,
    Array,
    Batch,
    CropSpec,
    Dimension,
    FoveateError,
    Json,
    LabelFacts,
    Normalisation,
    Progress,
    Size,
)
from foveate.losses.classification import (
    class_weights,
    exclusive_loss,
    independent_loss,
    positive_weight,
    regression_loss,
)
from foveate.nets.heads import pooled
from foveate.nets.layers import stages
from foveate.nets.pyramid import Pyramid
from foveate.scoring import calibration, figures
from foveate.scoring.metrics import answer_metrics, known_labels, mean
from foveate.views.appearance import Appearance, CropLook
from foveate.views.pipeline import corrupted_crop, make_views, normalise, with_channels

MILD = Appearance(noise_std=(0.0, 0.03), brightness=0.1, contrast=0.2, log_gamma=(-0.2, 0.2))
ACTIVATIONS: dict[str, Activation] = {"multiclass": "softmax", "multilabel": "sigmoid", "regression": "none"}
MOST_LINES = 6  # of a caption


@dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Classification of whole images.

    Attributes:
        kind: "multiclass" takes one column, "multilabel" several of 0 and 1, "regression" numbers.
        classes: The values of a multiclass column, in order; those of the training labels by default.
        background: The class of what is none of those that are looked for, such as a frame without a standard
            plane: `f1_planes` and retrieval leave it out. Multiclass only; empty: there is none.
        class_weights: Weight of every class (multiclass) or of the positives of every finding (multilabel);
            where none are said, as `weighting` has it.
        weighting: "balanced" weighs by the inverse frequency in the training labels, "none" alike.
        uncertain: What -1 of a multilabel column means, as CheXpert has it.
        centres: Of every regression target, subtracted from it; the training mean where none are said.
        spreads: Of every regression target, it is divided by it; the training deviation where none are said.
        dropout: On the pooled features.
        crops: The windows.
        appearance: Corruption of the windows.
    """

    name: Literal["classification"] = "classification"
    kind: Literal["multiclass", "multilabel", "regression"] = "multiclass"
    classes: tuple[str, ...] = ()
    background: str = ""
    class_weights: tuple[float, ...] = ()
    weighting: Literal["none", "balanced"] = "none"
    uncertain: Literal["error", "missing", "positive", "negative"] = "error"
    centres: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()
    dropout: float = 0.2
    crops: CropSpec
    appearance: Appearance

    @classmethod
    def preset(cls, dimension: Dimension, size: Size, normalisation: Normalisation) -> Config:
        """Defaults of a dimension and a size."""
        look = replace(MILD, normalisation=normalisation)
        return cls(crops=classification_crops(dimension, size), appearance=look)

    @property
    def normalisation(self) -> Normalisation:
        """That of the appearance."""
        return self.appearance.normalisation

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs, in their order."""
        return self.classes if self.kind == "multiclass" else self.targets

    @property
    def planes(self) -> tuple[str, ...]:
        """The classes but the background; none where no background is named."""
        return tuple(name for name in self.names if name != self.background) if self.background else ()

    def settle(self, facts: LabelFacts) -> Config:
        """The same with what the training labels decide: classes, weights, centres and spreads."""
        check_targets(self.targets, facts, one=self.kind == "multiclass")
        columns = [[value for value in facts.columns[t] if not is_missing(value)] for t in self.targets]
        config = self
        if self.kind == "multiclass":
            found = sorted({spelled(value) for value in columns[0]})
            config = replace(self, classes=self.classes or tuple(found))
            check_classes(config, found)
        if self.background and self.background not in config.classes:
            known = ", ".join(config.classes) or "none"
            raise FoveateError(f"task.background {self.background!r} is no class; there are: {known}.")
        pairs = zip(self.targets, columns, strict=True)
        numbers = [[encode_one(config, t, v) for v in column] for t, column in pairs]
        if config.kind == "regression":
            means = [sum(c) / len(c) for c in numbers]
            spreads = [
                math.sqrt(sum((x - m) ** 2 for x in c) / len(c)) or 1.0
                for c, m in zip(numbers, means, strict=True)
            ]
            return replace(
                config, centres=config.centres or tuple(means), spreads=config.spreads or tuple(spreads)
            )
        return replace(config, class_weights=config.class_weights or tuple(weights_of(config, numbers)))

    def encode(self, labels: Mapping[str, Json]) -> dict[str, float]:
        """The targets as numbers, NaN where they are missing."""
        return {t: encode_one(self, t, labels.get(t)) for t in self.targets}

    def stratum(self, labels: Mapping[str, Json]) -> str:
        """The class, or the rarest kind of thing that can be said of findings."""
        if self.kind == "regression":
            return ""
        return "|".join("" if is_missing(labels.get(t)) else spelled(labels[t]) for t in self.targets[:6])

    def score(self, answers: Array, labels: Array) -> dict[str, float]:
        """Rank metrics and calibration of classes and findings, errors of numbers."""
        activation = ACTIVATIONS[self.kind]
        found = answer_metrics(answers, labels, self.names, activation)
        if self.planes:
            found["f1_planes"] = mean([found[f"f1/{name}"] for name in self.planes])
        if activation == "none":
            return found
        truth = labels[:, 0] if activation == "softmax" else labels
        return {**found, "ece": calibration.calibration_error(answers, truth, activation)}


def check_classes(config: Config, found: Sequence[str]) -> None:
    """Refuse a class that is not declared, not there, or alone."""
    if strange := sorted(set(found) - set(config.classes)):
        raise FoveateError(
            f"Column {config.targets[0]!r} holds {strange}; task.classes declares {config.classes}."
        )
    if absent := [name for name in config.classes if name not in found]:
        raise FoveateError(
            f"Class {absent[0]!r} has no training image; drop it from task.classes or change the split."
        )
    if len(config.classes) < 2:
        raise FoveateError(f"Column {config.targets[0]!r} holds one class, {found}; at least two are needed.")


def weights_of(config: Config, numbers: Sequence[Sequence[float]]) -> list[float]:
    """Of classes, or of the positives of findings."""
    if config.weighting == "none":
        return [1.0] * len(config.names)
    if config.kind == "multiclass":
        return class_weights(numbers[0], len(config.classes))
    return [positive_weight(column) for column in numbers]


def encode_one(config: Config, target: str, value: Json) -> float:
    """One label as a number."""
    if is_missing(value):
        return math.nan
    if config.kind == "multiclass":
        if spelled(value) not in config.classes:
            raise FoveateError(f"Column {target!r} holds {value!r}; task.classes declares {config.classes}.")
        return float(config.classes.index(spelled(value)))
    number = number_of(value)
    if number is None:
        raise FoveateError(f"Column {target!r} holds {value!r}; accepted for {config.kind}: numbers.")
    if config.kind == "regression" or number in (0.0, 1.0):
        return number
    if number == -1 and config.uncertain != "error":
        return {"missing": math.nan, "positive": 1.0, "negative": 0.0}[config.uncertain]
    hint = "; say what -1 means with task.uncertain" if number == -1 else ""
    raise FoveateError(f"Column {target!r} holds {value!r}; accepted for multilabel: 0, 1 or nothing{hint}.")


class Classification(ViewTask):
    """A linear layer on pooled encoder maps."""

    config: Config
    weights: Tensor
    centres: Tensor
    spreads: Tensor

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net.encoder, config  # a decoder would have no gradient
        self.in_channels = net.in_channels
        features: int = net.encoder.channels[-1]
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(features, len(config.names)))
        buffers = {"weights": config.class_weights, "centres": config.centres, "spreads": config.spreads}
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)

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
        """The window's grid, which the whole image is sampled on."""
        return self.config.crops.grid

    @property
    def activation(self) -> Activation:
        """Softmax over classes, a sigmoid for every finding, none for numbers."""
        return ACTIVATIONS[self.config.kind]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the outputs, in their order."""
        return self.config.names

    @property
    def sought(self) -> tuple[str, ...]:
        """Scan planes."""
        return self.config.planes

    @property
    def uses_validation(self) -> bool:
        """To calibrate probabilities."""
        return self.config.kind != "regression"

    def exported(self) -> dict[str, nn.Module]:
        """Everything that predicts."""
        return {"encoder": self.net, "head": self.head}

    def stages(self) -> list[list[nn.Parameter]]:
        """The head, then the encoder from its coarsest level to its stem."""
        return [list(self.head.parameters()), *stages(self.net)]

    def answers(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, *S) to logits or standardised numbers (B, K)."""
        answers: Tensor = self.head(pooled(self.net(images)[-1]))
        return answers

    def outputs(self, images: Tensor) -> Tensor:
        """Clean images (B, C, *S) to logits, or to numbers in their own units: (B, K)."""
        clean = with_channels(images[:, None], self.in_channels)[:, 0]
        answers = self.answers(normalise(clean, self.normalisation))
        return answers * self.spreads + self.centres if self.config.kind == "regression" else answers

    def view_outputs(self, batch: Batch, progress: Progress) -> Tensor:
        """Logits, or standardised numbers, of the corrupted views."""
        look, channels = self.config.appearance, self.in_channels
        images = corrupted_crop(batch, "image", look, channels=channels, seed=progress.seed)
        return self.answers(images.flatten(0, 1))

    def losses_of(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The one term, of what is answered for the views."""
        answers, views = outputs, batch["crops"]["image"].shape[1]
        labels = torch.stack([batch["labels"][t] for t in self.config.targets], 1).repeat_interleave(views, 0)
        if self.config.kind == "multiclass":
            return {"label": exclusive_loss(answers, labels[:, 0], self.weights)}
        if self.config.kind == "multilabel":
            return {"label": independent_loss(answers, labels, self.weights)}
        return {"label": regression_loss(answers, (labels - self.centres) / self.spreads)}

    def view(self, volume: VolumeReader) -> Tensor:
        """The whole image on the window's grid."""
        whole = replace(
            self.config.crops, volume_share=(1.0, 1.0), flip_axes=(), rotation_degrees=0.0, zoom=0.0
        )
        return make_views(volume, 0, specs={"image": whole}, seed=0)["image"].images[:1]

    def metrics(self, judged: Sequence[Sequence[float]]) -> dict[str, float]:
        """AUROC of every class or finding and their mean, balanced accuracy; of numbers the mean error.

        An AUROC needs both kinds of cases: where one is absent it is NaN and has no part in the mean.
        """
        answers, labels = map(torch.from_numpy, self.answered(judged))
        if self.config.kind == "regression":
            errors = (answers - labels).abs()
            named = {f"mae/{n}": float(e) for n, e in zip(self.config.names, errors.nanmean(0), strict=True)}
            score = -float((errors / self.spreads.cpu()).nanmean())
            return {"score": score, "mae": float(errors.nanmean()), **named}
        found = self.config.score(answers.numpy(), labels.numpy())
        more = ["balanced_acc"] * (self.config.kind == "multiclass") + ["f1_planes"] * bool(self.sought)
        said = ("auroc", *more, *(f"auroc/{name}" for name in self.class_names))
        return {"score": found["auroc"], **{key: found[key] for key in said}}

    def mistakes(self, found: Answered) -> Array:
        """What the true class lacks to certainty; of findings and numbers the largest difference."""
        answers, labels = found
        if self.config.kind == "multiclass":
            truth = labels[:, 0]
            at = np.nan_to_num(truth, nan=0).astype(int).clip(0)
            return np.where(known_labels(truth), 1 - answers[np.arange(len(answers)), at], -1)
        wrong = np.where(known_labels(labels), np.abs(answers - np.nan_to_num(labels)), 0)
        return np.asarray(wrong.max(1))

    def caption(self, answers: Array, labels: Array) -> str:
        """What is true and what was answered."""
        names = self.config.names
        if self.config.kind == "multiclass":
            true = names[int(labels[0])] if labels[0] >= 0 else "unknown"
            return f"true: {true}\nanswered {names[int(answers.argmax())]} ({answers.max():.2f})"
        said = [f"{a:.2f} for {t:g}" for a, t in zip(answers, labels, strict=True)]
        if self.config.kind == "multilabel":
            said = [f"{name}: {each}" for name, each in zip(names, said, strict=True)]
        return "\n".join(said[:MOST_LINES])

    def report(self, found: Answered, validation: Answered | None, out: Path) -> dict[str, object]:
        """ROC curves and confusion; the temperature of the validation images and what it does here."""
        kind = self.activation
        if kind == "none":
            return {}
        answers, truth = found.answers, self.truth(found.labels)
        figures.draw_answers(out, answers, truth, self.config.names)
        if validation is None:
            return {"calibration": None}
        shares, labels = validation.answers, self.truth(validation.labels)
        return {"calibration": calibration.calibrated(answers, truth, shares, labels, kind)}

    def truth(self, labels: Array) -> Array:
        """Class indices (N,), or findings (N, targets)."""
        return labels[:, 0] if self.config.kind == "multiclass" else labels


build = Classification
