"""How voxel values become the integers of the cache: value = code * scale + offset.

Whole numbers that fit into 16 bits are kept exactly. Other values are rounded to the nearest of 65536
levels over their range; where a few extreme voxels would leave the bulk of an image with too few levels,
the levels cover the bulk with a margin, and what any profile's window shows; the extremes saturate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.core.codes import Codes
from foveate.core.types import Array, FoveateError

LEVELS = 65536
BULK_PERCENTILES = (0.5, 99.5)
SHOWN_PERCENTILES = (0.05, 99.95)  # beyond every window of percentiles that a profile has
FEWEST_BULK_LEVELS = 4096
MOST_WIDTHS = 100  # of the bulk on either side; what lies further out is no signal, and the bulk needs levels
SLAB_VOXELS = 1 << 20  # bounds the temporaries of an encoding
CHUNK_VOXELS = 1 << 22  # bounds the temporaries of a histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Codes with what turns them back into values."""

    codes: Array  # (C, *S), uint8 or int16
    scale: float
    offset: float


def encode(array: Array) -> Encoded:
    """Codes for finite values: uint8 as they are, whole numbers exactly, the rest rounded.

    Works slab by slab: beside the codes it takes a few slabs of memory, whatever the size of the array.
    """
    if array.dtype == np.uint8:
        return Encoded(codes=np.ascontiguousarray(array), scale=1.0, offset=0.0)
    if array.dtype == np.float16:  # its differences may be too large for it
        array = array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if high - low < LEVELS and _whole(array):
        return _encode_whole(array, low, high)
    first, last, *shown = percentiles(array, (*BULK_PERCENTILES, *SHOWN_PERCENTILES))
    width = last - first
    if 0 < width < (high - low) * FEWEST_BULK_LEVELS / LEVELS:
        low = max(low, min([first - width, *[x for x in shown if first - x <= MOST_WIDTHS * width]]))
        high = min(high, max([last + width, *[x for x in shown if x - last <= MOST_WIDTHS * width]]))
    return _encode_rounded(array, low, high)


