"""A whole volume to its label map, its masks and its probabilities, within a bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from foveate.core.contracts import Slices, VolumeReader, Windowed
from foveate.core.types import Activation, Array
from foveate.data.cache.planes import Cut
from foveate.scoring.inference import (
    Answer,
    Pace,
    WindowConfig,
    check_window,
    sliding_window,
    sweep_axis,
    zeros,
)
from foveate.scoring.members.doubt import Asked, Doubt
from foveate.scoring.members.mirrors import Mirror, averaged, mirror_images, side_by_side
from foveate.scoring.members.shares import levels_of, mean_of, member_shares
from foveate.scoring.postprocess import tidy_labels, tidy_mask

PIECE = 1 << 24  # logits of which probabilities are made at once
SURE = 30.0  # a logit whose probability is 1 in every digit that is stored


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
    doubt: Doubt | None = None  # how sure all of this is, where asked for

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
    pace: Pace | None = None,
    members: int = 1,
    mirror: Mirror = "none",
    doubt: Asked = "none",
) -> Segmentation:
    """Cover a volume with windows; the likeliest class wins, or every class above one half.

    What is decided of a slab is decided where its sums are; labels come back to the host, not logits.
    A volume that is cut into slices is answered slice by slice. Where `answer` gives the logits of several
    members side by side, (B, M * K, *S), their probabilities for the whole volume are averaged. So are those
    of one network for mirror images; where several see them, each is averaged window by window before.
    """
    source: Windowed = volume
    if (planes := volume.planes) is not None:
        check_window(planes[0].shape, patch)
        source = Stack(shape=volume.shape, planes=planes)
        patch, answer = thick(patch, planes.axis), of_slices(answer, planes.axis)
    check_window(volume.shape, patch)
    exclusive = activation == "softmax"
    cut = None if planes is None else planes.axis
    mirrors = mirror_images(mirror, len(volume.shape), cut)
    if members > 1 and len(mirrors) > 1:
        answer = averaged(answer, mirrors, members, exclusive=exclusive)
    elif len(mirrors) > 1:
        answer, members = side_by_side(answer, mirrors), len(mirrors)
    asked = None if doubt == "none" else Doubt(volume.shape, exclusive=exclusive, wanted=doubt)
    made = _Made(volume.shape, classes, members, asked, exclusive=exclusive, probabilities=probabilities)
    unseen = background(classes, exclusive=exclusive).repeat(members)
    axis = sweep_axis(volume.shape, patch)
    for start, logits, _ in sliding_window(source, answer, patch, members * classes, window, pace, unseen):
        depth = max(1, PIECE * logits.shape[axis + 1] // logits.numel())
        for low, piece in enumerate(torch.split(logits, depth, axis + 1)):
            here: list[slice] = [slice(None)] * len(volume.shape)
            here[axis] = slice(start + low * depth, start + low * depth + piece.shape[axis + 1])
            made.enter(here, piece)
    _tidy(made.labels, made.masks, classes, tidy)
    return Segmentation(labels=made.labels, masks=made.masks, probabilities=made.probabilities, doubt=asked)


@final
class _Made:
    """What is made of the finished slabs of a volume."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        members: int,
        doubt: Doubt | None,
        *,
        exclusive: bool,
        probabilities: bool,
    ) -> None:
        self.members, self.exclusive, self.doubt = members, exclusive, doubt
        self.kind = torch.uint8 if classes <= 256 else torch.int16
        dtype = np.uint8 if classes <= 256 else np.int16
        self.labels = np.zeros(shape, dtype=dtype) if self.exclusive else None
        self.masks = None if self.exclusive else zeros((classes, *shape), np.bool_)
        self.probabilities = zeros((classes, *shape), np.uint16) if probabilities else None

    def enter(self, here: Sequence[slice], logits: Tensor) -> None:
        """Decide a part of a slab, from logits (M * K, *S)."""
        said, least, mean = logits, 0.0, None
        if self.members > 1 or self.probabilities is not None or self.doubt:
            shares = member_shares(logits, self.members, exclusive=self.exclusive)
            mean = mean_of(shares)
            said, least = (mean, 0.5) if self.members > 1 else (said, least)
            if self.doubt:
                self.doubt.enter(here, shares, mean)
        if self.labels is not None:
            self.labels[tuple(here)] = on_host(said.argmax(0).to(self.kind))
        if self.masks is not None:
            self.masks[(slice(None), *here)] = on_host(said > least)
        if self.probabilities is not None and mean is not None:
            self.probabilities[(slice(None), *here)] = on_host(levels_of(mean))


def background(classes: int, *, exclusive: bool) -> Tensor:
    """Logits (K,) of what is background for sure: the first class, or none of them."""
    logits = torch.full((classes,), -SURE)
    if exclusive:
        logits[0] = SURE
    return logits


def on_host(values: Tensor) -> Array:
    """As an array: where they lie on a device, the one wait for it."""
    return np.asarray(values.cpu().numpy())


def _tidy(labels: Array | None, masks: Array | None, classes: int, tidy: TidyConfig) -> None:
    largest, holes = tidy.largest_component, tidy.fill_holes
    if not (largest or holes):
        return
    if labels is not None:
        tidy_labels(labels, classes - 1, largest=largest, holes=holes)
    if masks is not None:
        for k in range(classes):
            masks[k] = tidy_mask(masks[k], largest=largest, holes=holes)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The slices of a volume, read as windows of the volume that are one voxel thick.

    So batches hold windows of several slices, and slabs of sums are as thin as the axis allows.
    """

    shape: tuple[int, ...]
    planes: Slices

    def read(self, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) of one slice with its neighbours as channels."""
        cut = Cut(self.planes.axis)
        seen = self.planes[low[cut.axis]].read(cut.across(low), cut.across(high))
        return np.expand_dims(seen, cut.axis + 1)


def thick(patch: Sequence[int], axis: int) -> tuple[int, ...]:
    """The shape of a slice's window in the volume.

    >>> thick((32, 16), 0)
    (1, 32, 16)
    """
    return (*patch[:axis], 1, *patch[axis:])


def of_slices(answer: Answer, axis: int) -> Answer:
    """A 2D network's answer to windows that are one voxel thick."""

    def found(images: Tensor) -> Tensor:
        return answer(images.squeeze(axis + 2)).unsqueeze(axis + 2)

    return found
