"""A whole volume to its label map, its masks and its probabilities, within a bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foveate.core.contracts import VolumeReader
from foveate.core.types import Activation, Array
from foveate.evaluate.files import LEVELS
from foveate.evaluate.inference import Answer, WindowConfig, check_window, sliding_window, sweep_axis, zeros
from foveate.evaluate.postprocess import tidy_labels, tidy_mask


@dataclass(frozen=True, slots=True, kw_only=True)
class TidyConfig:
    """What is done to a mask.

    Attributes:
        largest_component: Keep only the largest face-connected piece of every class.
        fill_holes: Fill what a class encloses.
    """

    largest_component: bool = False
    fill_holes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """The answer for one volume, on the grid that the network saw."""

    labels: Array | None  # (*S) class index, where one class excludes the others
    masks: Array | None  # (K, *S) bool, where classes may overlap
    probabilities: Array | None  # (K, *S) as whole numbers up to `LEVELS`, where asked for

    def mask(self, k: int) -> Array:
        """The mask of output k."""
        if self.labels is not None:
            return np.asarray(self.labels == k)
        assert self.masks is not None
        return np.asarray(self.masks[k])


def segment(
    volume: VolumeReader,
    answer: Answer,
    *,
    patch: Sequence[int],
    classes: int,
    activation: Activation,
    window: WindowConfig,
    tidy: TidyConfig,
    probabilities: bool = False,
) -> Segmentation:
    """Cover a volume with windows; the likeliest class wins, or every class above one half."""
    check_window(volume.shape, patch, window)
    exclusive = activation == "softmax"
    shape, axis = volume.shape, sweep_axis(volume.shape, patch)
    labels = np.zeros(shape, dtype=np.uint8 if classes <= 256 else np.int16) if exclusive else None
    masks = None if exclusive else zeros((classes, *shape), np.bool_)
    shares = zeros((classes, *shape), np.uint16) if probabilities else None
    for start, logits in sliding_window(volume, answer, patch, classes, window):
        here: list[slice] = [slice(None)] * len(shape)
        here[axis] = slice(start, start + logits.shape[axis + 1])
        if labels is not None:
            labels[tuple(here)] = logits.argmax(0)
        if masks is not None:
            masks[(slice(None), *here)] = logits > 0
        if shares is not None:
            shares[(slice(None), *here)] = levels_of(logits, exclusive=exclusive)
    _tidy(labels, masks, classes, tidy)
    return Segmentation(labels=labels, masks=masks, probabilities=shares)


def levels_of(logits: Array, *, exclusive: bool) -> Array:
    """Probabilities as whole numbers."""
    if exclusive:
        rising = np.exp(logits - logits.max(0, keepdims=True))
        rising /= rising.sum(0, keepdims=True)
    else:
        rising = 0.5 * (1 + np.tanh(0.5 * logits))
    return np.asarray(np.rint(rising * LEVELS), dtype=np.uint16)


def _tidy(labels: Array | None, masks: Array | None, classes: int, tidy: TidyConfig) -> None:
    largest, holes = tidy.largest_component, tidy.fill_holes
    if not (largest or holes):
        return
    if labels is not None:
        tidy_labels(labels, classes - 1, largest=largest, holes=holes)
    if masks is not None:
        for k in range(classes):
            masks[k] = tidy_mask(masks[k], largest=largest, holes=holes)
