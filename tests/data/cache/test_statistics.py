"""Statistics of an image against slow loops over its voxels."""

from __future__ import annotations

from dataclasses import asdict, replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from skimage.filters import threshold_otsu
from tests.data.conftest import prepared

from foveate.core.types import PERCENTS
from foveate.data.cache.encoding import Histogram, channel_histograms, encode, histogram
from foveate.data.cache.index import statistics_from
from foveate.data.cache.statistics import otsu, statistics_of


def slow_otsu(values):
    """The value that splits best: the one with the largest variance between what is above and what is not."""
    best, found = -1.0, None
    for limit in sorted(set(values.tolist()))[:-1]:
        low, high = values[values <= limit], values[values > limit]
        variance = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if variance > best * (1 + 1e-12):
            best, found = variance, limit
    return found


def check_region(found, values):
    assert found.voxels == values.size
    assert (found.mean, found.std) == pytest.approx((values.mean(), values.std()))
    wanted = np.percentile(values, PERCENTS, method="lower")
    assert found.percentiles == pytest.approx(wanted.tolist(), rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-300, 3000), min_size=2, max_size=60), st.integers(0, 2000))
def test_regions_are_those_of_a_loop(numbers, seed):
    noise = np.random.default_rng(seed).integers(-5, 5, (2, 7, 9))
    array = (np.resize(numbers, (2, 7, 9)) + noise).astype(np.int16)
    for channel, found in zip(array, statistics_of(channel_histograms(encode(array))), strict=True):
        values = channel.astype(np.float64).reshape(-1)
        check_region(found.whole, values)
        check_region(found.foreground, values[values > found.threshold])
        low, high = values[values <= found.threshold], values[values > found.threshold]
        wanted = slow_otsu(values)
        best = [values[values <= wanted], values[values > wanted]]
        spread = [len(a) * len(b) * (a.mean() - b.mean()) ** 2 for a, b in ((low, high), best)]
        assert spread[0] == pytest.approx(spread[1], rel=1e-9)  # the same, or one that splits as well


def test_the_threshold_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 40, 5000), rng.normal(700, 200, 3000)]).round().astype(np.int16)
    found = histogram(encode(values.reshape(1, 80, 100)))
    found = Histogram(counts=found.counts[found.counts > 0], values=found.values[found.counts > 0])
    assert found.values[otsu(found)] == threshold_otsu(hist=(found.counts.astype(float), found.values))


def test_an_even_image_is_all_foreground():
    (found,) = statistics_of(channel_histograms(encode(np.full((1, 3, 4), 7, np.int16))))
    assert found.whole == found.foreground
    assert (found.whole.mean, found.whole.std, found.threshold) == (7.0, 0.0, 7.0)


def test_a_cache_has_them_in_the_values_of_the_source(scans, tmp_path):
    for volume in prepared(scans, tmp_path / "cache"):
        source = np.asarray(nib.load(scans / volume.relative).dataobj, dtype=np.float64).reshape(-1)
        (found,) = volume.entry.statistics
        check_region(found.whole, source)
        check_region(found.foreground, source[source > found.threshold])
        assert statistics_from([asdict(found)]) == (found,)
        assert replace(volume.entry, statistics=()) != volume.entry
        without = type(volume)(volume.folder, replace(volume.entry, statistics=()))
        assert without.statistics == volume.statistics == (found,)  # counted anew from the stored codes
