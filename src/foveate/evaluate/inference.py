"""Sliding window over a volume that is read, answered and handed on piece by piece.

Windows are visited from one end of an axis to the other; what no later window can reach is finished and
leaves as a slab. Memory holds one slab of sums, not the volume's: over a limit even that is a file. Sums are
running weighted means, so that equal answers give exactly that answer, whatever the overlap.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from foveate.core.contracts import VolumeReader
from foveate.core.types import Array, FoveateError

Answer = Callable[[Tensor], Tensor]  # clean images (B, C, *patch) to logits (B, K, *patch)
SIGMA_SHARE = 1 / 8  # of the patch: the Gaussian that trusts the middle of a window
SMALLEST_WEIGHT = 1e-3  # relative to the middle, so that corners count where nothing else reaches
MEMORY_LIMIT = 256 << 20  # bytes of an array above which it lives in a file


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """How a volume is covered by windows.

    Attributes:
        overlap: Share of a window that the next one sees again, 0 to below 1.
        batch_size: Windows that the network answers at once.
        flip_axes: Axes over whose mirror images answers are averaged, such as (0,): 2 ** n times the work.
        blend: Where windows overlap, "gaussian" trusts their middles, "flat" all of them alike, as the
            validation while training does.
    """

    overlap: float = 0.5
    batch_size: int = 1
    flip_axes: tuple[int, ...] = ()
    blend: Literal["gaussian", "flat"] = "gaussian"

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise FoveateError(f"window.overlap {self.overlap}: accepted are numbers from 0 to below 1.")
        if self.batch_size < 1:
            raise FoveateError(f"window.batch_size {self.batch_size}: accepted are numbers from 1.")
        if len(set(self.flip_axes)) < len(self.flip_axes) or min(self.flip_axes, default=0) < 0:
            raise FoveateError(f"window.flip_axes {self.flip_axes}: accepted are different axes from 0.")


class Slab(NamedTuple):
    """Finished logits (K, *S) of the volume from `start` on along the swept axis."""

    start: int
    logits: Array


def sweep_axis(shape: Sequence[int], patch: Sequence[int]) -> int:
    """The axis along which the slab of sums is thinnest."""
    return int(np.argmax(np.divide(shape, np.minimum(shape, patch))))


def starts(size: int, patch: int, overlap: float) -> list[int]:
    """Evenly spread window starts that cover an axis; 0 alone where the window is longer.

    >>> starts(10, 4, 0.5), starts(3, 4, 0.5), starts(8, 4, 0.0)
    ([0, 2, 4, 6], [0], [0, 4])
    """
    room = max(0, size - patch)
    count = 1 + -(-room // max(1, int(patch * (1 - overlap) + 1e-9)))
    return [round(i * room / max(1, count - 1)) for i in range(count)]


def gaussian_window(patch: Sequence[int]) -> Array:
    """Weights of a window's voxels, 1 in the middle, never below `SMALLEST_WEIGHT`."""
    weights = np.ones((), dtype=np.float64)
    for size in patch:
        along = (np.arange(size) - (size - 1) / 2) / (size * SIGMA_SHARE)
        weights = weights[..., None] * np.exp(-(along**2) / 2)
    return np.asarray(np.maximum(weights / weights.max(), SMALLEST_WEIGHT), dtype=np.float32)


def sliding_window(
    volume: VolumeReader, answer: Answer, patch: Sequence[int], classes: int, config: WindowConfig
) -> Iterator[Slab]:
    """Logits of a whole volume as slabs along `sweep_axis`, in order and without gaps.

    Args:
        volume: Read by windows; windows that stick out of a small volume see 0 there, as in training.
        answer: The network on clean windows in [0, 1].
        patch: Shape of the windows.
        classes: K, what `answer` gives per voxel.
        config: Overlap, batch and flips.
    """
    shape = volume.shape
    check_window(shape, patch, config)
    axis = sweep_axis(shape, patch)
    lines = [starts(size, p, config.overlap) for size, p in zip(shape, patch, strict=True)]
    weights = gaussian_window(patch) if config.blend == "gaussian" else np.ones(tuple(patch), np.float32)
    sums = _Sums(shape, patch, classes, axis)
    for i, along in enumerate(lines[axis]):
        corners = list(product(*(line if a != axis else [along] for a, line in enumerate(lines))))
        for first in range(0, len(corners), config.batch_size):
            some = corners[first : first + config.batch_size]
            logits = averaged_over_flips(answer, read_windows(volume, some, patch), config.flip_axes)
            for corner, each in zip(some, logits.float().cpu().numpy(), strict=True):
                sums.add(corner, each, weights)
        end = lines[axis][i + 1] if i + 1 < len(lines[axis]) else shape[axis]
        yield sums.finish(end)


