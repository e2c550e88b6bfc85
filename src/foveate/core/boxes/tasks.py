"""The third kind of tasks: answers are boxes, any number of them or one for each named class.

`finetune`, `predict`, `evaluate` and `compare` know this kind as they know the two of `core.tasks`. Labels
are label maps (a box for each piece of a class, or one each), or boxes of a table. Those are painted
into a map of instance numbers, so that cache, windows and workers are those of label maps; the boxes as the
table has them are kept beside the map and are what is scored.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from foveate.core.boxes.geometry import Boxes, component_boxes, filled, in_voxels, value_boxes
from foveate.core.contracts import LabelledReader
from foveate.core.direction import is_less_better
from foveate.core.labels import LABELS, unions
from foveate.core.tasks import DenseTask, ImageTask, Task, TaskConfig
from foveate.core.types import Array, FoveateError, LabelFacts

IGNORED = -1  # the class of boxes that count neither as found nor as false

Scorer = Callable[[Array], dict[str, float]]  # metrics of the scans with these numbers


class Scan(NamedTuple):
    """One image to score: boxes along its axes, in millimetres from the middle of its first voxel."""

    truth: Boxes
    ignored: Boxes  # an answer that hits one of them is neither right nor wrong
    found: Boxes

    @property
    def axes(self) -> int:
        """Of the image."""
        return int(self.truth.centre.shape[1])

    def numbers(self) -> list[float]:
        """All of it as plain numbers."""
        rows = [row for part in self for row in part.rows()]
        counts = [float(self.axes), float(len(self.truth)), float(len(self.ignored))]
        return [*counts, *(number for row in rows for number in row)]

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> Scan:
        """What `numbers` gave."""
        axes, known, ignored = map(int, numbers[:3])
        rows = np.reshape(numbers[3:], (-1, 2 * axes + 2)).tolist()
        ends = (0, known, known + ignored, len(rows))
        parts = [Boxes.from_rows(rows[a:b], axes) for a, b in pairwise(ends)]
        return cls(*parts)


class Kind(NamedTuple):
    """One kind of places that samples are cut around."""

    name: str
    share: float  # of the samples, beside those of the other kinds
    labels: Mapping[str, float]  # of a sample around such a place


class Known(NamedTuple):
    """The boxes of an image's labels, in voxels."""

    truth: Boxes
    ignored: Boxes


