"""Linear interpolation at the cells of a view, in any number of dimensions, by gathers.

`grid_sample` visits the points of a volume one by one; on a CPU it is faster to gather a corner of all
cells at once and to blend corners pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Affine = NDArray[np.float64]  # (n, n+1)
NEAR = 1e-3  # voxels; float32 coordinates are good to 1e-5


def sample_linear(image: Tensor, affine: Affine, grid: Sequence[int], extent: NDArray[np.float64]) -> Tensor:
    """The cells of a view, each between 2^n voxels of an image (C, *S): (C, *grid) in the image's dtype.

    Args:
        image: of any strides: a window of a larger array is read where it lies.
        affine: view index to voxel index.
        grid: size of the view.
        extent: length of every axis, which the last voxel may exceed. Half a voxel beyond the outermost
            centres the edge value holds; what lies below -0.5 or above the extent less 0.5 is 0.
    """
    places = [_coordinates(row, grid, image.dtype) for row in affine]
    half = (np.asarray(grid) - 1) / 2
    middle, reach = affine[:, -1] + affine[:, :-1] @ half, np.abs(affine[:, :-1]) @ half
    first, last = middle - reach, middle + reach
    kept = []
    if min(first) < NEAR - 0.5 or min(extent - last) < NEAR + 0.5:
        kept = [(p >= -0.5) & (p <= end - 0.5) for p, end in zip(places, extent, strict=True)]
    inner = min(first) >= NEAR and min(np.asarray(image.shape[1:]) - last) >= NEAR + 1
    index, shares = _cells(places, image, inner=inner)
    channels = [_blend(channel, index, shares) for channel in image]
    view = (torch.stack(channels) if len(channels) > 1 else channels[0]).reshape(-1, *grid)
    for mask in kept:
        view *= mask.reshape(grid)
    return view


def _coordinates(row: Affine, grid: Sequence[int], dtype: torch.dtype) -> Tensor:
    """One coordinate of every cell (P,): summed in float64 over all axes but the last."""
    total = row[-1:]
    for step, cells in zip(row[:-2], grid[:-1], strict=True):
        total = (total[:, None] + step * np.arange(cells)).ravel()
    line = torch.from_numpy(row[-2] * np.arange(grid[-1])).to(dtype)
    return (torch.from_numpy(total).to(dtype)[:, None] + line).ravel()


def _cells(places: Sequence[Tensor], image: Tensor, *, inner: bool) -> tuple[Tensor, Sequence[Tensor]]:
    """Where the lowest corner of every point's cell lies in storage, and how far in the cell it is.

    The places themselves become the shares. `inner`: all of them lie above 0 and below the last voxel.
    """
    small = torch.int32 if image.untyped_storage().nbytes() < 2**31 else torch.int64  # faster
    index = torch.zeros(places[0].shape, dtype=small)
    for place, size, stride in zip(places, image.shape[1:], image.stride()[1:], strict=True):
        if inner:
            low = place.to(small)
            place.frac_()
        else:  # the last voxel is the end of a cell, not a start
            low = place.clamp_(0, size - 1).to(small).clamp_(max=max(0, size - 2))
            place.sub_(low.to(place.dtype))
        index.add_(low, alpha=stride)
    return index.long(), places


def _blend(channel: Tensor, index: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """Linear interpolation between the corners of the cells at `index`, the last axis first."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(channel.shape, channel.stride(), strict=True))
    flat = channel.as_strided((span,), (1,))
    # An axis of one voxel has no second corner: its share is 0, and it is read twice.
    steps = [stride if size > 1 else 0 for size, stride in zip(channel.shape, channel.stride(), strict=True)]

    def corner(axis: int, offset: int) -> Tensor:
        if axis == len(steps):
            return flat[offset:].index_select(0, index)
        low, high = corner(axis + 1, offset), corner(axis + 1, offset + steps[axis])
        return torch.lerp(low, high, shares[axis], out=low)

    return corner(0, 0)
