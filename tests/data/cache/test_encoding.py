"""Codes: exact where they can be, within half a level elsewhere, and histograms against NumPy."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from foveate.data.cache import encoding
from foveate.data.cache.encoding import encode, histogram, percentiles, windowed

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
    got = windowed(
        encoded.codes, scale=encoded.scale, offset=encoded.offset, low=30_000.25, high=30_000.75
    ).values()
    np.testing.assert_allclose(got, np.clip((array - 30_000.25) * 2, 0, 1), atol=1e-4)
    assert got.dtype == np.float32


def encoded_at_once(array):
    """Oracle: the codes from whole temporary arrays and NumPy's percentiles."""
    low, high = float(array.min()), float(array.max())
    if high - low < 65536 and np.array_equal(array, np.rint(array)):
        offset = 0 if low >= -32768 and high <= 32767 else 32768
        if low - offset < -32768 or high - offset > 32767:
            offset = int(low) + 32768
        return (array.astype(np.int64) - offset).astype(np.int16), 1.0, offset
    array = array.astype(np.promote_types(array.dtype, np.float32))
    first, last, *shown = map(float, np.percentile(array, (0.5, 99.5, 0.05, 99.95)))
    width = last - first
    if 0 < width < (high - low) * 4096 / 65536:
        below = min(first - width, shown[0]) if first - shown[0] <= 100 * width else first - width
        above = max(last + width, shown[1]) if shown[1] - last <= 100 * width else last + width
        low, high = max(low, below), min(high, above)
    scale = (high - low) / 65535
    if not scale:
        return np.zeros(array.shape, np.int16), scale, low
    steps = (np.clip(array, low, high).astype(np.result_type(array, np.float32)) - low) / scale
    codes = (np.rint(steps) - 32768).clip(-32768, 32767).astype(np.int16)
    return codes, scale, low + 32768 * scale


arrays = st.tuples(
    st.one_of(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.just([1, 20, 30])),
    st.sampled_from(["f2", "f4", "f8", ">f4", "i2", "u2", "i4", "u4"]),
    st.sampled_from([0, 3, 100, 30_000]),
    st.booleans(),
    st.integers(0, 1000),
)


def array_of(shape, kind, spread, outlier, seed):
    values = np.random.default_rng(seed).normal(0.3, 1, shape) * spread
    values = np.abs(values) if kind[0] == "u" else values
    values.reshape(-1)[0] = 60_000.5 if outlier and kind not in ("f2", "i2") else values.reshape(-1)[0]
    return values.clip(-32_000, 60_000.5 if kind != "i2" else 32_000).astype(kind)


@settings(deadline=None, max_examples=150)
@given(arrays, st.sampled_from(["C", "F", "reversed"]))
def test_slabs_make_the_codes_of_the_whole_array(drawn, layout):
    array = array_of(*drawn)
    array = np.asfortranarray(array) if layout == "F" else array[::-1] if layout == "reversed" else array
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "SLAB_VOXELS", 16)
        found = encode(array)
    codes, scale, offset = encoded_at_once(array)
    np.testing.assert_array_equal(found.codes, codes)
    assert (found.scale, found.offset) == (scale, offset)
    assert found.codes.flags.c_contiguous


@few
@given(arrays, st.lists(st.floats(0, 100), min_size=1, max_size=3))
def test_percentiles_are_numpys(drawn, percents):
    array = array_of(*drawn).astype(np.promote_types(drawn[1], np.float32))
    assert percentiles(array, percents) == [float(v) for v in np.percentile(array, percents)]


@pytest.mark.parametrize("outlier", [0.5, 1e9])
def test_memory_is_that_of_the_codes_and_a_few_slabs(outlier):
    array = np.random.default_rng(0).random((1, 96, 128, 128)).astype(np.float32)
    array[0, 0, 0, 0] = outlier
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "SLAB_VOXELS", 1 << 14)
        tracemalloc.start()
        codes = encode(array).codes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < codes.nbytes + 0.5 * array.nbytes  # 3 times the array where it is done at once


def test_hot_spots_that_a_window_shows_do_not_saturate():
    """A whole body in PET: nearly nothing is hot, and the hottest is what is looked for."""
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, 0.3, (1, 64, 64, 50)).astype(np.float32)
    values[0, :6, :6, :20] = rng.uniform(10, 40, (6, 6, 20))  # 0.35 % of it
    values[0, 60, 60, 40] = 80.0
    encoded = encode(values)
    shown = np.percentile(values, 99.9)
    assert shown > 20
    decoded = encoded.codes * encoded.scale + encoded.offset
    hot = (values > 5) & (values <= shown)
    assert np.abs(decoded - values)[hot].max() <= encoded.scale
    assert encoded.scale < 80 / 60000  # whole numbers of levels are left to the rest


@pytest.mark.parametrize("hot", [1e6, 1e9, -1e9])
def test_voxels_that_a_division_by_zero_left_cost_the_rest_no_levels(hot):
    """As in maps of diffusion or perfusion."""
    values = np.random.default_rng(0).normal(100, 20, (1, 64, 64, 64)).astype(np.float32)
    values.reshape(-1)[::1000] = hot
    encoded = encode(values)
    assert len(np.unique(encoded.codes)) > 20_000
