"""Volumes on another grid: a voxel size in millimetres, or the box of the foreground.

Images are interpolated linearly after a Gaussian low-pass of sigma (s - 1) / 2 voxels on the axes that shrink
by s, one axis after the other; maps take the nearest voxel. The affine follows, so that every voxel of the
result knows where in the source it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Array, Volume
from foveate.data.cache.encoding import windowed
from foveate.data.cache.profiles import UnusableError

SAME_SPACING = 1e-3  # relative: a header's rounding is no reason to resample
FOREGROUND_SHARE = 5e-3  # of a plane: fewer bright voxels than this are noise
FOREGROUND_MARGIN = 4  # voxels

Maps = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Where the cells of a new axis lie on the old one."""

    scale: float  # old voxels per new one
    positions: NDArray[np.float64]


def to_spacing(volume: Volume, maps: Maps, spacing_mm: Sequence[float]) -> tuple[Volume, Maps]:
    """The volume and its maps with exactly this voxel size, about the same centre.

    Raises:
        UnusableError: when the numbers are not one per axis.
    """
    if len(spacing_mm) != len(volume.spacing_mm):
        raise UnusableError(
            f"prepare.spacing_mm has {len(spacing_mm)} numbers, and it has {len(volume.spacing_mm)} axes"
        )
    if np.allclose(volume.spacing_mm, spacing_mm, rtol=SAME_SPACING, atol=0):
        return volume, maps
    sizes = zip(volume.array.shape[1:], volume.spacing_mm, spacing_mm, strict=True)
    axes = [_new_axis(size, new / old) for size, old, new in sizes]
    array = _resampled(volume.array, axes)
    step = np.eye(4)
    for i, axis in enumerate(axes):
        step[i, i], step[i, 3] = axis.scale, axis.positions[0]
    moved = replace(
        volume, array=array, affine=volume.affine @ step, spacing_mm=tuple(map(float, spacing_mm))
    )
    return moved, {name: _nearest(array, axes) for name, array in maps.items()}


def _new_axis(size: int, scale: float) -> _Axis:
    count = max(1, round(size / scale))
    centred = np.arange(count, dtype=np.float64) - (count - 1) / 2
    return _Axis(scale=scale, positions=(size - 1) / 2 + scale * centred)


def _resampled(array: Array, axes: Sequence[_Axis]) -> Array:
    """Low-pass and interpolation axis by axis, the one that shrinks most first; 8-bit images stay so."""
    from scipy.ndimage import gaussian_filter1d

    values = array.astype(np.float32)
    for i in sorted(range(len(axes)), key=lambda i: -axes[i].scale):
        if axes[i].scale > 1:
            sigma = (axes[i].scale - 1) / 2
            values = gaussian_filter1d(values, sigma, axis=i + 1, mode="nearest", truncate=4.0)
        values = _interpolated(values, i + 1, axes[i].positions)
    return np.rint(values).astype(np.uint8) if array.dtype == np.uint8 else values


def _interpolated(values: Array, axis: int, positions: NDArray[np.float64]) -> Array:
    """Linear interpolation of one axis; the outer half of an edge voxel holds its value."""
    held = positions.clip(0, values.shape[axis] - 1)
    left = np.floor(held).astype(np.int64)
    right = np.minimum(left + 1, values.shape[axis] - 1)
    share = (held - left).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    result: Array = values.take(left, axis) * (1 - share)
    result += values.take(right, axis) * share
    return result


def _nearest(array: Array, axes: Sequence[_Axis]) -> Array:
    cells = [
        np.floor(axis.positions + 0.5).astype(np.int64).clip(0, size - 1)
        for axis, size in zip(axes, array.shape, strict=True)
    ]
    return np.ascontiguousarray(array[np.ix_(*cells)])


def crop_foreground(
    volume: Volume, maps: Maps, window: tuple[float, float], threshold: float
) -> tuple[Volume, Maps]:
    """The box of what is brighter than a threshold in units of the window, with a small margin.

    Raises:
        UnusableError: when nothing is.
    """
    values = windowed(volume.array, scale=1.0, offset=0.0, low=window[0], high=window[1]).values()
    seen = values.max(0) > threshold
    box = []
    for axis, size in enumerate(seen.shape):
        share = seen.mean(tuple(i for i in range(seen.ndim) if i != axis))
        planes = np.flatnonzero(share > FOREGROUND_SHARE)
        if not len(planes):
            raise UnusableError(f"nothing in it is foreground (above {threshold:g} of its window)")
        low, high = int(planes[0]) - FOREGROUND_MARGIN, int(planes[-1]) + 1 + FOREGROUND_MARGIN
        box.append(slice(max(0, low), min(size, high)))
    step = np.eye(4)
    step[: len(box), 3] = [part.start for part in box]
    array = np.ascontiguousarray(volume.array[(slice(None), *box)])
    cut = {name: np.ascontiguousarray(each[tuple(box)]) for name, each in maps.items()}
    return replace(volume, array=array, affine=volume.affine @ step), cut
