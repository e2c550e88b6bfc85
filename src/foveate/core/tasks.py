"""Tasks, and two of their kinds: answers for every voxel, and answers for whole images.

`core.boxes.tasks` has the third, whose answers are boxes. `finetune`, `predict`, `evaluate` and `compare` ask
which of the three a task is, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Protocol, Self, final

import numpy as np
import torch
from torch import Tensor, nn

from foveate.core.contracts import LabelledReader, Trainable, VolumeReader
from foveate.core.networks import Network
from foveate.core.types import (
    Activation,
    Array,
    Batch,
    Dimension,
    Json,
    LabelFacts,
    Normalisation,
    Progress,
    Size,
)


@dataclass(frozen=True, kw_only=True)
class TaskConfig(ABC):
    """What every task's Config has: all that commands ask before there is a network.

    A leaf is built on `DenseConfig`, `ImageConfig` or `BoxConfig`, which say what its labels are.

    Attributes:
        want: What the labels are: maps on the image's grid, values of whole images, or boxes.
        less_is_better: Metrics of which less is better, beside those that its kind names; a name stands for
            NAME/CLASS as well.
        name: Which task.
    """

    want: ClassVar[Literal["maps", "values", "boxes"]]
    less_is_better: ClassVar[tuple[str, ...]] = ()
    name: str = ""

    @classmethod
    def falling(cls) -> tuple[str, ...]:
        """All metrics of which less is better: its own, and those of what it is built on."""
        kinds = [each for each in cls.__mro__ if issubclass(each, TaskConfig)]
        return tuple(dict.fromkeys(name for each in kinds for name in each.less_is_better))

    @classmethod
    @abstractmethod
    def preset(cls, dimension: Dimension, size: Size, normalisation: Normalisation) -> Self:
        """The defaults of a dimension and a size, for an encoder whose input went through that step."""

    @property
    @abstractmethod
    def normalisation(self) -> Normalisation:
        """The named step that the encoder's input goes through."""

    @abstractmethod
    def settle(self, facts: LabelFacts) -> Self:
        """The same with what the labels of the training images decide; refuses labels that do not fit."""

    def stratum(self, labels: Mapping[str, Json]) -> str:  # noqa: ARG002
        """What a split must mix evenly, from the labels of a whole image; nothing by default."""
        return ""

    def encode(self, labels: Mapping[str, Json]) -> dict[str, float]:  # noqa: ARG002
        """Labels of a whole image as numbers, NaN where they are missing; none by default."""
        return {}


class Task(Trainable):
    """A downstream task over `net`, the pyramid that it was given.

    A leaf is a `DenseTask`, an `ImageTask` or a `BoxTask`: commands know these kinds and no names.
    """

    net: nn.Module
    config: TaskConfig
    frozen: bool = False
    validation_overlap: float = 0.5  # of the windows of a validation, where a task has windows

    def freeze(self) -> None:
        """Leave the encoder as it is from now on, its statistics too."""
        self.frozen = True
        self.exported()["encoder"].requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """As torch's, but that a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.exported()["encoder"].eval()
        return self

    @abstractmethod
    def outputs(self, images: Tensor) -> Tensor:
        """Clean images (B, C, *S) in [0, 1] to what the activation is applied to.

        Normalises by itself. (B, K, *S) where the task answers per voxel, else (B, K).
        """

    @property
    @abstractmethod
    def patch(self) -> tuple[int, ...]:
        """The grid of the images that `outputs` was trained on."""

    @property
    @abstractmethod
    def activation(self) -> Activation:
        """What turns outputs into probabilities or values."""

    @property
    def normalisation(self) -> Normalisation:
        """The named step of `outputs`, for the card."""
        return self.config.normalisation

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """A name for every one of the K outputs, background first where there is one."""

    @abstractmethod
    def exported(self) -> dict[str, nn.Module]:
        """All parts, by the prefix of their names in the weights file; one is called "encoder"."""

    @abstractmethod
    def stages(self) -> list[list[nn.Parameter]]:
        """Parameters by their distance from the answer: new ones first, the encoder's stem last."""

    @abstractmethod
    def judged(self, case: LabelledReader) -> Sequence[float]:
        """What one whole image says of the metrics, as plain numbers."""

    @abstractmethod
    def metrics(self, judged: Sequence[Sequence[float]]) -> dict[str, float]:
        """Metrics of some images; the one named "score" is what training selects by, more being better."""

    @final
    def validate(self, cases: Sequence[LabelledReader]) -> dict[str, float]:
        """The metrics of whole images; several processes may share the work of `judged`."""
        return self.metrics([self.judged(case) for case in cases])

    def outlines(self, case: LabelledReader) -> dict[str, Tensor]:  # noqa: ARG002
        """Regions to draw over an image, title -> bool (K, *S); nothing by default."""
        return {}


@dataclass(frozen=True, kw_only=True)
class DenseConfig(TaskConfig):
    """The Config of a task whose labels are maps."""

    want: ClassVar[Literal["maps", "values", "boxes"]] = "maps"
    less_is_better: ClassVar[tuple[str, ...]] = (
        "hd95",
        "mean_hd95",
        "ece_fg",
        "lesions_missed",
        "lesions_false",
    )

    @property
    def unknown_values(self) -> tuple[int, ...]:
        """Values of label maps that say nothing of a voxel; none by default."""
        return ()


class Truth(NamedTuple):
    """What the label map of a case says."""

    masks: dict[str, Array]  # name of an output -> bool (*S); the background is no mask
    known: Array  # bool (*S): where something is known


