"""Structures painted into a label map on the grid of their image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Array, Orientation, Region, Volume
from foveate.data.readers.canonical import LPS_TO_RAS, canonical_volume, source_affine, to_source
from foveate.data.readers.dicom.reading import read_header
from foveate.data.readers.dicom.structures.contents import TAGS, closed_contours, few_tags
from foveate.data.readers.dicom.structures.contours import rasterised
from foveate.data.readers.dicom.structures.segments import segment_masks
from foveate.data.readers.dicom.tags import DataSet
from foveate.data.readers.refusals import RefusalError

CONTOURED = "RTSTRUCT"
HALF = 0.5  # a voxel reaches so far beyond its centre
Floats = NDArray[np.float64]


def painted(
    regions: Sequence[Region], shape: tuple[int, ...], affine: Floats, orientation: Orientation
) -> Volume:
    """A map of the regions' values; where regions overlap, the later one covers the earlier.

    Args:
        regions: What to paint, in this order.
        shape: Of the decoded image.
        affine: From its indices to RAS+ millimetres.
        orientation: How its file had its axes.
    """
    own = to_source(np.broadcast_to(np.zeros(1, np.uint8), shape), orientation).shape  # column, row, slice
    placed = LPS_TO_RAS @ source_affine(affine, orientation, shape)
    files = {region.file: {r.number for r in regions if r.file == region.file} for region in regions}
    masks = {file: _masks(file, numbers, own, placed) for file, numbers in files.items()}
    labels = np.zeros(own, dtype=np.int16)
    for value, file, number in regions:
        labels[masks[file][number]] = value
    return canonical_volume(labels, LPS_TO_RAS @ placed)


def _masks(file: Path, numbers: set[int], shape: tuple[int, ...], affine: Floats) -> dict[int, Array]:
    """The voxels of some structures of a file, by number."""
    if read_header(file).modality != CONTOURED:
        return segment_masks(file, numbers, shape, affine)
    contours = closed_contours(few_tags(file, TAGS))
    if absent := numbers - contours.keys():
        raise RefusalError(f"it has no structure {min(absent)} any more")
    return {number: _region(number, contours[number], shape, affine) for number in numbers}


def _region(number: int, contours: Sequence[DataSet], shape: tuple[int, ...], affine: Floats) -> Array:
    """The voxels of one structure; one that is beside the image was drawn on another."""
    points = [np.array(each.get("ContourData"), dtype=np.float64).reshape(-1, 3) for each in contours]
    inverse = np.linalg.inv(affine)
    every = np.concatenate(points) @ inverse[:3, :3].T + inverse[:3, 3]
    if (every.max(0) < -HALF).any() or (every.min(0) > np.array(shape) - HALF).any():
        raise RefusalError(f"structure {number} lies outside of the image")
    return rasterised([each for each in points if len(each) > 2], shape, affine)
