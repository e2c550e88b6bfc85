"""Linear maps along one axis as small matrices: Gaussian filters and linear resampling.

A separable filter of an image is one matrix per axis. As batched matrix products they run fast on every
device, take a strength per sample, and compose with resampling before the image is touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Positions = NDArray[np.float64]
TRUNCATE = 4.0  # sigmas at which the kernel ends, as in SciPy
ROWS = 16  # of a banded matrix that are multiplied at once: fewer skip more zeros, in slower products


@dataclass(frozen=True, slots=True, kw_only=True)
class Banded:
    """Matrices (B, G, S) of which row g is zero outside the columns [first[g], end[g]).

    Both limits rise with g throughout, or fall.
    """

    matrices: Tensor
    first: NDArray[np.int64]
    end: NDArray[np.int64]

    def to(self, dtype: torch.dtype) -> Banded:
        """The same in another precision."""
        return replace(self, matrices=self.matrices.to(dtype))

    def blocks(self) -> list[tuple[slice, slice]]:
        """Rows and the columns that they need; a single block where little would be saved."""
        count, size = self.matrices.shape[1:]
        first, end = self.first.tolist(), self.end.tolist()
        rows = [slice(a, min(a + ROWS, count)) for a in range(0, count, ROWS)]
        ends = [(r.start, r.stop - 1) for r in rows]  # rows follow each other, upwards or downwards
        columns = [slice(min(first[a], first[b]), max(end[a], end[b])) for a, b in ends]
        if 4 * sum(c.stop - c.start for c in columns) > 3 * size * len(rows):
            return [(slice(0, count), slice(0, size))]
        return list(zip(rows, columns, strict=True))


def dense(matrices: Tensor) -> Banded:
    """Matrices (B, G, S) without zeros to speak of."""
    count, size = matrices.shape[1:]
    return Banded(matrices=matrices, first=np.zeros(count, np.int64), end=np.full(count, size))


def gaussian_radius(sigma: float) -> int:
    """Voxels that a Gaussian reaches to each side, SciPy's rounding.

    >>> gaussian_radius(1.0), gaussian_radius(0.1)
    (4, 0)
    """
    return int(TRUNCATE * sigma + 0.5)


def gaussian_weights(sigmas: Tensor, radius: int) -> Tensor:
    """Kernels that sum to one, each cut at its own 4 sigma, float64.

    Args:
        sigmas: standard deviations in voxels (B,); 0 is the identity.
        radius: reach of the widest one.
    """
    distance = torch.arange(-radius, radius + 1, device=sigmas.device, dtype=torch.float64)
    sigma = sigmas.double()[:, None]
    weights = torch.exp(-0.5 * (distance / sigma.clamp_min(1e-6)) ** 2)  # (B, 2 radius + 1)
    weights = weights * (distance.abs() <= torch.floor(TRUNCATE * sigma + 0.5))
    return weights / weights.sum(1, keepdim=True)


def gaussian_matrices(sigmas: Tensor, radius: int, size: int) -> Banded:
    """Filters of an axis of `size` voxels that repeat the edge voxel outside, float64 (B, size, size)."""
    weights = gaussian_weights(sigmas, radius)
    here = torch.arange(size, device=sigmas.device)
    taken = here[:, None] + torch.arange(-radius, radius + 1, device=sigmas.device)
    taken = taken.clamp(0, size - 1).expand(len(sigmas), -1, -1)  # (B, size, 2 radius + 1)
    matrices = weights.new_zeros(len(sigmas), size, size)
    matrices.scatter_add_(2, taken, weights[:, None].expand_as(taken))
    rows = np.arange(size)
    first, end = np.maximum(rows - radius, 0), np.minimum(rows + radius + 1, size)
    return Banded(matrices=matrices, first=first, end=end)


def sampling_matrix(positions: Positions, sigma: float, size: int) -> Banded:
    """A low-pass of `sigma` and linear interpolation at `positions` (G,) in one: float64 (1, G, size).

    A voxel is the cell [i - 0.5, i + 0.5]: half a voxel beyond the outermost centres the edge value
    holds, further out the row is zero. NumPy, because for such small arrays it costs a fraction of torch.
    """
    inside = (positions >= -0.5) & (positions <= size - 0.5)
    held = positions.clip(0, size - 1)
    left = np.floor(held).astype(np.int64)
    share = (held - left)[:, None]
    radius = gaussian_radius(sigma)
    distance = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (distance / max(sigma, 1e-6)) ** 2)
    kernel = kernel * inside[:, None] / kernel.sum()  # (G, taps)
    taps = np.zeros((len(left), len(distance) + 1))  # of the voxels from left - radius on
    taps[:, :-1] = kernel * (1 - share)
    taps[:, 1:] += kernel * share
    taken = (left[:, None] + np.arange(-radius, radius + 2)).clip(0, size - 1)
    flat = taken + np.arange(len(left))[:, None] * size
    matrix = np.bincount(flat.ravel(), taps.ravel(), minlength=len(left) * size)
    matrices = torch.from_numpy(matrix.reshape(1, len(left), size))
    return Banded(matrices=matrices, first=taken[:, 0], end=taken[:, -1] + 1)


def apply_along_axes(images: Tensor, bands: Sequence[Banded]) -> Tensor:
    """Multiply every spatial axis by its matrix: (B, C, *S) with (B, G_i, S_i) gives (B, C, *G).

    Each product writes its axis first, which brings the next axis last: no copy in between.
    """
    batch = images.shape[0]
    for band in reversed(bands):
        rest = images.shape[1:-1]
        columns = images.reshape(batch, -1, images.shape[-1]).mT
        images = _product(band, columns).reshape(batch, -1, *rest)
    return images.movedim(-1, 1).contiguous()  # (B, *G, C) -> (B, C, *G)


def _product(band: Banded, columns: Tensor) -> Tensor:
    """The matrices (B, G, S) times columns (B, S, K)."""
    blocks = band.blocks() if columns.device.type == "cpu" else []  # elsewhere one large product is faster
    if len(blocks) < 2:
        return torch.bmm(band.matrices, columns)
    result = columns.new_empty(columns.shape[0], band.matrices.shape[1], columns.shape[2])
    for rows, taken in blocks:
        torch.bmm(band.matrices[:, rows, taken], columns[:, taken], out=result[:, rows])
    return result


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


def block_size(sigma: float) -> int:
    """The largest block whose mean, interpolated linearly, is no wider than a Gaussian of `sigma` would be.

    Interpolated linearly between them, means of k voxels have on average (k^2 - 1) / 4 more variance than the
    voxels have: (k^2 - 1) / 12 from the block, (k^2 - 1) / 6 from the longer way between two.

    >>> [block_size(sigma) for sigma in (0.0, 0.85, 0.87, 1.5)]
    [1, 1, 2, 3]
    """
    return int((1 + 4 * sigma**2) ** 0.5)


def low_pass(image: Tensor, sigmas: Sequence[float], steps: Sequence[int]) -> Tensor:
    """An image (C, *S) after Gaussians of `sigmas` voxels, as sums over blocks of `steps` voxels."""
    for axis, step in enumerate(steps, 1):
        image = block_sums(image, axis, step)
    for axis, (sigma, step) in enumerate(zip(sigmas, steps, strict=True), 1):
        image = finish_low_pass(image, axis, sigma, step)
    return image


def block_sums(image: Tensor, axis: int, size: int) -> Tensor:
    """Sums of `size` neighbours along an axis; the last block repeats the edge where it sticks out.

    Sums, as dividing would be one more pass; whoever looks at few cells of them divides those.
    """
    if size == 1:
        return image
    length = image.shape[axis]
    whole = length // size * size
    before = (slice(None),) * axis
    first, second = (image[(*before, slice(offset, whole, size))] for offset in range(2))
    sums = first + second
    for offset in range(2, size):
        sums += image[(*before, slice(offset, whole, size))]
    if whole == length:
        return sums
    rest = image.narrow(axis, whole, length - whole)
    missing = image.narrow(axis, length - 1, 1) * (size - rest.shape[axis])
    return torch.cat([sums, rest.sum(axis, keepdim=True) + missing], axis)


def finish_low_pass(image: Tensor, axis: int, sigma: float, step: int) -> Tensor:
    """What blocks of `step` voxels leave to do of a Gaussian of `sigma` voxels."""
    if step == 1:
        if not (radius := gaussian_radius(sigma)):
            return image
        weights = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(-radius, radius + 1)]
        return filter_axis(image, axis, [weight / sum(weights) for weight in weights])
    variance = (sigma**2 - (step**2 - 1) / 4) / step**2  # in blocks, below 0.32: three taps are enough
    slope = image.diff(dim=axis)
    image.narrow(axis, 0, slope.shape[axis]).add_(slope, alpha=variance / 2)
    image.narrow(axis, 1, slope.shape[axis]).sub_(slope, alpha=variance / 2)
    return image
