"""One image from one file, or from several files that are its channels, and a hash of its voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from foveate.core.types import Array, MissingChannels, Reading, Record, Volume
from foveate.data.readers.unreadable import UnreadableImageError

SINGLE = Reading()  # one number per voxel
SAME_PLACE_MM = 1e-3  # headers that differ by less describe the same grid


def read_image(
    record: Record, read: Callable[[Record, Reading], Volume], reading: Reading = SINGLE
) -> Volume:
    """The image of a record, its channels stacked in their order.

    Args:
        record: What to read.
        read: Reads a record whose image is in one file or series.
        reading: What a fourth axis, colour and channels without a file are.

    Raises:
        UnreadableImageError: a file cannot be read, or the channels are not on one grid.
    """
    if not record.channels:
        return read(record, reading)
    single = replace(reading, fourth_axis="error")
    found = stacked(record, [read(_channel(record, path), single) for path in record.channels])
    return _completed(found, record, reading.missing_channels) if record.absent else found


def _completed(volume: Volume, record: Record, missing: MissingChannels) -> Volume:
    """An image with a channel of zeros, or the mean of the others, wherever a file is missing."""
    if missing == "error":
        raise UnreadableImageError(record.path, missing_reason(record))
    values: Array = np.zeros_like(volume.array[0])
    if missing == "mean":
        values = volume.array.mean(axis=0, dtype=np.float64).astype(np.float32)
    channels = list(volume.array)
    for number in sorted(record.absent):
        channels.insert(number, values)
    return replace(volume, array=np.stack(channels))


def missing_reason(record: Record) -> str:
    """Why an image of which channels have no file cannot be read."""
    numbers = ", ".join(map(str, record.absent))
    return (
        f"its channel {numbers} (counted from 0) has no file, and others of its data set have "
        f"{len(record.channels) + len(record.absent)} channels; --channels.missing zero or mean fills it"
    )


def _channel(record: Record, path: Path) -> Record:
    """The record of one channel alone, below the same folder."""
    root = record.root
    inside = root is not None and path.is_relative_to(root)
    relative = path.relative_to(root).as_posix() if root and inside else record.relative
    return replace(record, path=path, channels=(), relative=relative)


def stacked(record: Record, volumes: Sequence[Volume]) -> Volume:
    """Volumes of one channel each as one; a channel on another grid is refused with its number."""
    first = volumes[0]
    for number, (path, volume) in enumerate(zip(record.channels, volumes, strict=True)):
        if volume.array.shape != first.array.shape:
            shapes = f"{volume.array.shape[1:]}, that of the first {first.array.shape[1:]}"
            raise UnreadableImageError(path, f"the shape of its channel {number} is {shapes}")
        apart = float(np.abs(corners(volume) - corners(first)).max())
        if apart > SAME_PLACE_MM:
            raise UnreadableImageError(
                path,
                f"its channel {number} lies up to {apart:.3g} mm away from the first; accepted: 1e-3",
            )
    return replace(
        first,
        array=np.concatenate([volume.array for volume in volumes]),  # (C, *S)
        bits=max(volume.bits for volume in volumes),
    )


def voxel_hash(array: Array) -> str:
    """A hash of shape and values (C, *S): the same whole numbers as int16, uint8 or float32 have the same.

    >>> import numpy as np
    >>> voxel_hash(np.ones((1, 2, 2), np.uint8)) == voxel_hash(np.ones((1, 2, 2), np.float64))
    True
    """
    digest = blake2b(repr(array.shape).encode(), digest_size=16)
    for channel in array:
        for plane in channel:  # a plane at a time: no second copy of the whole
            values = plane.astype("<f4", order="C") + np.float32(0)  # -0 and 0 are one value
            digest.update(values.data)
    return digest.hexdigest()


def corners(volume: Volume) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Where the corners of the array are, in millimetres, (3, 2**n)."""
    shape = volume.array.shape[1:]
    grid = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(len(shape), -1)
    return np.asarray(volume.affine[:3, : len(shape)] @ grid + volume.affine[:3, 3:])