class DenseTask(Task):
    """A task that answers for every voxel: outputs are (B, K, *S), answers are masks and scored as such.

    With the activation "softmax" one output holds at a voxel, and `predict` writes one label map; with
    "sigmoid" several may, and it writes a mask each.
    """

    config: DenseConfig
    weighs_voxels: ClassVar[bool] = (
        False  # whether the losses heed `weights` of a batch: no pseudo-labels without
    )

    @property
    def codebook(self) -> dict[int, tuple[int, ...]]:
        """Label value -> the outputs that hold at a voxel of that value; where it has several, the lowest."""
        return {value: (output,) for output, value in enumerate(self.label_values)}

    def canonical(self, labels: Tensor) -> Tensor:
        """Label values as `codebook` has them; negative where nothing is known. By default as they are."""
        return labels

    @property
    @abstractmethod
    def label_values(self) -> tuple[int, ...]:
        """What stands for each output in a label map that is written."""

    @property
    @abstractmethod
    def declared(self) -> Collection[int]:
        """Values that a label map may hold, those that are ignored included."""

    @abstractmethod
    def truth(self, case: LabelledReader) -> Truth:
        """The masks of a case; their names are some of `class_names`."""


@dataclass(frozen=True, kw_only=True)
class ImageConfig(TaskConfig):
    """The Config of a task whose labels are values of whole images.

    Attributes:
        targets: The columns of the labels.
    """

    want: ClassVar[Literal["maps", "values", "boxes"]] = "values"
    less_is_better: ClassVar[tuple[str, ...]] = ("mae", "ece")
    targets: tuple[str, ...] = ()

    @abstractmethod
    def score(self, answers: Array, labels: Array) -> dict[str, float]:
        """Metrics of some cases, for `evaluate` and `compare`: answers (N, K), labels (N, targets).

        A label is NaN where it is missing; so is a metric where it is not defined. The names are the same for
        any cases; "n" and "n/..." count cases. More is better but for those of `less_is_better`.
        """


class Answered(NamedTuple):
    """Answers and labels of some cases."""

    answers: Array  # (N, K), as `predict` gives them
    labels: Array  # (N, targets), NaN where they are missing


class ImageTask(Task):
    """A task that answers for whole images: outputs are (B, K), the activation makes them the answer."""

    config: ImageConfig

    @property
    def uses_validation(self) -> bool:
        """Whether `report` wants the answers for the validation images."""
        return False

    @property
    def sought(self) -> Sequence[str]:
        """Those of `class_names` whose best image is sought in a sweep; none by default.

        The one target is then the number of a class.
        """
        return ()

    @abstractmethod
    def view(self, volume: VolumeReader) -> Tensor:
        """A whole image as `outputs` takes it, (1, C, *S) in [0, 1], always the same."""

    @torch.no_grad()
    def predict(self, volume: VolumeReader, mirrored: Sequence[int] = ()) -> Tensor:
        """The answer for a whole image, (K,): probabilities, or values in their own units.

        `mirrored` are axes of the image that are mirrored before.
        """
        image = self.view(volume).to(next(self.parameters()).device)
        image = image.flip([axis + 2 for axis in mirrored]) if mirrored else image
        answers = self.outputs(image).float().cpu()[0]
        return activated(answers, self.activation)

    def judged(self, case: LabelledReader) -> list[float]:
        """Its answer, then its labels."""
        return [*self.predict(case).tolist(), *(float(case.labels[t]) for t in self.config.targets)]

    def answered(self, judged: Sequence[Sequence[float]]) -> Answered:
        """Answers and labels of images from what each of them said."""
        both, targets = np.array(judged, dtype=np.float32), len(self.config.targets)
        return Answered(both[:, :-targets], both[:, -targets:])

    def row(self, answers: Sequence[float]) -> dict[str, str]:
        """The cells of an image in the table of predictions; by default a column for each output.

        Where one of them holds, it is named in `predicted`.
        """
        row = {name: f"{value:.6g}" for name, value in zip(self.class_names, answers, strict=True)}
        if self.activation == "softmax":
            row["predicted"] = self.class_names[int(np.argmax(answers))]
        return row

    def mistakes(self, found: Answered) -> Array:
        """How wrong each answer is, (N,): the worst are drawn. NaN is never drawn: by default nothing is."""
        return np.full(len(found.answers), np.nan)

    def caption(self, answers: Array, labels: Array) -> str:
        """What was answered (K,) and what is true (targets,), under the picture of a case."""
        said = [f"{name}: {value:.2f}" for name, value in zip(self.class_names, answers, strict=True)]
        true = [f"{name} is {value:g}" for name, value in zip(self.config.targets, labels, strict=True)]
        return "\n".join([*true, *said])

    def report(self, found: Answered, validation: Answered | None, out: Path) -> Mapping[str, object]:  # noqa: ARG002
        """Draw figures into a folder; what `summary.json` says beside the metrics. Nothing by default."""
        return {}


class ViewTask(ImageTask):
    """An image task whose answers can be had apart from its losses, as learning without labels needs them."""

    @abstractmethod
    def view_outputs(self, batch: Batch, progress: Progress) -> Tensor:
        """Outputs (B * V, K) for the corrupted views of a batch, with a gradient."""

    @abstractmethod
    def losses_of(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The losses of `view_outputs`."""

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """One after the other."""
        return self.losses_of(self.view_outputs(batch, progress), batch)


class TaskModule(Protocol):
    """A module of `foveate.tasks`."""

    Config: type[TaskConfig]

    def build(self, net: Network, config: TaskConfig, /) -> Task:
        """The task on a network."""
        ...


def activated(outputs: Tensor, activation: Activation) -> Tensor:
    """Outputs (..., K) as probabilities or values."""
    if activation == "softmax":
        return outputs.softmax(-1)
    return outputs.sigmoid() if activation == "sigmoid" else outputs
