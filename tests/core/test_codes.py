"""Stored numbers read the same whether they are turned into values first or last."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from foveate.core.codes import FINE, Codes
from foveate.views import geometry as g
from foveate.views.low_pass import block_sums, summed


@st.composite
def windows(draw):
    """Codes of every type that a cache has, some beyond the ends of their window."""
    kind = draw(st.sampled_from([np.uint8, np.int16, np.float32]))
    limits = (-2.0, 3.0) if kind is np.float32 else (np.iinfo(kind).min, np.iinfo(kind).max)
    ends = draw(
        st.tuples(st.floats(*limits), st.floats(*limits)).filter(lambda pair: abs(pair[0] - pair[1]) > 0.01)
    )
    if draw(st.booleans()):
        ends = tuple(map(round, ends)) if round(ends[0]) != round(ends[1]) else limits
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 17)), draw(st.integers(1, 14)))
    return Codes(rng.uniform(*limits, shape).astype(kind), *sorted(ends))


def turned(high, grid, angle, low=None):
    """The affine (1, n, n+1) of a view of a box."""
    n = len(grid)
    flips, angles = (True, False, False)[:n], (angle,) * (n * (n - 1) // 2)
    turns = {"flips": flips, "angles_degrees": angles, "zooms": (1.0,) * n, "spacing_mm": (1.0,) * n}
    return g.view_affine(low or (0,) * n, high, grid, **turns)[None]


def looped_values(codes):
    values = [
        min(max((x - codes.zero) / (codes.one - codes.zero), 0), 1) for x in codes.array.ravel().tolist()
    ]
    return np.array(values, float).reshape(codes.shape)


def read(stored, steps, window):
    """Sums as the values of what they are sums of."""
    blocks = [-(-size // step) for size, step in zip(window.shape[1:], steps, strict=True)]
    assert stored.sums.shape[1:] == tuple(blocks)
    return (stored.sums.double().numpy() - stored.zero) * stored.unit * np.prod(steps)


@settings(max_examples=200, deadline=None)
@given(windows(), st.floats(0, 0.999))
def test_property_values_and_shares_are_those_of_a_loop(codes, threshold):
    expected = looped_values(codes)
    assert codes.values().dtype == np.float32
    spread = max(1, np.abs(codes.array.astype(float)).max() / (codes.one - codes.zero))
    assert np.abs(codes.values() - expected).max() < 1e-6 * spread
    raw = (codes.array.astype(float) - codes.zero) / (codes.one - codes.zero)
    unsure = np.mean(np.abs(raw - threshold) < 1e-6 * spread)  # rounding decides
    assert abs(codes.share_above(threshold) - np.mean(expected > threshold)) <= unsure
    part = codes.part((0, 0), (1, 1))
    assert np.array_equal(part.values(), codes.values()[:, :1, :1])


@settings(max_examples=200, deadline=None)
@given(windows(), st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_property_sums_of_codes_read_as_sums_of_values(codes, steps):
    """Clipped before they are added, not after: a block at the edge of bone keeps the rest of the block."""
    found = read(summed(codes, steps), steps, codes)
    expected = block_sums(looped_values(codes), steps)
    spread = max(1, np.abs(codes.array.astype(float)).max() / (codes.one - codes.zero))
    whole = codes.array.dtype.kind != "f" and (codes.zero, codes.one) == (round(codes.zero), round(codes.one))
    allowed = 1e-6 if whole else 2e-6 * spread + 1 / FINE  # an end between two codes may be rounded
    assert np.abs(found - expected).max() <= np.prod(steps) * allowed
    again = read(summed(codes.addable(), steps), steps, codes)
    assert np.array_equal(again, found)


@pytest.mark.parametrize("noise", [-1e-10, 0.0, 1e-10])
def test_a_threshold_on_a_code_leaves_out_that_code_whatever_rounding_does(noise):
    """A scale and an offset in floating point put the low end beside the code that it is."""
    background = np.full((1, 4, 4), -32768, np.int16)
    assert Codes(background, -32768 + noise, 32767.0).share_above(0.0) == 0
    percents = np.arange(100, dtype=np.uint8).reshape(1, 10, 10)
    for percent in range(100):
        assert Codes(percents, noise, 100.0).share_above(percent / 100) == (99 - percent) / 100


@pytest.mark.parametrize("width", [50, 255])
def test_narrow_windows_far_from_zero_are_as_exact_as_others(width):
    rng = np.random.default_rng(0)
    for zero in (-32768, 32000):
        codes = Codes(rng.integers(zero, zero + width, (1, 90, 80)).astype(np.int16), zero, zero + width)
        affine = turned((90, 80), (30, 25), 7.0)
        views = [
            g.sample_views([each], affine, (30, 25)) for each in (codes, torch.from_numpy(codes.values()))
        ]
        assert (views[0] - views[1]).abs().max() < 1e-6


def test_whole_ends_are_exact_and_coarse_codes_between_two_are_not_rounded():
    levels = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    assert read(summed(Codes(levels, 1, 2), (2, 2)), (2, 2), levels).item() == 2.0
    beyond = Codes(levels, 300, 400)
    assert read(summed(beyond, (1, 2)), (1, 2), levels).max() == 0
    between = read(summed(Codes(levels, 0.5, 2.5), (2, 2)), (2, 2), levels).item()
    assert between == pytest.approx(0.25 + 0.75 + 1)


@pytest.mark.parametrize("kind", [np.uint8, np.int16])
@pytest.mark.parametrize("steps", [(1, 1), (7, 5), (17, 16)])
def test_sums_of_the_largest_codes_do_not_overflow(kind, steps):
    for end in (np.iinfo(kind).min, np.iinfo(kind).max):
        image = np.full((1, 17, 16), end, kind)
        assert (block_sums(image, steps) == int(end) * steps[0] * steps[1]).all()


@pytest.mark.parametrize("shrink", [0.8, 1.7, 3.1, 4.4])
@pytest.mark.parametrize("angle", [0.0, 7.0])
@pytest.mark.parametrize("n", [2, 3])
def test_views_of_codes_are_views_of_their_values(n, angle, shrink):
    """Stored with an offset, and with both ends inside what occurs."""
    array = np.random.default_rng(0).integers(-1400, 1800, (1, *(50, 61, 43)[:n])).astype(np.int16)
    before, codes = array.copy(), Codes(array, -1000.0, 1000.0)
    grid = tuple(int(size / shrink) for size in (50, 57, 43)[:n])
    affine = turned((46, 60, 43)[:n], grid, angle, low=(-4, 3, 0)[:n])
    values = torch.from_numpy(codes.values())
    found, expected = (g.sample_views([each], affine, grid) for each in (codes, values))
    assert (found - expected).abs().max() < 1e-6
    assert (expected == 0).any()  # beyond the image
    assert np.array_equal(array, before)  # nothing is done in place
