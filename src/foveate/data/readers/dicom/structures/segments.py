"""Frames of a segmentation (SEG) to voxels of the image that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Array
from foveate.data.readers.dicom.deflated import readable
from foveate.data.readers.dicom.frames import frame_headers, group_of
from foveate.data.readers.dicom.header import Header
from foveate.data.readers.dicom.pixels import stored
from foveate.data.readers.dicom.reading import read_header
from foveate.data.readers.dicom.tags import DataSet
from foveate.data.readers.refusals import LARGEST_VOXELS, RefusalError

OFF_GRID = np.array([0.1, 0.1, 0.3])  # voxels that a frame may be off; steps between slices vary
HALF = 0.5  # of the most that a fraction can be: from there a voxel belongs to the segment
Floats = NDArray[np.float64]


def segment_masks(path: Path, numbers: set[int], shape: tuple[int, ...], affine: Floats) -> dict[int, Array]:
    """The voxels (column, row, slice) of some segments of a file.

    Args:
        path: The SEG.
        numbers: Of the segments.
        shape: Columns, rows and slices of the image.
        affine: From (column, row, slice) to LPS millimetres.
    """
    import pydicom

    header = read_header(path)
    voxels = header.rows * header.columns * header.frames
    if not 0 < voxels * max(1, header.bits) // 8 <= LARGEST_VOXELS:
        raise RefusalError(f"its header claims {voxels:.2e} voxels")
    data: DataSet = pydicom.dcmread(readable(path, voxels), force=True)
    masks = {number: np.zeros(shape, dtype=bool) for number in numbers}
    seen: set[int] = set()
    frames, inverse = frame_headers(data, header), np.linalg.inv(affine)
    labelled = str(data.get("SegmentationType") or "").upper() == "LABELMAP"
    for i, (frame, pixels) in enumerate(zip(frames, _frames(data, header), strict=True)):
        shown = numbers if labelled else numbers & {_segment_of(data, i)}
        for number in shown:
            inside = np.equal(pixels.T, number) if labelled else _is_in(data, pixels.T)
            if inside.any():
                seen.add(number)
                _put(inside, inverse @ _flat(frame), masks[number])
    if outside := [number for number in seen if not masks[number].any()]:
        raise RefusalError(f"segment {outside[0]} lies outside of the image")
    return masks


def _frames(data: DataSet, header: Header) -> Iterator[Array]:
    """The stored numbers of every frame, one at a time where they are not compressed."""
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from np.reshape(stored(data), (header.frames, header.rows, header.columns))
        return
    if not data.original_encoding[1]:
        raise RefusalError("its bytes are in big-endian order, which no DICOM writer uses any more")
    size = header.rows * header.columns * int(data.BitsAllocated)  # in bits: frames need not end with a byte
    if len(data.PixelData) < -(-size * header.frames // 8):
        raise RefusalError(f"its data are truncated: {len(data.PixelData)} bytes for {header.frames} frames")
    for i in range(header.frames):
        part = np.frombuffer(data.PixelData, np.uint8)[i * size // 8 : -(-(i + 1) * size // 8)]
        if data.BitsAllocated == 1:
            part = np.unpackbits(part, bitorder="little")[i * size % 8 :][:size]
        elif data.BitsAllocated == 16:
            part = part.view("<u2")
        yield part.reshape(header.rows, header.columns)


def _segment_of(data: DataSet, i: int) -> int:
    group = group_of(data, i, "SegmentIdentificationSequence")
    if group is None:
        raise RefusalError("a frame does not say which segment it shows")
    return int(group.get("ReferencedSegmentNumber", 0))


def _is_in(data: DataSet, pixels: Array) -> Array:
    """Where a binary segment is 1, or a fraction is at least a half."""
    most = data.get("MaximumFractionalValue", 1)
    inside: Array = pixels >= HALF * most
    return inside


def _flat(frame: Header) -> Floats:
    """From (column, row, 1) of a frame to LPS millimetres, as (4, 3)."""
    flat = np.zeros((4, 3))
    flat[:3, 0] = np.multiply(frame.orientation[:3], frame.spacing[1])
    flat[:3, 1] = np.multiply(frame.orientation[3:], frame.spacing[0])
    flat[:, 2] = (*frame.position, 1.0)
    return flat


def _put(inside: Array, linear: Floats, result: Array) -> None:
    """Add the pixels of a frame to the slice that it lies on; `linear` leads to indices of the image."""
    columns, rows = inside.shape
    corners = np.array([(0, columns - 1, 0, columns - 1), (0, 0, rows - 1, rows - 1), (1, 1, 1, 1)])
    whole = np.rint(linear[:3])
    off = np.abs(linear[:3] @ corners - whole @ corners).max(1)
    if (
        (off > OFF_GRID).any()
        or not np.array_equal(np.abs(whole[:, :2]).sum(0), (1, 1))
        or whole[2, :2].any()
    ):
        raise RefusalError("its frames do not lie on the voxels of the image; save it on the image's grid")
    pixels = np.array([*np.nonzero(inside), np.ones(np.count_nonzero(inside))])
    voxels = (whole @ pixels).astype(np.int64)
    held = ((voxels >= 0) & (voxels < np.array(result.shape)[:, None])).all(0)
    result[tuple(voxels[:, held])] = True
