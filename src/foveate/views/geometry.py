"""Where a view looks: affines from view index to source voxel index, and sampling through them.

An affine is (n, n+1) = [linear | offset] in array-index order, integer i being the centre of voxel i. It
is computed in float64 and travels in batches as float32. Only this module knows that `grid_sample`
wants the axes in reverse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.codes import Codes
from foveate.views.banded import apply_along_axes, sampling_bands
from foveate.views.interpolate import sample_linear
from foveate.views.low_pass import Rows, is_axis_aligned, low_pass, low_pass_margin, low_pass_of, summed
from foveate.views.planes import sample_planes

Index = tuple[int, ...]
Window = tuple[Index, Index]


def box_affine(low: Sequence[float], high: Sequence[float], grid: Sequence[int]) -> Tensor:
    """The affine of a grid over the box [low, high): cell j lies at low + (j + 0.5)(high - low)/grid - 0.5.

    >>> box_affine((2, 0), (6, 3), (2, 3)).tolist()
    [[2.0, 0.0, 2.5], [0.0, 1.0, 0.0]]
    """
    start = np.asarray(low, dtype=np.float64)
    scale = (np.asarray(high, dtype=np.float64) - start) / np.asarray(grid)
    return _affine(np.diag(scale), start + 0.5 * scale - 0.5)


def view_affine(
    low: Sequence[float],
    high: Sequence[float],
    grid: Sequence[int],
    *,
    flips: Sequence[bool],
    angles_degrees: Sequence[float],
    zooms: Sequence[float],
    spacing_mm: Sequence[float],
) -> Tensor:
    """The affine of a box that is flipped, zoomed and rotated about its centre.

    Args:
        low: first voxel of the box.
        high: one past its last voxel.
        grid: size of the view.
        flips: which axes run backwards.
        angles_degrees: one per coordinate plane, in the order (0, 1), (0, 2), (1, 2).
        zooms: magnification per axis; above 1 the view shows less than the box.
        spacing_mm: size of a voxel: the rotation is one of millimetres, not of indices.
    """
    n, spacing, box = len(grid), spacing_mm, zip(low, high, grid, flips, zooms, strict=True)
    scales = [(stop - start) / cells * (-1 if flip else 1) / zoom for start, stop, cells, flip, zoom in box]
    rows = []
    for i, turn in enumerate(_rotation(angles_degrees, n)):
        row = [turn[j] * (spacing[j] / spacing[i]) * scales[j] for j in range(n)]  # D^-1 R D
        centre = sum(step * (cells - 1) for step, cells in zip(row, grid, strict=True)) / 2
        rows.append([*row, (low[i] + high[i]) / 2 - 0.5 - centre])
    return torch.tensor(rows, dtype=torch.float64)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The affine x -> outer(inner(x)), with any leading axes: (..., n, n+1), in the dtype of `inner`."""
    linear = outer[..., :-1].double()
    product = linear @ inner.double()
    product[..., -1] += outer[..., -1].double()
    return product.to(inner.dtype)


def invert(affine: Tensor) -> Tensor:
    """The affine that undoes `affine` (..., n, n+1)."""
    linear = torch.linalg.inv(affine[..., :-1].double())
    offset = -linear @ affine[..., -1:].double()
    return torch.cat([linear, offset], -1).to(affine.dtype)


def apply(affine: Tensor, points: Tensor) -> Tensor:
    """Map points (..., P, n) through affines (..., n, n+1), in the dtype of `points`."""
    linear, offset = affine[..., :-1].double(), affine[..., -1].double()
    return (points.double() @ linear.mT + offset[..., None, :]).to(points.dtype)


