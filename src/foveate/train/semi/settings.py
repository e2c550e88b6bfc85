"""How unlabelled images take part in a fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.core.types import FoveateError


@dataclass(frozen=True, kw_only=True)
class SemiConfig:
    """How unlabelled images take part, where `unlabelled` names some.

    Attributes:
        supervised_steps: Steps at the start in which every sample is a labelled one; a third of the steps
            where `unlabelled` is said.
        labeller: Who labels the unlabelled windows, which it sees clean: a "teacher", which is an
            exponential moving average of the weights, or the network "self", the control without a teacher.
        momentum: Of the moving average; smaller in the first steps, so that it forgets the random weights.
        mixing: "paste": a box of the labelled window is pasted into the unlabelled one and the other way
            round, before the first unlabelled image with two labelled ones; "none": windows stay as they are.
        box: Side of the box as a share of the window's.
        unlabelled_weight: How much a voxel with a pseudo-label counts; one with a label counts 1.
        ramp_steps: Steps after the supervised ones in which `unlabelled_weight` rises in equal parts from 0;
            0: it is there at once.
        confidence: Voxels of which the labeller is less sure than this count nothing; 0 lets all count.
        threshold: Whether `confidence` is "fixed", or that of the "class" of which the labeller is surest on
            average; a class of which it is half as sure has half of it.
        weighting: Whether voxels with a pseudo-label count "equal" to each other, or with the labeller's
            "confidence" as a factor.
        balance: How far the shares of the classes among all voxels that are marked are moved towards those of
            the labelled windows, 0 to 1: probabilities are multiplied by the ratio to this power, at most 10.
        largest_component: Whether only the largest component of each class in a pseudo-labelled window
            stays; the rest becomes background.
        batch_norm: Whose statistics normalise the windows that are mostly labelled and those that are mostly
            unlabelled: "together" those of all; "apart" each kind its own; "labelled" as that, and only the
            labelled kind writes running statistics.
        labeller_norm: Statistics of the labeller: the "running" ones, or those of its own "batch".
        weights: What is validated and exported: the trained network, "student", or its average, "teacher".
        health_every: Steps between measurements of the pseudo-labels on fixed unlabelled windows; 0 is off.
    """

    supervised_steps: int = 0
    labeller: Literal["teacher", "self"] = "teacher"
    momentum: float = 0.99
    mixing: Literal["paste", "none"] = "paste"
    box: float = 2 / 3
    unlabelled_weight: float = 0.5
    ramp_steps: int = 0
    confidence: float = 0.0
    threshold: Literal["fixed", "class"] = "fixed"
    weighting: Literal["equal", "confidence"] = "equal"
    balance: float = 0.0
    largest_component: bool = False
    batch_norm: Literal["together", "apart", "labelled"] = "together"
    labeller_norm: Literal["running", "batch"] = "running"
    weights: Literal["student", "teacher"] = "teacher"
    health_every: int = 100

    def __post_init__(self) -> None:
        for name, value, fits, accepted in (
            ("supervised_steps", self.supervised_steps, self.supervised_steps >= 0, "0 or more"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "from 0, below 1"),
            ("box", self.box, 0 < self.box < 1, "above 0, below 1"),
            ("unlabelled_weight", self.unlabelled_weight, self.unlabelled_weight > 0, "above 0"),
            ("ramp_steps", self.ramp_steps, self.ramp_steps >= 0, "0 or more"),
            ("balance", self.balance, 0 <= self.balance <= 1, "from 0 to 1"),
            ("confidence", self.confidence, 0 <= self.confidence < 1, "from 0, below 1"),
            ("health_every", self.health_every, self.health_every >= 0, "0 or more"),
        ):
            if not fits:
                raise FoveateError(f"semi.{name} is {value}; accepted: {accepted}.")
        if self.threshold == "class" and not self.confidence:
            raise FoveateError(
                "semi.threshold is class without semi.confidence; accepted: a confidence above 0."
            )

    @property
    def by_class(self) -> bool:
        """Whether the classes are treated differently, so that what is said of each must be known."""
        return self.threshold == "class" or self.balance > 0

    def weight_at(self, step: int) -> float:
        """Of a voxel with a pseudo-label at a step.

        >>> config = SemiConfig(supervised_steps=10, ramp_steps=4, unlabelled_weight=0.5)
        >>> [config.weight_at(step) for step in (9, 10, 11, 13, 14, 50)]
        [0.0, 0.125, 0.25, 0.5, 0.5, 0.5]
        """
        done = step - self.supervised_steps + 1
        if done <= 0:
            return 0.0
        return self.unlabelled_weight * min(1.0, done / max(1, self.ramp_steps))
