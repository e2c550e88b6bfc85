"""Statistics of the channels of an image, from the histogram of its codes: no second pass over its values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.core.types import PERCENTS, ChannelStatistics, Statistics
from foveate.data.cache.encoding import Histogram


def statistics_of(channels: Sequence[Histogram]) -> tuple[ChannelStatistics, ...]:
    """Those of every channel, of the whole and of the foreground."""
    return tuple(map(_of_channel, channels))


def _of_channel(found: Histogram) -> ChannelStatistics:
    occurring = found.counts > 0
    some = Histogram(counts=found.counts[occurring], values=found.values[occurring])
    last = otsu(some)
    above = Histogram(counts=some.counts[last + 1 :], values=some.values[last + 1 :])
    return ChannelStatistics(
        whole=_of_region(some),
        foreground=_of_region(above if len(above.values) else some),
        threshold=float(some.values[last]),
    )


def _of_region(found: Histogram) -> Statistics:
    return Statistics(
        voxels=int(found.counts.sum()),
        mean=found.mean(),
        std=found.std(),
        percentiles=tuple(map(found.percentile, PERCENTS)),
    )


def otsu(found: Histogram) -> int:
    """The place of Otsu's threshold: values up to it are one class, those above it the other.

    Every value of the histogram must occur.

    >>> otsu(Histogram(counts=np.array([9, 1, 5, 5]), values=np.array([0.0, 1.0, 8.0, 9.0])))
    1
    """
    counts = found.counts.astype(np.float64)
    values = found.values - found.mean()  # sums of deviations: nothing cancels where the offset is large
    below, sums = counts.cumsum()[:-1], (counts * values).cumsum()[:-1]
    above = counts.sum() - below
    if len(below) == 0:
        return 0
    # Between classes: n0 n1 / n^2 (m0 - m1)^2 with n0 m0 = -n1 m1 = sums.
    return int(np.argmax(sums**2 * (1 / below + 1 / above)))