def relative_to(affine: Tensor, low: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
    """The same affines (..., n, n+1) counted from voxels `low` (..., n), the first ones of windows."""
    moved = affine.clone()
    moved[..., -1] -= torch.as_tensor(low, dtype=affine.dtype, device=affine.device)
    return moved


def to_unit(affines: Tensor, source_shape: Sequence[int]) -> Tensor:
    """The same affines (B, n, n+1) into coordinates that run from -1 to 1 over a source of that shape.

    They are those of `grid_sample(align_corners=False)`; outside the source a coordinate leaves [-1, 1].
    """
    size = affines.new_tensor(source_shape)[:, None]
    scaled = affines * (2 / size)
    scaled[..., -1] += (1 / size - 1)[:, 0]
    return scaled


def lattice(affines: Tensor, grid: Sequence[int]) -> Tensor:
    """Where affines (B, n, n+1) put the cells of a grid: (B, *grid, n), the last axis first."""
    n = len(grid)
    result = affines.new_empty(len(affines), *grid, n)
    for i in range(n):
        coordinate = affines[:, i, n].reshape(-1, *[1] * n)
        for j in reversed(range(n)):  # the axis that varies slowest last: only that sum is full size
            steps = torch.arange(grid[j], device=affines.device, dtype=affines.dtype)
            line = (affines[:, i, j, None] * steps).reshape(-1, *[grid[k] if k == j else 1 for k in range(n)])
            coordinate = coordinate + line
        result[..., n - 1 - i] = coordinate  # grid_sample counts the last axis first
    return result


def linear_windows(affines: Tensor, grid: Sequence[int], shape: Sequence[int]) -> list[Window]:
    """The window of every view for linear sampling, from affines (V, n, n+1)."""
    return [linear_window(rows, grid, shape) for rows in affines.tolist()]


def linear_window(rows: Rows, grid: Sequence[int], shape: Sequence[int]) -> Window:
    """The voxels [low, high) of a volume of `shape` for linear sampling.

    It begins and ends with a block of the low-pass, counted from the volume's first voxel: the view does not
    depend on what else is read.
    """
    needed = low_pass_of(rows)
    low, high = window_of(rows, grid, low_pass_margin(needed), shape)
    start = [a // k * k for a, k in zip(low, needed.steps, strict=True)]
    end = [min(-(-b // k) * k, s) for b, k, s in zip(high, needed.steps, shape, strict=True)]
    return tuple(start), tuple(end)


def window_of(rows: Rows, grid: Sequence[int], margin: Sequence[int], shape: Sequence[int]) -> Window:
    """The voxels [low, high) of a volume of `shape` that a view needs; at least one on every axis."""
    low, high = [], []
    for row, beyond, size in zip(rows, margin, shape, strict=True):
        halves = [step * (cells - 1) / 2 for step, cells in zip(row[:-1], grid, strict=True)]
        middle, reach = row[-1] + sum(halves), sum(map(abs, halves))
        low.append(min(max(math.floor(middle - reach) - beyond, 0), size - 1))
        high.append(min(max(math.ceil(middle + reach) + 1 + beyond, low[-1] + 1), size))
    return tuple(low), tuple(high)


def sample(
    window: Tensor, affine: Tensor, grid: Sequence[int], mode: Literal["linear", "nearest"] = "linear"
) -> Tensor:
    """Look at a window (C, *W) through an affine relative to it: (C, *grid), 0 outside the window.

    A voxel is a cell: the outer half of an edge voxel holds its value. Linear sampling filters first
    the axes that shrink; nearest sampling never does and keeps the dtype, so that labels survive.
    """
    if mode == "nearest":
        return _sample_nearest(window, affine, grid)
    return sample_views([window], affine[None], grid)[0]


def sample_views(windows: Sequence[Codes | Tensor], affines: Tensor, grid: Sequence[int]) -> Tensor:
    """Linear samples of windows (C, *W), each through an affine relative to it: (V, C, *grid).

    Args:
        windows: values, or as they are stored; then a mean over values at an end of the intensity window may
            leave [0, 1] by rounding.
        affines: one per window, (V, n, n+1).
        grid: of the views.
    """
    aligned = list(map(is_axis_aligned, affines.tolist()))
    if not any(aligned):
        return sample_oblique(windows, affines, grid)
    views = [
        sample_separable(window, affine, grid) if plain else sample_oblique([window], affine[None], grid)[0]
        for window, affine, plain in zip(windows, affines, aligned, strict=True)
    ]
    return torch.stack(views)


def sample_separable(window: Codes | Tensor, affine: Tensor, grid: Sequence[int]) -> Tensor:
    """Linear sampling without rotation: one matrix per axis holds the low-pass and the interpolation."""
    maps, sigmas = affine.double().numpy(), low_pass_of(affine.tolist()).sigmas
    stored = summed(window, [1] * len(grid))
    values = stored.above_zero()
    bands = []
    for axis, (sigma, cells) in enumerate(zip(sigmas, grid, strict=True)):
        positions = maps[axis, axis] * np.arange(cells) + maps[axis, -1]
        bands.append(sampling_bands(positions, sigma, values.shape[axis + 1], values.dtype))
    view = apply_along_axes(values[None], bands)[0]
    return view if stored.unit == 1 else view.mul_(stored.unit)


def sample_oblique(windows: Sequence[Codes | Tensor], affines: Tensor, grid: Sequence[int]) -> Tensor:
    """Linear sampling through any affines: low-pass, then interpolation (V, C, *grid).

    The low-pass of an axis that shrinks much starts with means of blocks, counted from the window's first.
    """
    needed = [low_pass_of(rows) for rows in affines.tolist()]
    steps = np.array([each.steps for each in needed])
    matrices = affines.double().numpy() / steps[:, :, None]
    matrices[:, :, -1] -= (steps - 1) / (2 * steps)
    extents = np.array([window.shape[1:] for window in windows]) / steps
    found = (low_pass(window, *each) for window, each in zip(windows, needed, strict=True))
    if len(grid) == 2:
        return sample_planes(found, matrices, grid, extents)
    coarse = list(found)
    views = sample_linear([each.above_zero() for each in coarse], matrices, grid, extents)
    units = [each.unit for each in coarse]
    return (
        views if set(units) == {1} else views.mul_(views.new_tensor(units).reshape(-1, *[1] * len(grid), 1))
    )


def _sample_nearest(window: Tensor, affine: Tensor, grid: Sequence[int]) -> Tensor:
    """The voxel whose cell holds the point; a point between two cells goes to the upper one."""
    n = len(grid)
    index = torch.zeros((), dtype=torch.long)
    inside = torch.ones((), dtype=torch.bool)
    for i, size in enumerate(window.shape[1:]):
        position = affine[i, n].double()
        for j, cells in enumerate(grid):
            steps = torch.arange(cells, dtype=torch.float64)
            position = position + (affine[i, j] * steps).reshape([-1 if k == j else 1 for k in range(n)])
        cell = torch.floor(position + 0.5 + 1e-6).long()  # rounding noise must not decide ties
        inside = inside & (cell >= 0) & (cell < size)
        index = index * size + cell.clamp(0, size - 1)
    return window.flatten(1)[:, index] * inside


def _affine(linear: NDArray[np.float64], offset: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.concatenate([linear, offset[:, None]], 1))


def _rotation(angles_degrees: Sequence[float], n: int) -> list[list[float]]:
    """The product of one rotation per coordinate plane."""
    total = [[float(i == j) for j in range(n)] for i in range(n)]
    for (i, j), angle in zip(combinations(range(n), 2), angles_degrees, strict=True):
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        for row in total:
            row[i], row[j] = cosine * row[i] + sine * row[j], cosine * row[j] - sine * row[i]
    return total
