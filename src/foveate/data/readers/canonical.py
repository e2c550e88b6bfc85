"""Between a file's own order of axes and RAS+ (x, y, z): flips and transpositions, never a resample.

`Volume.orientation` says for each axis of the source which canonical axis it becomes and whether it is
mirrored (-1). It is all that the way back needs.
"""

from __future__ import annotations

import numpy as np
from nibabel import orientations
from nibabel.affines import voxel_sizes

from foveate.core.types import Array, Orientation, Volume
from foveate.data.readers.refusals import RefusalError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM and ITK count from right to left and front to back


def orientation_of(affine: Array) -> Orientation:
    """The closest canonical axes of an affine from array index to millimetres (RAS+).

    Raises:
        RefusalError: when the affine cannot be inverted.
    """
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise RefusalError("its affine cannot be inverted, so its orientation is unknown")
    found = orientations.io_orientation(affine)
    return tuple((int(axis), int(flip)) for axis, flip in found)


def to_canonical(array: Array, orientation: Orientation) -> Array:
    """A source array (*S) in RAS+ order; a view where possible."""
    turned: Array = orientations.apply_orientation(array, np.asarray(orientation))
    return turned


def to_source(array: Array, orientation: Orientation) -> Array:
    """A canonical array (*S) in its source's own order: the inverse of `to_canonical`."""
    back: Array = orientations.apply_orientation(array, _inverse(orientation))
    return back


def canonical_affine(affine: Array, orientation: Orientation, shape: tuple[int, ...]) -> Array:
    """The affine of the canonical array, from that of a source array of `shape`."""
    moved: Array = affine @ orientations.inv_ornt_aff(np.asarray(orientation), shape)
    return moved


def source_affine(affine: Array, orientation: Orientation, shape: tuple[int, ...]) -> Array:
    """The affine of the source array, from that of a canonical array of `shape`."""
    moved: Array = affine @ orientations.inv_ornt_aff(_inverse(orientation), shape)
    return moved


def _inverse(orientation: Orientation) -> Array:
    axes = [axis for axis, _ in orientation]
    return np.array([(axes.index(axis), orientation[axes.index(axis)][1]) for axis in range(len(axes))])


def canonical_volume(array: Array, affine: Array, modality: str = "") -> Volume:
    """A `Volume` from a source array (x, y, z order of `affine`); a fourth axis holds its channels."""
    orientation = orientation_of(affine)
    turned = to_canonical(array, orientation)
    affine = canonical_affine(affine, orientation, array.shape[:3])
    return Volume(
        array=np.moveaxis(turned if turned.shape[3:] else turned[..., np.newaxis], 3, 0),
        affine=affine,
        spacing_mm=tuple(float(size) for size in voxel_sizes(affine)),
        bits=8 if array.dtype == np.uint8 else 16,
        orientation=orientation,
        modality=modality,
    )
