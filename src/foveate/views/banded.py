"""Linear maps along one axis as small matrices: Gaussian filters and linear resampling.

A separable filter of an image is one matrix per axis. As batched matrix products they run fast on every
device, take a strength per sample, and compose with resampling before the image is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
TRUNCATE = 4.0  # sigmas at which the kernel ends, as in SciPy
ROWS = 16  # of a banded matrix that are multiplied at once: fewer skip more zeros, in slower products


class Band(NamedTuple):
    """Some rows of a matrix per sample, and the columns outside of which they are zero."""

    rows: slice
    columns: slice
    matrices: Tensor  # (B, rows, columns)


Bands = Sequence[Band]  # all rows of a matrix, from the first to the last


def whole(matrices: Tensor) -> Bands:
    """Matrices (B, G, S) without zeros to speak of."""
    return [Band(slice(0, matrices.shape[1]), slice(0, matrices.shape[2]), matrices)]


def gaussian_radius(sigma: float) -> int:
    """Voxels that a Gaussian reaches to each side, SciPy's rounding.

    >>> gaussian_radius(1.0), gaussian_radius(0.1)
    (4, 0)
    """
    return int(TRUNCATE * sigma + 0.5)


def gaussian_weights(sigmas: Floats) -> Floats:
    """Kernels (B, 2 radius + 1) that sum to one, each cut at its own 4 sigma, as wide as the widest.

    NumPy, because for such small arrays it costs a fraction of torch.
    """
    radius = gaussian_radius(sigmas.max())
    distance = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (distance / np.maximum(sigmas, 1e-6)[:, None]) ** 2)
    weights *= np.abs(distance) <= np.floor(TRUNCATE * sigmas + 0.5)[:, None]
    weights /= weights.sum(1, keepdims=True)
    return weights


def gaussian_bands(weights: Tensor, size: int) -> Bands:
    """Filters (B, size, size) of an axis that repeat the edge voxel outside, from kernels (B, 2 radius + 1).

    Away from the edges all bands are one matrix.
    """
    radius = weights.shape[1] // 2
    # Elsewhere one large product is faster, and here where little would be saved.
    count = size if weights.device.type != "cpu" or 4 * (ROWS + 2 * radius) > 3 * size else ROWS
    inner = weights.new_zeros(len(weights), count, count + 2 * radius)
    across, down, along = inner.stride()
    inner.as_strided((*inner.shape[:2], 2 * radius + 1), (across, down + along, along)).copy_(
        weights[:, None]
    )
    bands = []
    for start in range(0, size, count):
        stop = min(start + count, size)
        before, after = max(0, radius - start), max(0, stop + radius - size)  # columns beyond an edge
        matrices = inner
        if before or after or stop - start < count:
            taken = inner[:, : stop - start, : stop - start + 2 * radius]
            matrices = taken[:, :, before : taken.shape[2] - after].clone()
            matrices[:, :, 0] += taken[:, :, :before].sum(2)
            matrices[:, :, -1] += taken[:, :, taken.shape[2] - after :].sum(2)
        columns = slice(start - radius + before, stop + radius - after)
        bands.append(Band(slice(start, stop), columns, matrices))
    return bands


def sampling_bands(positions: Floats, sigma: float, size: int, dtype: torch.dtype) -> Bands:
    """A low-pass of `sigma` and linear interpolation at `positions` (G,) in one: (1, G, size).

    A voxel is the cell [i - 0.5, i + 0.5]: half a voxel beyond the outermost centres the edge value
    holds, further out the row is zero.
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
    matrices = torch.from_numpy(matrix.reshape(1, len(left), size)).to(dtype)
    return in_bands(matrices, taken[:, 0].tolist(), (taken[:, -1] + 1).tolist())


def in_bands(matrices: Tensor, first: Sequence[int], end: Sequence[int]) -> Bands:
    """Matrices (B, G, S) with zeros in row g outside [first[g], end[g]); both rise with g, or both fall."""
    count, size = matrices.shape[1:]
    rows = [slice(a, min(a + ROWS, count)) for a in range(0, count, ROWS)]
    ends = [(r.start, r.stop - 1) for r in rows]
    columns = [slice(min(first[a], first[b]), max(end[a], end[b])) for a, b in ends]
    if 4 * sum(c.stop - c.start for c in columns) > 3 * size * len(rows):  # little would be saved
        return whole(matrices)
    return [Band(r, c, matrices[:, r, c]) for r, c in zip(rows, columns, strict=True)]


def apply_along_axes(images: Tensor, bands: Sequence[Bands]) -> Tensor:
    """Multiply every spatial axis by its matrix: (B, C, *S) with (B, G_i, S_i) gives (B, C, *G).

    Each product writes its axis first, which brings the next axis last: no copy in between.
    """
    batch = images.shape[0]
    for band in reversed(bands):
        rest = images.shape[1:-1]
        columns = images.reshape(batch, -1, images.shape[-1]).mT
        images = _product(band, columns).reshape(batch, -1, *rest)
    return images.movedim(-1, 1).contiguous()  # (B, *G, C) -> (B, C, *G)


def _product(bands: Bands, columns: Tensor) -> Tensor:
    """The matrices (B, G, S) times columns (B, S, K)."""
    if len(bands) == 1:
        return torch.bmm(bands[0].matrices, columns[:, bands[0].columns])
    result = columns.new_empty(columns.shape[0], bands[-1].rows.stop, columns.shape[2])
    for rows, taken, matrices in bands:
        torch.bmm(matrices, columns[:, taken], out=result[:, rows])
    return result
