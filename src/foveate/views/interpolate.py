"""Linear interpolation at the cells of views, in any number of dimensions, by gathers.

`grid_sample` visits the points of a volume one by one; on a CPU it is faster to gather a corner of all
cells at once and to blend corners pair by pair. Views of one grid are worked on together, as most of the
time of a small one is not arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.types import Array

Affines = NDArray[np.float64]  # (V, n, n+1)
Extents = NDArray[np.float64]  # (V, n)
NEAR = 1e-3  # voxels; float32 coordinates are good to 1e-5
TOGETHER = 2**17  # cells of small views that are worked on at once: what a cache holds


def sample_linear(
    images: Sequence[Tensor], affines: Affines, grid: Sequence[int], extents: Extents
) -> Tensor:
    """The cells of views, each between 2^n voxels of its image (C, *S): (V, C, *grid) in the images' dtype.

    Args:
        images: of any strides: a window of a larger array is read where it lies.
        affines: view index to voxel index.
        grid: size of the views.
        extents: length of every axis, which the last voxel may exceed. Half a voxel beyond the outermost
            centres the edge value holds; what lies below -0.5 or above the extent less 0.5 is 0.
    """
    cells = math.prod(grid)
    views = images[0].new_empty(len(images), images[0].shape[0], cells)
    count = max(1, TOGETHER // cells)
    for start in range(0, len(images), count):
        some = slice(start, start + count)
        _sample(images[some], affines[some], grid, extents[some], views[some])
    return views.reshape(len(images), -1, *grid)


def _sample(
    images: Sequence[Tensor], affines: Affines, grid: Sequence[int], extents: Extents, views: Tensor
) -> None:
    """Fill views (V, C, P)."""
    places = [_coordinates(rows, grid, views.dtype) for rows in affines.swapaxes(0, 1)]
    half = (np.asarray(grid) - 1) / 2
    middle, reach = affines[:, :, -1] + affines[:, :, :-1] @ half, np.abs(affines[:, :, :-1]) @ half
    first, last = middle - reach, middle + reach
    sizes = np.array([image.shape[1:] for image in images])
    outside = np.any((first < NEAR - 0.5) | (extents - last < NEAR + 0.5), axis=1)
    kept = {
        view: _inside([place[view].numpy() for place in places], extents[view].tolist())
        for view in np.flatnonzero(outside).tolist()
    }
    inner = bool((first >= NEAR).all() and (sizes - last >= NEAR + 1).all())
    index, shares = _cells(places, images, None if inner else sizes)
    for channel in range(views.shape[1]):
        _blend([image[channel] for image in images], index, shares, views[:, channel])
    for view, mask in kept.items():
        values = views[view].numpy()
        np.multiply(values, mask, out=values)


def _inside(places: Sequence[Array], ends: Sequence[float]) -> Array:
    """Which cells the volume reaches; NumPy compares ten times as fast as torch."""
    mask = np.ones(places[0].shape, np.bool_)
    for place, end in zip(places, ends, strict=True):
        mask &= place >= -0.5
        mask &= place <= end - 0.5
    return mask


def _coordinates(rows: NDArray[np.float64], grid: Sequence[int], dtype: torch.dtype) -> Tensor:
    """One coordinate of every cell (V, P), from its rows (V, n+1): summed in float64 up to the last axis."""
    total = rows[:, -1:]
    for axis, cells in enumerate(grid[:-1]):
        total = (total[:, :, None] + rows[:, axis, None, None] * np.arange(cells)).reshape(len(rows), -1)
    line = torch.from_numpy(rows[:, -2:-1] * np.arange(grid[-1])).to(dtype)
    return (torch.from_numpy(total).to(dtype)[:, :, None] + line[:, None]).flatten(1)


def _cells(
    places: Sequence[Tensor], images: Sequence[Tensor], sizes: NDArray[np.int64] | None
) -> tuple[Tensor, Sequence[Tensor]]:
    """Where the lowest corner of every point's cell lies in storage, and how far in the cell it is.

    The places themselves become the shares. `sizes` (V, n): None where all lie above 0 and below the last
    voxel.
    """
    large = max(image.untyped_storage().nbytes() for image in images) >= 2**31
    small = torch.int64 if large else torch.int32  # faster
    index = torch.zeros(places[0].shape, dtype=small)
    strides = torch.tensor([image.stride()[1:] for image in images], dtype=small)
    for axis, place in enumerate(places):
        if sizes is None:
            low = place.to(small)
            place.frac_()
        else:  # the last voxel is the end of a cell, not a start
            last = torch.from_numpy(sizes[:, axis, None] - 1)
            torch.minimum(place.clamp_min_(0), last.to(place.dtype), out=place)
            low = torch.minimum(place.to(small), (last - 1).clamp_min_(0).to(small))
            place.sub_(low)
        index.addcmul_(low, strides[:, axis, None])
    return index.long(), places


def _blend(channels: Sequence[Tensor], index: Tensor, shares: Sequence[Tensor], into: Tensor) -> None:
    """Fill (V, P) with blends of the corners of the cells at `index`, the last axis first."""
    sources = []
    for channel, where in zip(channels, index, strict=True):
        axes = list(zip(channel.shape, channel.stride(), strict=True))
        flat = channel.as_strided((1 + sum((size - 1) * stride for size, stride in axes),), (1,))
        # An axis of one voxel has no second corner: its share is 0, and it is read twice.
        sources.append((flat, where, [stride if size > 1 else 0 for size, stride in axes]))

    def corner(axis: int, upper: tuple[int, ...], values: Tensor) -> None:
        if axis == len(shares):
            for (flat, where, steps), row in zip(sources, values, strict=True):
                offset = sum(steps[i] for i in upper)
                torch.index_select(flat[offset:] if offset else flat, 0, where, out=row)
            return
        corner(axis + 1, upper, values)
        high = torch.empty_like(values)
        corner(axis + 1, (*upper, axis), high)
        torch.lerp(values, high, shares[axis], out=values)

    corner(0, (), into)
