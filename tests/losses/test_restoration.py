"""Errors of a restored image against slow loops."""

import numpy as np
import pytest
import torch

from foveate.losses.restoration import restoration_error

SLOW = {
    "l2": lambda e: e * e,
    "l1": abs,
    "huber": lambda e: 0.5 * e * e if abs(e) < 1 else abs(e) - 0.5,
}


@pytest.mark.parametrize("error", SLOW)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_weighted_mean_over_voxels(error, weighted):
    rng = np.random.default_rng(0)
    restored, clean = rng.normal(size=(2, 2, 3, 4, 5)) * 2
    weights = rng.uniform(0.5, 2, size=(2, 4, 5)) if weighted else np.ones((2, 4, 5))
    total = sum(
        weights[b, x, y] * SLOW[error](restored[b, c, x, y] - clean[b, c, x, y])
        for b, c, x, y in np.ndindex(2, 3, 4, 5)
    )
    given = torch.from_numpy(weights) if weighted else None
    found = restoration_error(torch.from_numpy(restored), torch.from_numpy(clean), error, given)
    assert found.item() == pytest.approx(total / (3 * weights.sum()), rel=1e-12)


def test_equal_weights_change_nothing_and_equal_images_cost_nothing():
    a, b = torch.rand(2, 2, 1, 6, 6, dtype=torch.float64)
    plain = restoration_error(a, b)
    assert restoration_error(a, b, "l2", torch.full((2, 6, 6), 3.0)).item() == pytest.approx(plain.item())
    assert restoration_error(a, a, "l1").item() == 0
