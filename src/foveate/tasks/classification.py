"""Classification and regression: a class, several findings or numbers for a whole image.

Pooled maps of the pre-trained encoder, a dropout and a linear layer. Labels are columns of a table: one
column of class names or numbers (multiclass), several of 0 and 1 (multilabel), or measurements (regression).
A missing label (an empty field, NaN) has no part in the loss nor in the metrics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate.core.contracts import LabelledReader, Task, VolumeReader
from foveate.core.dims import classification_crops
from foveate.core.types import (
    Activation,
    Batch,
    CropSpec,
    Dimension,
    FoveateError,
    LabelFacts,
    Normalisation,
    Progress,
    Size,
)
from foveate.evaluate.metrics import multiclass_metrics, multilabel_metrics
from foveate.losses.classification import exclusive_loss, independent_loss, regression_loss
from foveate.nets.layers import stages
from foveate.nets.pyramid import Pyramid
from foveate.views.appearance import Appearance
from foveate.views.pipeline import corrupt_views, make_views, normalise, with_channels

WANT: Literal["maps", "values"] = "values"
MILD: dict[str, Any] = {
    "noise_std": (0.0, 0.03),
    "brightness": 0.1,
    "contrast": 0.2,
    "log_gamma": (-0.2, 0.2),
}
MISSING = ("", "nan", "na", "n/a", "null")  # not "none": of a finding it is a class


@dataclass(frozen=True, kw_only=True)
class Config:
    """Classification of whole images.

    Attributes:
        kind: "multiclass" takes one column, "multilabel" several of 0 and 1, "regression" numbers.
        targets: The columns of the labels.
        classes: The values of a multiclass column, in order; those of the training labels by default.
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
    targets: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
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
        look = Appearance(**MILD, normalisation=normalisation)
        return cls(crops=classification_crops(dimension, size), appearance=look)


def is_missing(value: Any) -> bool:  # noqa: ANN401 - whatever a table holds
    """Whether a field says nothing.

    >>> [is_missing(v) for v in ("", None, float("nan"), "NA", 0, "0")]
    [True, True, True, True, False, False]
    """
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).lower() in MISSING


def spelled(value: Any) -> str:  # noqa: ANN401 - whatever a table holds
    """A class name: 1, 1.0 and "1" are the same.

    >>> spelled(1.0), spelled("1.0"), spelled("benign ")
    ('1', '1', 'benign')
    """
    text = str(value).strip()
    return text.removesuffix(".0") if text.removesuffix(".0").lstrip("-").isdecimal() else text


def settle(config: Config, facts: LabelFacts) -> Config:
    """The configuration with what the training labels decide: classes, weights, centres and spreads."""
    check_targets(config, facts)
    columns = [[value for value in facts.columns[t] if not is_missing(value)] for t in config.targets]
    if config.kind == "multiclass":
        found = sorted({spelled(value) for value in columns[0]})
        config = replace(config, classes=config.classes or tuple(found))
        check_classes(config, found)
    numbers = [[encode_one(config, t, v) for v in c] for t, c in zip(config.targets, columns, strict=True)]
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


def check_targets(config: Config, facts: LabelFacts) -> None:
    """Refuse columns that are not there or hold nothing."""
    known = ", ".join(facts.columns) or "none"
    if not config.targets or (config.kind == "multiclass" and len(config.targets) != 1):
        wanted = "exactly one column" if config.kind == "multiclass" else "at least one column"
        raise FoveateError(f"task.targets {list(config.targets)}: {wanted} is accepted; there are: {known}.")
    for target in config.targets:
        if target not in facts.columns:
            raise FoveateError(f"task.targets: there is no column {target!r}; there are: {known}.")
        if all(map(is_missing, facts.columns[target])):
            raise FoveateError(
                f"task.targets: {target!r} is missing for every training image; at least one is needed."
            )


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
    if config.kind == "multiclass":
        counts = Counter(numbers[0])
        if config.weighting == "none":
            return [1.0] * len(config.classes)
        return [len(numbers[0]) / len(counts) / counts[k] for k in range(len(config.classes))]
    positives = [max(1.0, sum(column)) for column in numbers]
    if config.weighting == "none":
        return [1.0] * len(numbers)
    return [max(1.0, len(c) - p) / p for c, p in zip(numbers, positives, strict=True)]


def encode(config: Config, labels: Mapping[str, Any]) -> dict[str, float]:
    """The targets as numbers, NaN where they are missing."""
    return {t: encode_one(config, t, labels.get(t)) for t in config.targets}


def encode_one(config: Config, target: str, value: Any) -> float:  # noqa: ANN401 - whatever a table holds
    """One label as a number."""
    if is_missing(value):
        return math.nan
    if config.kind == "multiclass":
        if spelled(value) not in config.classes:
            raise FoveateError(f"Column {target!r} holds {value!r}; task.classes declares {config.classes}.")
        return float(config.classes.index(spelled(value)))
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise FoveateError(
            f"Column {target!r} holds {value!r}; accepted for {config.kind}: numbers."
        ) from None
    if config.kind == "regression" or number in (0.0, 1.0):
        return number
    if number == -1 and config.uncertain != "error":
        return {"missing": math.nan, "positive": 1.0, "negative": 0.0}[config.uncertain]
    hint = "; say what -1 means with task.uncertain" if number == -1 else ""
    raise FoveateError(f"Column {target!r} holds {value!r}; accepted for multilabel: 0, 1 or nothing{hint}.")


