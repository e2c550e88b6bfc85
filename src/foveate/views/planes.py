"""Linear interpolation at the cells of 2D views: `grid_sample` is vectorised there, and faster than gathers.

One view after the other, each as soon as its image is there: what was just written is still in a near cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from foveate.core.types import Array
from foveate.views.low_pass import Summed

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
NEAR = 1e-3  # voxels; float32 coordinates are good to 1e-4


def sample_planes(images: Iterable[Summed], affines: Floats, grid: Sequence[int], extents: Floats) -> Tensor:
    """The cells of views, each between four voxels of its image, as they read: (V, C, *grid).

    Args:
        images: (C, *S), taken one by one.
        affines: view index to voxel index (V, 2, 3).
        grid: size of the views.
        extents: length of every axis (V, 2), which the last voxel may exceed. Half a voxel beyond the
            outermost centres the edge value holds; what lies below -0.5 or above the extent less 0.5 is 0.
    """
    down, along = _lines(affines, grid, np.ceil(extents))
    ends = _ends(affines, grid, extents)
    views = torch.empty(0)
    for number, stored in enumerate(images):
        image = stored.sums
        if not number:
            views = image.new_empty(len(affines), len(image), *grid)
        one, other = (torch.from_numpy(line[number]).to(image.dtype.to_complex()) for line in (down, along))
        where = torch.view_as_real(one[:, None] + other)  # pairs of coordinates are added as complex numbers
        view = functional.grid_sample(image[None], where[None], padding_mode="border", align_corners=False)
        stored.read(view[0], out=views[number])
        if number in ends:
            _clear_ends(views[number].numpy(), *ends[number])
    return views


def _lines(
    affines: Floats, grid: Sequence[int], sizes: Floats
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """What the rows and what the columns of a view (V, cells) add to its places, the last axis first.

    -1 and 1 are the outer edges of the first and the last voxel.
    """
    scaled = affines * (2 / sizes)[:, :, None]
    scaled[:, :, 2] += 1 / sizes - 1
    steps = scaled[:, 1] + np.complex128(1j) * scaled[:, 0]  # (V, 3)
    rows, columns = (np.arange(cells, dtype=np.float64) for cells in grid)
    return steps[:, :1] * rows + steps[:, 2:], steps[:, 1:2] * columns


def _ends(affines: Floats, grid: Sequence[int], extents: Floats) -> dict[int, tuple[Integers, Integers]]:
    """Of every view that leaves its image: how many cells at both ends of each row lie outside."""
    half = (np.asarray(grid) - 1) / 2
    middle, reach = affines[:, :, 2] + affines[:, :, :2] @ half, np.abs(affines[:, :, :2]) @ half
    beyond = (middle - reach < NEAR - 0.5) | (extents - middle - reach < NEAR + 0.5)
    leaving = np.flatnonzero(beyond.any(1))
    turn, step, start = np.moveaxis(affines[leaving], 2, 0)[..., None]  # (V, 2, 1)
    at = turn * np.arange(grid[0]) + start  # (V, 2, rows)
    room = at + 0.5, extents[leaving, :, None] - 0.5 - at  # to both edges
    still = np.abs(step) < 1e-100  # no column differs from another
    all_or_none = np.where((room[0] >= 0) & (room[1] >= 0), np.inf, -np.inf)
    sides = [side / np.where(still, 1, step) for side in (-room[0], room[1])]
    low = np.where(still, -all_or_none, np.minimum(*sides)).max(1)  # columns between which it is inside
    high = np.where(still, all_or_none, np.maximum(*sides)).min(1)
    before = np.ceil(low).clip(0, grid[1]).astype(np.int64)
    after = (grid[1] - 1 - np.floor(high)).clip(0, grid[1]).astype(np.int64)
    return dict(zip(leaving.tolist(), zip(before, after, strict=True), strict=True))


def _clear_ends(view: Array, before: Integers, after: Integers) -> None:
    """Zero in so many cells at both ends of the rows of a view (C, *grid)."""
    for cells, counts in ((view, before), (view[..., ::-1], after)):
        if len(cut := np.flatnonzero(counts)):
            rows, width = slice(cut[0], cut[-1] + 1), int(counts.max())
            cells[:, rows, :width] *= np.arange(width) >= counts[rows, None]
