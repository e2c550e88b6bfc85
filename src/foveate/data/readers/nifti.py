"""NIfTI-1 and -2: the header by nibabel, which takes sheared affines that ITK refuses; the voxels read here.

A gzip stream is followed to its end, where its checksum and length stand: nibabel stops at the last voxel.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from foveate.core.types import Array, FourthAxis, Volume
from foveate.data.readers.canonical import canonical_volume
from foveate.data.readers.inflate import Plain, Source, check_end, filled, gzip_streams, skip
from foveate.data.readers.refusals import (
    DEFLATE_RATIO,
    RefusalError,
    check_claim,
    check_voxel_type,
    fourth_axis,
    native,
    spatial_shape,
)
from foveate.data.readers.regular import open_regular, size_of

MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}  # bytes of a header, which begins with this number
MAGICS = {348: b"n+1", 540: b"n+2"}  # one file; other magics have their voxels elsewhere
NUMBER_BYTES = 4
ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
MOST_PASSED = 1 << 30  # bytes before the voxels, and behind them, that are passed over; more is an attack


def read_nifti(path: Path, several: FourthAxis = "error", point: int | None = None) -> Volume:
    """One image, slope and intercept applied; without a spatial transform, the one its voxel sizes imply.

    Args:
        path: The file.
        several: What a file with a fourth axis is.
        point: Its volume that is read, where its volumes are `images`.
    """
    packed = path.name.lower().endswith(".gz")
    with _no_reports(), open_regular(path) as file:
        size, ratio = size_of(file), DEFLATE_RATIO if packed else 1
        source: Source = gzip_streams(file) if packed else Plain(file)
        header, passed, start = _header(source)
        dtype = header.get_data_dtype()
        check_voxel_type(dtype)
        shape, count = _sizes(header.get_data_shape(), several, point)
        check_claim((*shape, count), dtype.itemsize, size, ratio)
        if skip(source, start - passed) < start - passed:
            raise RefusalError(f"its vox_offset is {start}, beyond its end")
        one, nbytes = math.prod(shape) * dtype.itemsize, math.prod(shape) * count * dtype.itemsize
        before = (point or 0) * one
        skip(source, before)
        read = 1 if several in ("first", "images") else count
        stored = filled(source, one * read).view(dtype).reshape((*shape, read), order="F")
        if packed:
            skip(source, nbytes - before - stored.nbytes)
            check_end(source, nbytes, MOST_PASSED)
        values = _values(stored, header)
        if several == "mean" and count > 1:
            values = values.mean(axis=3, dtype=np.float64, keepdims=True).astype(np.float32)
        return canonical_volume(values, _millimetres(header) @ header.get_best_affine())


def volumes_in(path: Path) -> int:
    """How many volumes the header says the file has; 1 where it cannot be read, which its reader will say."""
    try:
        with _no_reports(), open_regular(path) as file:
            source: Source = gzip_streams(file) if path.name.lower().endswith(".gz") else Plain(file)
            return max(1, fourth_axis(_header(source)[0].get_data_shape()))
    except (RefusalError, OSError, ValueError, EOFError, HeaderDataError):
        return 1


def _sizes(shape: tuple[int, ...], several: FourthAxis, point: int | None) -> tuple[tuple[int, ...], int]:
    """The spatial sizes, and how many volumes there are."""
    count = fourth_axis(shape)
    if count > 1 and (several == "error" or (several == "images" and point is None)):
        raise RefusalError(
            f"it is {len(shape)}D (shape {shape}): say what its {count} volumes are: --channels.fourth_axis "
            "channels, first or mean, and images for pretrain and prepare; or split it into one 3D file per "
            "volume"
        )
    if point is not None and point >= count:
        raise RefusalError(f"it has {count} volumes, and had more than {point} when it was listed")
    return spatial_shape(shape[:3] if count > 1 else shape), count


def _header(source: Source) -> tuple[nib.Nifti1Header, int, int]:
    """The header, how many bytes were read for it, and where the voxels start."""
    head = bytearray(max(SIZES))
    count = source.fill(memoryview(head)[:NUMBER_BYTES])
    numbers = (int.from_bytes(head[:NUMBER_BYTES], order) for order in ORDERS)
    size = next((number for number in numbers if number in SIZES), 0)
    if count < NUMBER_BYTES or not size:
        raise RefusalError("it is damaged, or its content is not NIfTI")
    if source.fill(memoryview(head)[NUMBER_BYTES:size]) < size - NUMBER_BYTES:
        raise RefusalError("it is truncated inside its header")
    stored = SIZES[size](bytes(head[:size]), check=False)
    if not bytes(stored["magic"].item()).startswith(MAGICS[size]):
        raise RefusalError("it is damaged, or its voxels are in another file; save one NIfTI file (.nii.gz)")
    start = _voxels_start(float(stored["vox_offset"]), size + NUMBER_BYTES)  # four bytes announce extensions
    return SIZES[size](bytes(head[:size])), size, start


def _voxels_start(said: float, least: int) -> int:
    """Where the voxels start; programs disagree on what 0 means in a single file, so it is refused too."""
    if not said.is_integer() or not least <= said <= MOST_PASSED:
        raise RefusalError(
            f"its vox_offset is {said:g}; accepted: whole numbers from {least} to {MOST_PASSED}"
        )
    return int(said)


@contextmanager
def _no_reports() -> Iterator[None]:
    """Keeps nibabel's header reports, which may quote the file, off the terminal."""
    reports = logging.getLogger("nibabel.global")
    level = reports.level
    reports.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        reports.setLevel(level)


def _values(stored: Array, header: nib.Nifti1Header) -> Array:
    """Stored values where slope and intercept change nothing (integers stay integers), else scaled."""
    slope, inter = header.get_slope_inter()
    if (slope, inter) in ((None, None), (1.0, 0.0)):
        return native(stored)
    scaled: Array = apply_read_scaling(stored, np.float64(slope), np.float64(inter)).astype(np.float32)
    return scaled


def _millimetres(header: nib.Nifti1Header) -> Array:
    factor = MM_PER_UNIT[header.get_xyzt_units()[0]]
    return np.diag([factor, factor, factor, 1.0])
