"""Label maps are known by their values; images, even of few values, are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from foveate.data.readers.values import label_count

RNG = np.random.default_rng(0)
BLOCKS = np.kron(RNG.integers(0, 5, (1, 6, 6, 6)), np.ones((1, 5, 5, 5)))
GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
BALL = (GRID**2).sum(0)[None] < 0.5
SMOOTH = np.rint(255 * np.exp(-2 * (GRID**2).sum(0)))[None]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32])
@pytest.mark.parametrize("array", [BLOCKS, BALL, BALL[:, 20] * 255, BLOCKS * 1000])
def test_labels(array, dtype):
    if array.max() <= 255 or dtype != np.uint8:
        assert label_count(array.astype(dtype)) == len(np.unique(array))


@pytest.mark.parametrize(
    "array",
    [
        SMOOTH.astype(np.uint8),
        RNG.integers(0, 4, (1, 20, 20, 20)),
        np.where(BALL, RNG.integers(0, 200, BALL.shape), 0).astype(np.uint8),
        BLOCKS - 2,
        BLOCKS + 0.5,
        SMOOTH[:, 20].astype(np.uint8),
    ],
)
def test_images(array):
    assert label_count(array) == 0


def test_slow_loop_agrees_on_what_is_flat():
    array = BLOCKS.astype(np.uint8)[0]
    inside = equal = 0
    for index in np.ndindex(array.shape):
        for axis in range(3):
            other = tuple(i + (a == axis) for a, i in enumerate(index))
            if other[axis] < array.shape[axis] and array[index] and array[other]:
                inside += 1
                equal += array[index] == array[other]
    assert equal / inside > 0.7
    noisy = array.copy()
    noisy[array > 0] += (np.arange((array > 0).sum()) % 3).astype(np.uint8)
    assert label_count(noisy[None]) == 0


@pytest.mark.parametrize(("each", "most"), [(4, 32), (40, 256)])
def test_more_values_must_lie_in_flatter_regions_and_there_is_an_end_of_them(each, most):
    """Of `each` voxels beside each other: 3 of 4 neighbours are equal, or 39 of 40."""
    for count, found in ((most, most), (most + 1, 0)):
        assert label_count(np.repeat(np.arange(1, count + 1), each)[None]) == found
    assert label_count(np.zeros((1, 9), int)) == 0