def _slabs(array: Array) -> Iterator[tuple[slice, ...]]:
    """Pieces of about `SLAB_VOXELS` along the axis that memory goes through last."""
    axis = max(range(array.ndim), key=lambda a: abs(array.strides[a]) * (array.shape[a] > 1))
    step = max(1, SLAB_VOXELS * array.shape[axis] // array.size)
    for start in range(0, array.shape[axis], step):
        yield (slice(None),) * axis + (slice(start, start + step),)


def _whole(array: Array) -> bool:
    if np.issubdtype(array.dtype, np.integer):
        return True
    return all(np.array_equal(array[here], np.rint(array[here])) for here in _slabs(array))


def _encode_whole(array: Array, low: float, high: float) -> Encoded:
    offset = 0 if low >= -32768 and high <= 32767 else 32768
    if low - offset < -32768 or high - offset > 32767:
        offset = int(low) + 32768
    wide = np.int32 if max(abs(low), abs(high)) < 2**30 else np.int64
    codes = np.empty(array.shape, dtype=np.int16)
    for here in _slabs(array):
        codes[here] = array[here].astype(wide) - offset if offset else array[here]
    return Encoded(codes=codes, scale=1.0, offset=float(offset))


def _encode_rounded(array: Array, low: float, high: float) -> Encoded:
    scale = (high - low) / (LEVELS - 1)
    codes = np.zeros(array.shape, dtype=np.int16)
    for here in _slabs(array) if scale else ():  # one value everywhere needs no codes
        steps = np.clip(array[here], low, high).astype(np.result_type(array, np.float32), copy=False)
        steps -= low  # before dividing: keeps float32 accurate where the offset is large
        steps /= scale
        np.rint(steps, out=steps)
        steps -= LEVELS // 2
        codes[here] = np.clip(steps, -32768, 32767, out=steps)
    return Encoded(codes=codes, scale=scale, offset=low + LEVELS // 2 * scale)


def percentiles(array: Array, percents: Sequence[float]) -> list[float]:
    """What `np.percentile` gives, without its copy of the array.

    >>> percentiles(np.array([3.0, 1.0, 2.0, 5.0]), (50, 100))
    [2.5, 5.0]
    """
    places = [np.float64(percent) / 100 * (array.size - 1) for percent in percents]
    ends = [(int(place), min(int(place) + 1, array.size - 1)) for place in places]
    found = _of_rank(array, {rank for pair in ends for rank in pair})
    values = []
    for place, (before, after) in zip(places, ends, strict=True):
        share, first, last = place - before, found[before], found[after]
        gap = last - first  # from the nearer end, as NumPy does
        values.append(float(first + gap * share if share < 0.5 else last - gap * (1 - share)))
    return values


def _of_rank(array: Array, ranks: Iterable[int]) -> dict[int, np.floating]:
    """The values of some ranks, 0 the least, found 16 bits at a time: counts, not a sorted copy."""
    sample = _sortable(array[next(_slabs(array))])
    bits = sample.dtype.itemsize * 8
    heads = {
        rank: (0, rank) for rank in ranks
    }  # what is known of the value's bits; its rank among such values
    for shift in range(bits - 16, -1, -16):
        counts = {head: np.zeros(1 << 16, dtype=np.int64) for head, _ in heads.values()}
        for here in _slabs(array):
            keys = _sortable(array[here]).reshape(-1)
            for head in counts:
                mine = keys if shift == bits - 16 else keys[keys >> (shift + 16) == head]
                counts[head] += np.bincount((mine >> shift).astype(np.uint16), minlength=1 << 16)
        for rank, (head, left) in heads.items():
            before = counts[head].cumsum()
            digit = int(np.searchsorted(before, left, side="right"))
            heads[rank] = (head << 16 | digit, left - int(before[digit] - counts[head][digit]))
    return {rank: _unsorted(np.array(head, sample.dtype), array.dtype) for rank, (head, _) in heads.items()}


def _sortable(values: Array) -> Array:
    """Unsigned whole numbers in the order of the values, from their bits."""
    sized = values.dtype.newbyteorder("=") if values.dtype.itemsize in (2, 4, 8) else np.dtype(np.float64)
    values = np.ascontiguousarray(values, dtype=sized)
    bits = values.view(f"u{sized.itemsize}")
    top = bits.dtype.type(1 << (8 * sized.itemsize - 1))
    if sized.kind == "f":  # negative ones count backwards
        return np.where(bits & top, ~bits, bits | top)
    return bits ^ top if sized.kind == "i" else bits


def _unsorted(key: Array, dtype: np.dtype[np.generic]) -> np.floating:
    """The value of a sortable number."""
    sized = dtype.newbyteorder("=") if dtype.itemsize in (2, 4, 8) else np.dtype(np.float64)
    top = key.dtype.type(1 << (8 * sized.itemsize - 1))
    if sized.kind == "f":
        found: np.floating = (key ^ top if key & top else ~key).view(sized).flat[0]
        return found
    return np.float64((key ^ top if sized.kind == "i" else key).view(sized)[()])  # differences must not wrap


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
    """Counts every code of all channels."""
    return together(channel_histograms(encoded))


def together(found: Sequence[Histogram]) -> Histogram:
    """Those of parts of an image as one."""
    return Histogram(counts=np.sum([each.counts for each in found], axis=0), values=found[0].values)


def channel_histograms(encoded: Encoded) -> list[Histogram]:
    """Counts every code of each channel (C, *S)."""
    return [_histogram(channel, encoded.scale, encoded.offset) for channel in encoded.codes]


def _histogram(stored: Array, scale: float, offset: float) -> Histogram:
    """In pieces, so that a large volume costs little memory."""
    limits = np.iinfo(stored.dtype)
    counts = np.zeros(limits.max - limits.min + 1, dtype=np.int64)
    flat = stored.reshape(-1)
    for start in range(0, flat.size, CHUNK_VOXELS):
        piece = flat[start : start + CHUNK_VOXELS].astype(np.int64) - limits.min
        counts += np.bincount(piece, minlength=counts.size)
    codes = np.arange(limits.min, limits.max + 1, dtype=np.float64)
    return Histogram(counts=counts, values=codes * scale + offset)


def windowed(array: Array, *, scale: float, offset: float, low: float, high: float) -> Codes:
    """Codes with the value `low` at 0 and `high` at 1.

    >>> windowed(np.array([-5, 0, 5], np.int16), scale=2.0, offset=0.0, low=0.0, high=20.0).values().tolist()
    [0.0, 0.0, 0.5]
    """
    if high <= low:
        raise FoveateError(f"The intensity window [{low}, {high}] is empty; its end must exceed its start.")
    return Codes(array, (low - offset) / scale, (high - offset) / scale)


def channelwise(
    array: Array, windows: Sequence[tuple[float, float]], *, scale: float, offset: float
) -> Codes:
    """A window (C, *S) of stored codes as values, every channel in its own intensity window."""
    rows = [
        windowed(row[None], scale=scale, offset=offset, low=low, high=high).values()
        for row, (low, high) in zip(array, windows, strict=True)
    ]
    return Codes(np.concatenate(rows), 0.0, 1.0, inside=True)


def counted(slabs: Iterable[Array], *, scale: float, offset: float) -> list[Histogram]:
    """How often each value occurs in each channel of an image that is given in slabs (C, *S) of codes."""
    found = [channel_histograms(Encoded(codes=x, scale=scale, offset=offset)) for x in slabs]
    return [together(parts) for parts in zip(*found, strict=True)]
