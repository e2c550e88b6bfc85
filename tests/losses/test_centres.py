"""What a detector's map should say, against a loop over cells; its losses against the formula."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.tasks import IGNORED
from foveate.core.boxes.views import as_rows
from foveate.losses.centres import INNER, LEAST_SIGMA, SHARE, distance_loss, heat_loss, targets_of


@pytest.mark.parametrize("n", [2, 3])
def test_targets_are_those_of_a_loop_over_cells(n):
    grid, rng = (9, 8, 7)[:n], np.random.default_rng(n)
    views = []
    for count in (3, 0, 2):
        centre = rng.uniform(1, 6, (count, n))
        centre[:1] = 3.5  # half way between cells: one of them is the nearest
        views.append(Boxes.of(centre, rng.uniform(0.6, 5, (count, n)), rng.integers(-1, 2, count), axes=n))
    rows = as_rows(views, grid)
    found = targets_of(*(rows[name] for name in ("centre", "size", "label", "whole")), grid, 2)
    for r, boxes in enumerate(views):
        for cell in product(*map(range, grid)):
            heat, hidden, best = [0.0, 0.0], False, (math.inf, None)
            for low, high, centre, size, label in zip(
                boxes.low, boxes.high, boxes.centre, boxes.size, boxes.label, strict=True
            ):
                away = centre - np.array(cell)
                whole = all(a > -0.5 and b < g - 0.5 for a, b, g in zip(low, high, grid, strict=True))
                if label == IGNORED or not whole:
                    hidden |= bool((np.abs(away) <= size / 2 + 0.5).all())
                    continue
                nearest = tuple(math.ceil(c - 0.5) for c in centre) == cell
                sigma = np.maximum(size * SHARE, LEAST_SIGMA)
                peak = 1.0 if nearest else min(0.999, math.exp(-((away / sigma) ** 2).sum() / 2))
                heat[label] = max(heat[label], peak)
                depth = math.sqrt(((away / (size / 2)) ** 2).sum())
                if (depth <= INNER or nearest) and depth < best[0]:
                    best = (depth, (away, np.log(size)))
            at = (r, slice(None), *cell)
            np.testing.assert_allclose(found.heat[at], heat, atol=1e-5)
            assert found.counts[at].item() == (not hidden or max(heat) >= 1)
            assert found.near[at].item() == math.isfinite(best[0])
            if best[1]:
                np.testing.assert_allclose(found.offset[at], best[1][0], atol=1e-5)
                np.testing.assert_allclose(found.size[at], best[1][1], atol=1e-5)


def test_losses_are_their_formulas():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(2, 1, 4)), rng.choice([0, 0.5, 1], (2, 1, 4))
    counts = rng.integers(0, 2, (2, 1, 4))
    p = 1 / (1 + np.exp(-logits))
    at, off = -((1 - p) ** 2) * np.log(p), -((1 - target) ** 4) * p**2 * np.log(1 - p)
    wanted = (np.where(target == 1, at, off) * counts).sum() / max(1, ((target == 1) * counts).sum())
    found = heat_loss(*(torch.tensor(each, dtype=torch.float32) for each in (logits, target, counts)))
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    apart = distance_loss(
        torch.tensor([[[1.0, 5, 9]]]), torch.tensor([[[2.0, 5, 4]]]), torch.tensor([[[1.0, 1, 0]]])
    )
    assert apart.item() == 0.5
    assert distance_loss(torch.ones(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 1, 3)).item() == 0