def check_window(shape: Sequence[int], patch: Sequence[int], config: WindowConfig) -> None:
    """Refuse a volume or flips of another dimension."""
    if len(patch) != len(shape):
        raise FoveateError(f"The network sees {len(patch)}D windows; this volume has shape {tuple(shape)}.")
    if max(config.flip_axes, default=0) >= len(shape):
        raise FoveateError(f"window.flip_axes {config.flip_axes}: a {len(shape)}D volume has no such axis.")


def read_windows(volume: VolumeReader, corners: Sequence[Sequence[int]], patch: Sequence[int]) -> Tensor:
    """Windows (B, C, *patch); a volume shorter than the patch lies in its middle, between zeros."""
    shape = volume.shape
    before = padding(shape, patch)
    windows = []
    for corner in corners:
        high = [min(c + p, n) for c, p, n in zip(corner, patch, shape, strict=True)]
        values = volume.read(corner, high)
        room = [(b, p - b - (h - c)) for b, p, c, h in zip(before, patch, corner, high, strict=True)]
        windows.append(np.pad(values, [(0, 0), *room]) if any(map(any, room)) else values)
    return torch.from_numpy(np.stack(windows))


def padding(shape: Sequence[int], patch: Sequence[int]) -> list[int]:
    """Voxels before the volume in a window, per axis."""
    return [max(0, p - n) // 2 for n, p in zip(shape, patch, strict=True)]


@torch.inference_mode()
def averaged_over_flips(answer: Answer, images: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean of the answers to an image and its mirror images, each mirrored back."""
    chosen = [[a + 2 for a in some] for n in range(len(axes) + 1) for some in combinations(axes, n)]
    mean = answer(images).float()
    for count, flips in enumerate(chosen[1:], 2):
        mean = mean + (answer(images.flip(flips)).float().flip(flips) - mean) / count
    return mean


class _Sums:
    """Running weighted means of the slab that windows still reach."""

    def __init__(self, shape: Sequence[int], patch: Sequence[int], classes: int, axis: int) -> None:
        self.shape, self.axis, self.low = tuple(shape), axis, 0
        self.patch, self.before = tuple(patch), padding(shape, patch)
        depth = min(patch[axis], shape[axis])
        slab = (*shape[:axis], depth, *shape[axis + 1 :])
        self.means = zeros((classes, *slab), np.float32)
        self.weights = np.zeros(slab, dtype=np.float32)

    def add(self, corner: Sequence[int], logits: Array, weights: Array) -> None:
        """Enter the answer (K, *patch) of one window."""
        inner = tuple(
            slice(b, b + min(p, n - c))
            for b, p, n, c in zip(self.before, self.patch, self.shape, corner, strict=True)
        )
        size = [part.stop - part.start for part in inner]
        low = [c - self.low if a == self.axis else c for a, c in enumerate(corner)]
        there = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        weight = weights[inner]
        self.weights[there] += weight
        part = self.means[(slice(None), *there)]
        part += (logits[(slice(None), *inner)] - part) * (weight / self.weights[there])

    def finish(self, end: int) -> Slab:
        """Take out what lies before `end` on the swept axis and move the rest up."""
        done = end - self.low
        head: list[slice] = [slice(None)] * len(self.shape)
        head[self.axis] = slice(0, done)
        finished = Slab(self.low, self.means[(slice(None), *head)].copy())
        for array, first in ((self.weights, 0), (self.means, 1)):
            view = np.moveaxis(array, self.axis + first, 0)
            rest = len(view) - done
            for row in range(rest):  # row by row: no second copy of the slab
                view[row] = view[row + done]
            view[max(0, rest) :] = 0
        self.low = end
        return finished


def zeros(shape: Sequence[int], dtype: DTypeLike) -> Array:
    """Zeros, in a file without a name where they are large."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= MEMORY_LIMIT:
        return np.zeros(tuple(shape), dtype=dtype)
    with tempfile.TemporaryFile() as stream:
        return np.memmap(stream, dtype=dtype, mode="w+", shape=tuple(shape))
