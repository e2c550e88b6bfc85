"""What is exported: the weights of a run, the networks that they build, and what must be known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from foveate.core.boxes.tasks import AnyTask
from foveate.core.dims import LAYERS
from foveate.core.networks import Encoder
from foveate.core.types import Normalisation
from foveate.nets.weights import store as weights
from foveate.views.intensity import GREY_IMAGENET, OF_DATASET, OF_IMAGE

NORMALISATIONS: dict[Normalisation, str] = {
    "none": "none",
    "zscore": "subtract the mean of the image or patch, divide by its deviation, over all channels together",
    "imagenet": f"subtract {GREY_IMAGENET[0]} and divide by {GREY_IMAGENET[1]}",
    "image": f"subtract {OF_IMAGE[0]} and divide by {OF_IMAGE[1]}, the foreground's mean and deviation",
    "dataset": f"subtract {OF_DATASET[0]} and divide by {OF_DATASET[1]}",
}
UNIT = "values windowed to [0, 1]"


@final
@dataclass(frozen=True, kw_only=True)
class Source:
    """The weights of a run.

    Attributes:
        tensors: Of all parts, under foveate's names.
        card: Of the weights.
        encoder: The encoder, in evaluation mode.
        task: The fine-tuned task, where the run has one.
    """

    tensors: dict[str, Tensor]
    card: weights.Card
    encoder: Encoder
    task: AnyTask | None

    @property
    def dimension(self) -> int:
        """Of the images."""
        found: int = self.card["dimension"]
        return found

    @property
    def is_flat(self) -> bool:
        """Whether the images are 2D."""
        return self.dimension == min(LAYERS)

    @property
    def stride(self) -> int:
        """Image sizes that the graphs take are multiples of this."""
        return self.encoder.strides[-1]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of an image, in order."""
        return ("x", "y", "z")[: self.dimension]

    @property
    def normalisation(self) -> str:
        """The named step before the network, in words."""
        known: dict[str, str] = {str(name): words for name, words in NORMALISATIONS.items()}
        return known.get(str(self.card.get("normalisation")), "not known")

    def described(self) -> dict[str, Any]:
        """What a program that runs an exported graph must know of its input and outputs."""
        card = self.card
        return {
            "input": f"float32 (batch, {card['in_channels']}, {', '.join(self.axes)}), {UNIT}",
            "axis_order": card["axis_order"],
            "intensity": card.get("intensity"),
            "spacing_mm": card.get("spacing_mm"),
            "normalisation": f"inside the graph: {self.normalisation}",
            "sizes": f"multiples of {self.stride} on every axis",
            "outputs": self.outputs(),
        }

    def outputs(self) -> dict[str, Any]:
        """Names of the graph's outputs, and what they are."""
        if self.task is None:
            strides = zip(self.encoder.strides, self.encoder.channels, strict=True)
            return {f"map_{s}": f"features at stride {s}, {c} channels" for s, c in strides}
        return {"outputs": {"names": list(self.task.class_names), "activation": self.task.activation}}
