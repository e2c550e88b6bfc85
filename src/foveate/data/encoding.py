"""How voxel values become the integers of the cache: value = code * scale + offset.

Whole numbers that fit into 16 bits are kept exactly. Other values are rounded to the nearest of 65536
levels over their range; where a few extreme voxels would leave the bulk of an image with too few levels,
the levels cover the bulk with a margin and the extremes saturate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Array, FoveateError

LEVELS = 65536
BULK_PERCENTILES = (0.5, 99.5)
FEWEST_BULK_LEVELS = 4096
CHUNK_VOXELS = 1 << 22  # bounds the temporaries of a histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Codes with what turns them back into values."""

    codes: Array  # (C, *S), uint8 or int16
    scale: float
    offset: float


def encode(array: Array) -> Encoded:
    """Codes for finite values: uint8 as they are, whole numbers exactly, the rest rounded."""
    if array.dtype == np.uint8:
        return Encoded(codes=np.ascontiguousarray(array), scale=1.0, offset=0.0)
    low, high = float(array.min()), float(array.max())
    if high - low < LEVELS and _whole(array):
        return _encode_whole(array, low, high)
    bulk = [float(value) for value in np.percentile(array, BULK_PERCENTILES)]
    width = bulk[1] - bulk[0]
    if 0 < width < (high - low) * FEWEST_BULK_LEVELS / LEVELS:
        low, high = max(low, bulk[0] - width), min(high, bulk[1] + width)
    return _encode_rounded(array, low, high)


def _whole(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.integer) or np.array_equal(array, np.rint(array)))


def _encode_whole(array: Array, low: float, high: float) -> Encoded:
    offset = 0 if low >= -32768 and high <= 32767 else 32768
    if low - offset < -32768 or high - offset > 32767:
        offset = int(low) + 32768
    wide = np.int32 if max(abs(low), abs(high)) < 2**30 else np.int64
    codes = (array.astype(wide) - offset).astype(np.int16) if offset else array.astype(np.int16)
    return Encoded(codes=np.ascontiguousarray(codes), scale=1.0, offset=float(offset))


def _encode_rounded(array: Array, low: float, high: float) -> Encoded:
    scale = (high - low) / (LEVELS - 1)
    steps = np.clip(array, low, high).astype(np.result_type(array, np.float32))
    steps -= low  # before dividing: keeps float32 accurate where the offset is large
    steps /= scale
    codes = (np.rint(steps, out=steps) - LEVELS // 2).clip(-32768, 32767).astype(np.int16)
    return Encoded(codes=np.ascontiguousarray(codes), scale=scale, offset=low + LEVELS // 2 * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How often each code of an encoded image occurs, and the value of each code."""

    counts: NDArray[np.int64]
    values: NDArray[np.float64]

    def percentile(self, percent: float) -> float:
        """The value below or at which `percent` of the voxels lie (the lower neighbour, never between)."""
        rank = percent / 100 * (int(self.counts.sum()) - 1)
        return float(self.values[np.searchsorted(self.counts.cumsum(), np.floor(rank), side="right")])

    def mean(self) -> float:
        """Mean of the encoded values."""
        return float(np.average(self.values, weights=self.counts))

    def std(self) -> float:
        """Standard deviation of the encoded values."""
        return float(np.sqrt(np.average((self.values - self.mean()) ** 2, weights=self.counts)))


def histogram(encoded: Encoded) -> Histogram:
    """Counts every code, in pieces so that a large volume costs little memory."""
    limits = np.iinfo(encoded.codes.dtype)
    counts = np.zeros(limits.max - limits.min + 1, dtype=np.int64)
    flat = encoded.codes.reshape(-1)
    for start in range(0, flat.size, CHUNK_VOXELS):
        piece = flat[start : start + CHUNK_VOXELS].astype(np.int64) - limits.min
        counts += np.bincount(piece, minlength=counts.size)
    codes = np.arange(limits.min, limits.max + 1, dtype=np.float64)
    return Histogram(counts=counts, values=codes * encoded.scale + encoded.offset)


def windowed(codes: Array, *, scale: float, offset: float, low: float, high: float) -> Array:
    """Codes as float32 with the value `low` at 0 and `high` at 1, clipped.

    >>> windowed(np.array([-5, 0, 5, 10], np.int16), scale=2.0, offset=0.0, low=0.0, high=20.0).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    if high <= low:
        raise FoveateError(f"The intensity window [{low}, {high}] is empty; its end must exceed its start.")
    values = codes.astype(np.float32)
    values -= np.float32((low - offset) / scale)  # codes are exact in float32, so subtract first
    values *= np.float32(scale / (high - low))
    return np.clip(values, 0.0, 1.0, out=values)
