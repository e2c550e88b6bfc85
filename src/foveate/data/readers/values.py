"""Whether decoded values are an image's: finite, more than one, and not the flat regions of a label map."""

from __future__ import annotations

import numpy as np

from foveate.core.types import Array
from foveate.data.readers.refusals import RefusalError

SMALLEST_SPAN, LARGEST_SPAN = 1e-30, 1e30  # beyond these, float32 arithmetic of a window breaks down
SAMPLE_VOXELS = 1 << 16
MOST_LABELS = 256
FEW_LABELS = 32
# Share of neighbours inside structures that are equal. Label maps seen: 0.98 and more, thin ones less. Images
# seen: 0.41 at most, but 0.89 in an ultrasound picture whose black and white are saturated.
FLAT_SHARE_OF_FEW, FLAT_SHARE_OF_MANY = 0.7, 0.95


def check_values(array: Array, *, as_map: bool, flat: bool = False) -> None:
    """Refuses what pre-training could not learn from; a map may hold one value; `flat` allows labels."""
    check_finite(array)
    low, high = float(array.min()), float(array.max())
    if low == high:
        if as_map:
            return
        raise RefusalError("the image is constant")
    if not SMALLEST_SPAN < high - low < LARGEST_SPAN:
        raise RefusalError(f"its values span {high - low:.1e}, which is not an image's range")
    if not (as_map or flat) and (labels := label_count(array)):
        raise RefusalError(
            f"its values look like labels: {labels} whole numbers from {low:g} to {high:g}, in flat regions"
        )


def check_finite(array: Array) -> None:
    """Refuses NaN and infinity."""
    if np.issubdtype(array.dtype, np.floating):
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            raise RefusalError(f"{bad} of {array.size} voxels are NaN or infinite")


def label_count(array: Array) -> int:
    """How many values an array (C, *S) has if it looks like a label map, else 0.

    Labels are few whole numbers, none below 0, and inside a structure most neighbours are equal.
    """
    sample = array.reshape(-1)[:: max(1, array.size // SAMPLE_VOXELS)]
    if not _few_whole(sample) or not _few_whole(array):
        return 0
    pairs = [_pairs(array, axis) for axis in range(1, array.ndim)]
    inside = sum(each[0] for each in pairs)
    equal = sum(each[1] for each in pairs)
    count = len(np.unique(array))
    share = FLAT_SHARE_OF_FEW if count <= FEW_LABELS else FLAT_SHARE_OF_MANY
    return count if inside and equal >= share * inside else 0


def _few_whole(values: Array) -> bool:
    if float(values.min()) < 0 or (values.dtype.kind == "f" and not np.array_equal(values, np.rint(values))):
        return False
    return len(np.unique(values)) <= MOST_LABELS


def _pairs(array: Array, axis: int) -> tuple[int, int]:
    """Neighbours along an axis that are both above 0, and how many of them are equal."""
    first = np.take(array, range(array.shape[axis] - 1), axis)
    second = np.take(array, range(1, array.shape[axis]), axis)
    inside = (first > 0) & (second > 0)
    return int(np.count_nonzero(inside)), int(np.count_nonzero(inside & (first == second)))
