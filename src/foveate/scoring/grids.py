"""From the grid that a network saw back to the grid of the file that a user gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Array, Record
from foveate.data.decoding.decoder import decode_flat
from foveate.data.readers.suffixes import suffix_of

NIFTI = (".nii", ".nii.gz")
GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
STRAIGHT = 0.05  # voxels that a flip, a transposition and a shift may be off at the far corner
SLAB_VOXELS = 1 << 22  # interpolated at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Voxels of a file and where they lie; `header` holds a NIfTI's own words for it."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]  # index to millimetres
    header: Any = None


def source_grid(record: Record, seen: Grid, *, unchanged: bool) -> Grid:
    """The grid of a file: a NIfTI's own, or that of the image or series as decoded.

    Args:
        record: The image.
        seen: The grid of the image in the cache.
        unchanged: Whether the cache neither cuts nor resamples, so that `seen` is the decoded grid.
    """
    path = record.path
    if suffix_of(path) not in NIFTI:
        if unchanged:
            return seen
        volume = decode_flat(record)
        return Grid(shape=volume.array.shape[1:], affine=volume.affine)
    import nibabel as nib

    image = nib.load(path)
    header = nib.Nifti1Header()
    for field in GEOMETRY_FIELDS:  # and no word more: headers may name patients
        header[field] = image.header[field]
    factor = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    affine = np.diag([factor, factor, factor, 1.0]) @ image.affine
    return Grid(shape=tuple(image.shape[:3]), affine=affine, header=header)


def index_map(seen: Grid, wanted: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear part and offset of the map from indices of `wanted` to indices of `seen`."""
    n = len(seen.shape)
    both = np.linalg.inv(seen.affine) @ wanted.affine
    return both[:n, :n], both[:n, 3]


def onto(array: Array, seen: Grid, wanted: Grid, classes: int = 0) -> Array:
    """An array on the grid `seen` laid over `wanted`; 0 where `seen` does not reach.

    Flips, transpositions and cuts are undone exactly. Otherwise values are interpolated linearly; of a
    label map (`classes` > 0) the share of every class is, and the largest share wins.
    """
    linear, offset = index_map(seen, wanted)
    whole, shift = np.rint(linear), np.rint(offset)
    off = max(float(np.abs(linear - whole).max()) * max(wanted.shape), float(np.abs(offset - shift).max()))
    if off < STRAIGHT and is_signed_permutation(whole):
        return _turned(array, whole.astype(int), shift.astype(int), wanted.shape)
    result = np.zeros(wanted.shape, dtype=array.dtype)
    depth = max(1, SLAB_VOXELS // max(1, int(np.prod(wanted.shape[1:]))))
    for start in range(0, wanted.shape[0], depth):
        stop = min(start + depth, wanted.shape[0])
        begin = offset + linear[:, 0] * start
        result[start:stop] = _interpolated(array, linear, begin, (stop - start, *wanted.shape[1:]), classes)
    return result


def is_signed_permutation(matrix: NDArray[np.float64]) -> bool:
    """Whether every axis becomes one axis, forwards or backwards."""
    ones = np.abs(matrix)
    return bool(((ones == 0) | (ones == 1)).all() and (ones.sum(0) == 1).all() and (ones.sum(1) == 1).all())


def _turned(
    array: Array, linear: NDArray[np.int64], offset: NDArray[np.int64], shape: tuple[int, ...]
) -> Array:
    """Exactly, by slices: index j of the result is index linear @ j + offset of the array."""
    source_of = np.abs(linear).argmax(0)  # result axis -> array axis
    result = np.zeros(shape, dtype=array.dtype)
    target, source = [], []
    for axis, size in enumerate(shape):
        a = int(source_of[axis])
        step, first, held = int(linear[a, axis]), int(offset[a]), array.shape[a]
        low, high = (-first, held - first) if step > 0 else (first - held + 1, first + 1)
        low, high = max(0, low), min(size, high)
        target.append(slice(low, max(low, high)))
        source.append((a, step * low + first, step, max(0, high - low)))
    picked = array.transpose([a for a, *_ in source])
    cut = []
    for _, first, step, count in source:
        end = first + step * count
        cut.append(slice(first, None if end < 0 else end, step) if count else slice(0, 0))
    result[tuple(target)] = picked[tuple(cut)]
    return result


def _interpolated(
    array: Array,
    linear: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, ...],
    classes: int,
) -> Array:
    """One slab of the result, from the part of the array that it touches."""
    from scipy.ndimage import affine_transform

    ends = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(len(shape), -1)
    reach = linear @ ends + offset[:, None]
    low = np.clip(np.floor(reach.min(1)).astype(int) - 1, 0, np.array(array.shape) - 1)
    high = np.clip(np.ceil(reach.max(1)).astype(int) + 2, low + 1, array.shape)
    part = array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]

    def sampled(values: Array) -> Array:
        out: Array = affine_transform(
            values, linear, offset - low, shape, output=np.float32, order=1, mode="nearest"
        )
        return out

    inside = _reached(linear, offset, shape, array.shape)
    if not classes:
        return np.where(inside, sampled(part.astype(np.float32)), 0).astype(array.dtype)
    best, result = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=array.dtype)
    for value in range(classes):
        share = sampled((part == value).astype(np.float32))
        result[share > best] = value
        np.maximum(best, share, out=best)
    return np.where(inside, result, 0).astype(array.dtype)


def _reached(
    linear: NDArray[np.float64], offset: NDArray[np.float64], shape: tuple[int, ...], held: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Where a slab lies within a voxel of the array: resampling rounds sizes, so that edges may stick out."""
    inside = np.ones(shape, dtype=bool)
    n = len(shape)
    for i, size in enumerate(held):
        position = np.full((1,) * n, offset[i])
        for axis, cells in enumerate(shape):
            position = position + linear[i, axis] * np.arange(cells).reshape(
                [-1 if k == axis else 1 for k in range(n)]
            )
        inside &= (position > -1) & (position < size)
    return inside
