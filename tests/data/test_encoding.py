"""Codes: exact where they can be, within half a level elsewhere, and histograms against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.data.encoding import encode, histogram, windowed

few = settings(deadline=None, max_examples=25)


@few
@given(
    dtype=st.sampled_from(
        [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]
    ),
    seed=st.integers(0, 1000),
)
def test_whole_numbers_are_exact(dtype, seed):
    limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.iinfo(np.int16)
    start = {np.int32: -2_000_000, np.uint32: 4_000_000_000}.get(dtype, int(limits.min))
    values = start + np.random.default_rng(seed).integers(0, min(65536, limits.max - limits.min + 1), 300)
    array = values.astype(dtype)
    encoded = encode(array)
    assert encoded.scale == 1.0
    assert encoded.codes.dtype == (np.uint8 if dtype is np.uint8 else np.int16)
    np.testing.assert_array_equal(encoded.codes.astype(np.float64) + encoded.offset, array.astype(np.float64))


@few
@given(centre=st.floats(-1e4, 1e4), spread=st.sampled_from([1e-6, 0.1, 3.0, 1e5]), seed=st.integers(0, 1000))
def test_other_values_are_within_half_a_level(centre, spread, seed):
    array = centre + spread * np.random.default_rng(seed).random(500)  # no outliers
    encoded = encode(array)
    back = encoded.codes * encoded.scale + encoded.offset
    assert encoded.scale == pytest.approx((array.max() - array.min()) / 65535, rel=1e-6)
    assert np.abs(back - array).max() <= encoded.scale * 0.51 + 4 * np.spacing(abs(centre) + spread)
    assert np.unique(encoded.codes).size > 450


def test_one_hot_voxel_does_not_flatten_the_rest():
    array = np.random.default_rng(0).random(100_000).astype(np.float32)
    array[7] = 1e9
    encoded = encode(array)
    back = encoded.codes * encoded.scale + encoded.offset
    rest = np.arange(array.size) != 7
    assert np.abs(back - array)[rest].max() < 1e-4
    assert back[7] == back.max()


@few
@given(percent=st.floats(0, 100), seed=st.integers(0, 1000), dtype=st.sampled_from([np.uint8, np.int16]))
def test_histogram_agrees_with_numpy(percent, seed, dtype):
    array = np.random.default_rng(seed).integers(0, 200, 777).astype(dtype)
    counts = histogram(encode(array))
    assert counts.percentile(percent) == np.percentile(array, percent, method="lower")
    assert counts.mean() == pytest.approx(array.mean())
    assert counts.std() == pytest.approx(array.std())


def test_window_is_accurate_far_from_zero():
    array = 30_000 + np.linspace(0, 1, 101)
    encoded = encode(array)
    got = windowed(encoded.codes, scale=encoded.scale, offset=encoded.offset, low=30_000.25, high=30_000.75)
    np.testing.assert_allclose(got, np.clip((array - 30_000.25) * 2, 0, 1), atol=1e-4)
    assert got.dtype == np.float32