def stratum(config: Config, labels: Mapping[str, Any]) -> str:
    """What a split must mix evenly: the class, or the rarest kind of thing that can be said of findings."""
    if config.kind == "regression":
        return ""
    return "|".join("" if is_missing(labels.get(t)) else spelled(labels[t]) for t in config.targets[:6])


class Classification(Task):
    """A linear layer on pooled encoder maps."""

    weights: Tensor
    centres: Tensor
    spreads: Tensor

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net.encoder, config  # a decoder would have no gradient
        self.names = config.classes if config.kind == "multiclass" else config.targets
        self.in_channels = net.in_channels
        features: int = net.encoder.channels[-1]
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(features, len(self.names)))
        for name, values in (
            ("weights", config.class_weights),
            ("centres", config.centres),
            ("spreads", config.spreads),
        ):
            self.register_buffer(name, torch.tensor(values), persistent=False)

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """One kind of window."""
        return {"image": self.config.crops}

    @property
    def patch(self) -> tuple[int, ...]:
        """The window's grid, which the whole image is sampled on."""
        return self.config.crops.grid

    @property
    def activation(self) -> Activation:
        """Softmax over classes, a sigmoid for every finding, none for numbers."""
        kinds: dict[str, Activation] = {
            "multiclass": "softmax",
            "multilabel": "sigmoid",
            "regression": "none",
        }
        return kinds[self.config.kind]

    @property
    def normalisation(self) -> Normalisation:
        """What images go through before the encoder."""
        return self.config.appearance.normalisation

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the outputs, in their order."""
        return self.names

    def exported(self) -> dict[str, nn.Module]:
        """Everything that predicts."""
        return {"encoder": self.net, "head": self.head}

    def stages(self) -> list[list[nn.Parameter]]:
        """The head, then the encoder from its coarsest level to its stem."""
        return [list(self.head.parameters()), *stages(self.net)]

    def answers(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, *S) to logits or standardised numbers (B, K)."""
        return self.head(self.net(images)[-1].flatten(2).mean(2))  # type: ignore[no-any-return]

    def outputs(self, images: Tensor) -> Tensor:
        """Clean images (B, C, *S) to logits, or to numbers in their own units: (B, K)."""
        clean = with_channels(images[:, None], self.in_channels)[:, 0]
        answers = self.answers(normalise(clean, self.normalisation))
        return answers * self.spreads + self.centres if self.config.kind == "regression" else answers

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The one term."""
        clean = with_channels(batch["crops"]["image"], self.in_channels)
        images = corrupt_views(
            clean, batch["index"], self.config.appearance, seed=progress.seed, name="image"
        )
        answers = self.answers(images.flatten(0, 1))
        views = clean.shape[1]
        labels = torch.stack([batch["labels"][t] for t in self.config.targets], 1).repeat_interleave(views, 0)
        if self.config.kind == "multiclass":
            return {"label": exclusive_loss(answers, labels[:, 0], self.weights)}
        if self.config.kind == "multilabel":
            return {"label": independent_loss(answers, labels, self.weights)}
        return {"label": regression_loss(answers, (labels - self.centres) / self.spreads)}

    @torch.no_grad()
    def predict(self, volume: VolumeReader) -> Tensor:
        """Probabilities, or numbers in their own units, of a whole image: (K,)."""
        whole = replace(
            self.config.crops, volume_share=(1.0, 1.0), flip_axes=(), rotation_degrees=0.0, zoom=0.0
        )
        image = make_views(volume, 0, specs={"image": whole}, seed=0)["image"].images[:1]
        answers = self.outputs(image.to(next(self.parameters()).device)).float().cpu()[0]
        turned = {"softmax": answers.softmax(0), "sigmoid": answers.sigmoid(), "none": answers}
        return turned[self.activation]

    def validate(self, cases: Sequence[LabelledReader]) -> dict[str, float]:
        """AUROC of every class or finding and their mean, balanced accuracy; of numbers the mean error.

        An AUROC needs both kinds of cases: where one is absent it is NaN and has no part in the mean.
        """
        answers = torch.stack([self.predict(case) for case in cases])
        labels = torch.tensor([[case.labels[t] for t in self.config.targets] for case in cases])
        if self.config.kind == "regression":
            errors = (answers - labels).abs()
            named = {f"mae/{n}": float(e) for n, e in zip(self.names, errors.nanmean(0), strict=True)}
            return {
                "score": -float((errors / self.spreads.cpu()).nanmean()),
                "mae": float(errors.nanmean()),
                **named,
            }
        exclusive = self.config.kind == "multiclass"
        judge = multiclass_metrics if exclusive else multilabel_metrics
        found = judge(answers.numpy(), (labels[:, 0] if exclusive else labels).numpy(), self.names)
        said = ("auroc", *(["balanced_acc"] if exclusive else []), *(f"auroc/{name}" for name in self.names))
        return {"score": found["auroc"], **{key: found[key] for key in said}}


build = Classification