@dataclass(frozen=True, kw_only=True)
class BoxConfig(TaskConfig):
    """The Config of a task whose answers are boxes.

    Attributes:
        pieces: Whether each connected piece of a class in a label map has a box of its own.
        places_given: Whether the labels list places to be scored, which an image must have for an answer too.
        one_each: Whether there is at most one box of a class in an image: `predict` reports a class without
            one as absent.
        by_windows: Whether a larger image is answered window by window, so that `--window.overlap` means
            something.
        shown_from: Boxes with a lower score are not written by `predict`; scoring sees them.
        classes: What has boxes: each "name=value" or "name=value+value" with values of label maps; by
            default found in the labels. For a table, names from its column `class`.
        ignore: Values of label maps whose boxes count neither as found nor as false alarms; of a table the
            boxes of class "ignore".
        instances: 0 for label maps; of maps painted from a table the number of its classes. Found in the
            labels.
    """

    want: ClassVar[Literal["maps", "values", "boxes"]] = "boxes"
    pieces: ClassVar[bool] = True
    places_given: ClassVar[bool] = False
    one_each: ClassVar[bool] = False
    by_windows: ClassVar[bool] = True
    shown_from: ClassVar[float] = 0.0
    classes: tuple[str, ...] = ()
    ignore: tuple[int, ...] = ()
    instances: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The classes; none before the labels are known."""
        return tuple(unions(self.classes))

    def settle(self, facts: LabelFacts) -> Self:
        """The same with the classes of the training labels; refuses labels without any box."""
        ignore = self.ignore or facts.ignore
        if facts.instances and self.classes and set(self.classes) != set(facts.classes):
            raise FoveateError(
                f"--task.classes {','.join(self.classes)}: the labels are boxes of a table, whose classes "
                f"are {', '.join(facts.classes)}; drop the key."
            )
        values = {kind_of(value, facts.instances) for value in facts.values if value > 0}
        found = sorted(value for value in values if value not in ignore)
        classes = self.classes or facts.classes or tuple(f"class{value}={value}" for value in found)
        named = unions(classes)
        if not found:
            raise FoveateError(
                "The training labels hold no box: no image of the training part has a finding that counts; "
                "change --split.*, or label images that have one."
            )
        declared = {value for group in named.values() for value in group} | set(ignore) | {0}
        others = {kind_of(value, facts.instances) for value in facts.others if value > 0}
        if strange := sorted((values | others) - declared):
            raise FoveateError(
                f"The labels hold the values {strange}, which no class of {', '.join(classes)} declares; say "
                f"--task.classes with them, or --task.ignore '{strange}'."
            )
        if absent := [name for name, group in named.items() if not set(group) & values]:
            raise FoveateError(
                f"Class {absent[0]} has no box in the training images, whose labels hold the values {found}; "
                "drop it from the labels or change the split."
            )
        return replace(self, classes=tuple(classes), ignore=tuple(ignore), instances=facts.instances)

    def classes_of(self, values: Iterable[int]) -> dict[int, int]:
        """Class of each value of a map by its number, `IGNORED` where it does not count; not of others."""
        groups = {value: k for k, group in enumerate(unions(self.classes).values()) for value in group}
        known = groups | dict.fromkeys(self.ignore, IGNORED)
        kinds = {value: kind_of(value, self.instances) for value in values if value > 0}
        return {value: known[kind] for value, kind in kinds.items() if kind in known}

    def boxes_of(self, labels: Array, values: Collection[int]) -> Boxes:
        """Boxes in voxels of a map (*S) or a part of it, whose values are known."""
        classes = self.classes_of(values)
        by_piece = self.pieces and not self.instances
        return component_boxes(labels, classes) if by_piece else value_boxes(labels, classes)

    def known(self, case: LabelledReader) -> Known:
        """The boxes of a case: as its table has them, or those of its label map."""
        listed = case.listed_boxes(LABELS)
        if listed is None:
            labels = case.read_map(LABELS, [0] * len(case.shape), case.shape)
            boxes = self.boxes_of(labels, np.unique(labels).tolist())
        else:
            n = len(case.shape)
            classes = self.classes_of(int(row[0]) for row in listed)
            rows = [row for row in listed if int(row[0]) in classes]
            kinds = [classes[int(row[0])] for row in rows]
            table = np.reshape(rows, (-1, 1 + 2 * n))
            world = Boxes.of(table[:, 1 : 1 + n], table[:, 1 + n :], kinds, axes=n)
            boxes = in_voxels(world, case.affine)
        return Known(boxes.picked(boxes.label != IGNORED), boxes.picked(boxes.label == IGNORED))

    @property
    def kinds(self) -> Sequence[Kind]:
        """Kinds of places that training samples are cut around; none: windows are drawn image by image."""
        return ()

    def places(self, case: LabelledReader) -> Boxes:
        """Those of a case in voxels; `label` is the number of the kind."""
        return self.known(case).truth

    def lacking(self, values: Iterable[int]) -> str:
        """What labels with these values lack to be scored, in words; "" where they lack nothing."""
        counts = any(number != IGNORED for number in self.classes_of(values).values())
        return "" if counts else "a box that counts"

    def scan(self, case: LabelledReader, found: Boxes) -> Scan:
        """A case with the boxes in voxels that were found in it."""
        known, sides = self.known(case), case.spacing_mm
        return Scan(known.truth.scaled(sides), known.ignored.scaled(sides), found.scaled(sides))

    def unscored(self, case: LabelledReader, found: Boxes) -> int:  # noqa: ARG002
        """How many places of the labels have no score among the boxes in voxels; 0 by default."""
        return 0

    @property
    @abstractmethod
    def chosen_by(self) -> str:
        """The metric of `scorer` that training selects by; a name in the class is enough."""

    @abstractmethod
    def scorer(self, scans: Sequence[Scan]) -> Scorer:
        """What gives metrics of some of these scans, for `evaluate` and `compare`.

        The names are the same for any of them; "n" and "n/..." count. NaN where a metric is not defined.
        More is better but for those of `less_is_better`.
        """

    @abstractmethod
    def row(self, scan: Scan) -> dict[str, float]:
        """Numbers of one scan, for the table of cases: the same names for any scan.

        A page sorts the cases by the first, the worst above, which `less_is_better` names where less is
        better.
        """

    def mistakes(self, scan: Scan) -> float:  # noqa: ARG002
        """How wrong the answers for a scan are: the worst are drawn, NaN never; by default nothing is."""
        return float("nan")

    def report(self, scans: Sequence[Scan], out: Path) -> Mapping[str, object]:  # noqa: ARG002
        """Draw figures into a folder; what `summary.json` says beside the metrics. Nothing by default."""
        return {}


class BoxTask(Task):
    """A task whose answers are boxes; `outputs` and `activation` are what its network says before."""

    config: BoxConfig

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of its Config."""
        return self.config.names

    @abstractmethod
    def predict(self, volume: LabelledReader, overlap: float = 0.5, mirrored: Sequence[int] = ()) -> Boxes:
        """Scored boxes in voxels of a whole image, the surest first; of given places in their own order.

        Args:
            volume: The image; its labels are for a task with `places_given` alone.
            overlap: Share of a window that the next one sees again, for a task that has windows.
            mirrored: Axes of the image that are mirrored before; the answer is for the image as it is.
        """

    def judged(self, case: LabelledReader) -> list[float]:
        """Its labels and its answer; as many numbers as they need."""
        return self.config.scan(case, self.predict(case, self.validation_overlap)).numbers()

    def metrics(self, judged: Sequence[Sequence[float]]) -> dict[str, float]:
        """Those of the Config, and the one that training selects by: with a minus where less is better."""
        found = self.config.scorer([Scan.from_numbers(each) for each in judged])(np.arange(len(judged)))
        chosen = self.config.chosen_by
        sign = -1.0 if is_less_better(chosen, self.config.falling()) else 1.0
        return {"score": sign * found[chosen], **found}

    def outlines(self, case: LabelledReader) -> dict[str, Tensor]:
        """True and predicted boxes."""
        sides = {"truth": self.config.known(case).truth, "prediction": self.predict(case)}
        return {
            title: torch.from_numpy(filled(boxes, case.shape, len(self.class_names)))
            for title, boxes in sides.items()
        }


AnyTask = DenseTask | ImageTask | BoxTask  # the kinds that commands know


def averaged(found: Sequence[Boxes]) -> Boxes:
    """The answers of several networks for the same places as one: the means of their scores."""
    return replace(found[0], score=np.mean([each.score for each in found], axis=0))


def kind_of(value: int, classes: int) -> int:
    """The class's own value: that of a label map as it is, of an instance number from 1 on.

    >>> [kind_of(value, 2) for value in (1, 2, 3, 4)], kind_of(7, 0)
    ([1, 2, 1, 2], 7)
    """
    return (value - 1) % classes + 1 if classes else value


def instance_of(number: int, kind: int, classes: int) -> int:
    """The instance number of the box `number`, from 0, of a class: what `kind_of` undoes.

    >>> kind_of(instance_of(5, 2, 3), 3)
    2
    """
    return number * classes + kind
