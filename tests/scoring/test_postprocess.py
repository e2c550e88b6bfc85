"""Components and holes against SciPy and against a flood fill."""

import numpy as np
import pytest
from scipy import ndimage

from foveate.scoring import postprocess


def noise(shape, seed, level=0.5):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.random(shape), 0.7) > level


@pytest.mark.parametrize("shape", [(17, 13), (9, 8, 7)])
@pytest.mark.parametrize("seed", range(4))
def test_oracle_holes_are_scipys(shape, seed):
    mask = noise(shape, seed)
    assert np.array_equal(postprocess.fill_holes(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("shape", [(17, 13), (9, 8, 7)])
@pytest.mark.parametrize("seed", range(4))
def test_oracle_largest_component_is_the_largest(shape, seed):
    mask = noise(shape, seed)
    numbers, count = ndimage.label(mask)
    sizes = [np.count_nonzero(numbers == i) for i in range(1, count + 1)]
    kept = postprocess.largest_component(mask)
    assert kept.sum() == max(sizes)
    assert ndimage.label(kept)[1] == 1
    assert not (kept & ~mask).any()


def test_contract_empty_stays_empty():
    empty = np.zeros((3, 4), bool)
    assert not postprocess.largest_component(empty).any()
    assert not postprocess.fill_holes(empty).any()


def test_contract_labels_lose_islands_and_holes_take_background_only():
    labels = np.zeros((9, 9), np.uint8)
    labels[1:8, 1:8] = 1
    labels[3:6, 3:6] = 0  # a hole of class 1 ...
    labels[4, 4] = 2  # ... with another class in it
    labels[0, 8] = 1  # an island
    tidy = postprocess.tidy_labels(labels.copy(), 2, largest=True, holes=True)
    assert tidy[0, 8] == 0
    assert tidy[4, 4] == 2
    assert (tidy[3:6, 3:6] == 1).sum() == 8
    assert np.array_equal(postprocess.tidy_labels(labels.copy(), 2, largest=False, holes=False), labels)
