"""What a view needs before it is sampled where it shrinks: a Gaussian, or sums over blocks and three taps.

Integers are added up as they are stored and become floating point numbers once there are fewer of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from foveate.core.codes import Codes
from foveate.core.types import Array
from foveate.views.banded import gaussian_radius

Rows = Sequence[Sequence[float]]  # of an affine


class LowPass(NamedTuple):
    """The filter that a view needs before it is sampled, per axis of the source."""

    sigmas: tuple[float, ...]  # in voxels, 0 where the view does not shrink
    steps: tuple[int, ...]  # sides of the blocks that it starts from: 1 where it does not, or nothing turns


def low_pass_of(rows: Rows) -> LowPass:
    """The low-pass of a view, from the rows of its affine.

    A wave of frequency f along source axis i has the frequencies f * row i in the view, so the largest
    entry of the row says how much the axis shrinks.
    """
    sigmas = tuple([max(0.0, (max(map(abs, row[:-1])) - 1) / 2) for row in rows])
    steps = [1] * len(sigmas) if is_axis_aligned(rows) else map(block_size, sigmas)
    return LowPass(sigmas, tuple(steps))


def is_axis_aligned(rows: Rows) -> bool:
    """Whether an affine, given as rows, turns nothing."""
    for i, row in enumerate(rows):
        for j in range(len(rows)):
            if i != j and abs(row[j]) >= 1e-9:
                return False
    return True


def low_pass_margin(low_pass: LowPass) -> tuple[int, ...]:
    """Voxels around a view that its low-pass reaches."""
    # Of blocks the point lies between two, each with a neighbour: two and a half blocks at most.
    return tuple([gaussian_radius(s) if k == 1 else (5 * k + 1) // 2 for s, k in zip(*low_pass, strict=True)])


def block_size(sigma: float) -> int:
    """The largest block whose mean, interpolated linearly, is no wider than a Gaussian of `sigma` would be.

    Interpolated linearly between them, means of k voxels have on average (k^2 - 1) / 4 more variance than the
    voxels have: (k^2 - 1) / 12 from the block, (k^2 - 1) / 6 from the longer way between two.

    >>> [block_size(sigma) for sigma in (0.0, 0.85, 0.87, 1.5)]
    [1, 1, 2, 3]
    """
    return int((1 + 4 * sigma**2) ** 0.5)


class Summed(NamedTuple):
    """Sums over blocks of voxels; their means read as (sum - zero) * unit."""

    sums: Tensor  # (C, *S)
    zero: float
    unit: float

    def above_zero(self) -> Tensor:
        """The sums without what reads as 0; they themselves are used up."""
        return self.sums.sub_(self.zero) if self.zero else self.sums

    def read(self, sums: Tensor, out: Tensor) -> None:
        """What others of their kind read as, in one pass."""
        torch.add(sums.new_tensor(-self.zero * self.unit), sums, alpha=self.unit, out=out)


def low_pass(window: Codes | Tensor, sigmas: Sequence[float], steps: Sequence[int]) -> Summed:
    """A window (C, *S) after Gaussians of `sigmas` voxels, as sums over blocks of `steps` voxels."""
    sums, zero, unit = summed(window, steps)
    for axis, (sigma, step) in enumerate(zip(sigmas, steps, strict=True), 1):
        sums = finish_low_pass(sums, axis, sigma, step)
    return Summed(sums, zero, unit)


def summed(window: Codes | Tensor, steps: Sequence[int]) -> Summed:
    """Sums over blocks; the last block of an axis repeats the edge where it sticks out.

    What they read as is left to whoever looks at few cells of them.
    """
    size = math.prod(steps)
    if isinstance(window, Tensor):
        return Summed(torch.from_numpy(block_sums(window.numpy(), steps)), 0, 1 / size)
    codes = window.addable()
    sums = block_sums(codes.array, steps)
    floats = sums if sums.dtype.kind == "f" else sums.astype(np.float32)
    return Summed(torch.from_numpy(floats), size * codes.zero, 1 / size / (codes.one - codes.zero))


def block_sums(array: Array, steps: Sequence[int]) -> Array:
    """Sums of an array (C, *S) over blocks, whole numbers in a type that holds them."""
    dtype = _holding(array.dtype, math.prod(steps))
    for axis, step in enumerate(steps, 1):
        array = _axis_sums(array, axis, step, dtype)
    return array


def _holding(dtype: np.dtype[Any], size: int) -> np.dtype[Any]:
    """The type of sums of `size` numbers of a type."""
    if dtype.kind == "f":
        return dtype
    wider = (np.uint16, np.uint32, np.uint64) if dtype.kind == "u" else (np.int32, np.int64)
    most = size * int(np.iinfo(dtype).max)
    return next(np.dtype(each) for each in wider if most <= np.iinfo(each).max)


def _axis_sums(array: Array, axis: int, size: int, dtype: np.dtype[Any]) -> Array:
    if size == 1:
        return array
    length = array.shape[axis]
    inside = length // size
    array = array.swapaxes(0, axis)  # a view: memory is gone through as it lies
    sums = np.empty_like(array, dtype, shape=(-(-length // size), *array.shape[1:]))
    first, second, *others = (array[place : inside * size : size] for place in range(size))
    whole = np.add(first, second, out=sums[:inside], dtype=dtype)
    for each in others:
        np.add(whole, each, out=whole)
    if inside * size < length:
        last = np.multiply(array[-1], size - (length - inside * size), out=sums[-1], dtype=dtype)
        for voxel in array[inside * size :]:
            np.add(last, voxel, out=last)
    return sums.swapaxes(0, axis)


def finish_low_pass(image: Tensor, axis: int, sigma: float, step: int) -> Tensor:
    """What blocks of `step` voxels leave to do of a Gaussian of `sigma` voxels."""
    if step == 1:
        if not (radius := gaussian_radius(sigma)):
            return image
        weights = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(-radius, radius + 1)]
        return filter_axis(image, axis, [weight / sum(weights) for weight in weights])
    variance = (sigma**2 - (step**2 - 1) / 4) / step**2  # in blocks, below 0.32: three taps are enough
    lower, upper = image.narrow(axis, 0, image.shape[axis] - 1), image.narrow(axis, 1, image.shape[axis] - 1)
    slope = upper - lower
    lower.add_(slope, alpha=variance / 2)
    upper.sub_(slope, alpha=variance / 2)
    return image


def filter_axis(image: Tensor, axis: int, weights: Sequence[float]) -> Tensor:
    """Filter one axis with a symmetric kernel, repeating the edge: cheaper than a matrix for few taps."""
    size, radius = image.shape[axis], len(weights) // 2
    result = image * weights[radius]
    low_edge, high_edge = image.narrow(axis, 0, 1), image.narrow(axis, size - 1, 1)
    for distance, weight in enumerate(weights[radius + 1 :], 1):
        near = min(distance, size)  # voxels whose neighbour at this distance is beyond the edge
        for start, edge in ((0, low_edge), (size - near, high_edge)):
            result.narrow(axis, start, near).add_(edge, alpha=weight)
        rest = size - near
        result.narrow(axis, near, rest).add_(image.narrow(axis, 0, rest), alpha=weight)
        result.narrow(axis, 0, rest).add_(image.narrow(axis, near, rest), alpha=weight)
    return result
