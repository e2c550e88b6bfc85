"""The agreement loss against a slow loop."""

import math

import numpy as np
import pytest
import torch

from foveate.losses.agreement import normalised_error, symmetric_cosine


def slow_cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))


def test_equals_a_slow_loop():
    torch.manual_seed(0)
    p_a, z_a, p_b, z_b = torch.randn(4, 5, 7, dtype=torch.float64)
    rows = range(5)
    first = sum(slow_cosine(p_a[i].tolist(), z_b[i].tolist()) for i in rows) / 5
    second = sum(slow_cosine(p_b[i].tolist(), z_a[i].tolist()) for i in rows) / 5
    found = symmetric_cosine((p_a, z_a), (p_b, z_b)).item()
    assert abs(found + 0.5 * (first + second)) < 1e-12


def test_equal_embeddings_agree_fully_and_opposite_ones_not_at_all():
    x = torch.randn(3, 4)
    assert torch.isclose(symmetric_cosine((x, x), (x, x)), torch.tensor(-1.0))
    assert torch.isclose(symmetric_cosine((x, x), (-x, -x)), torch.tensor(1.0))


def test_gradient_stops_at_the_targets_unless_told_otherwise():
    for stop in (True, False):
        p, z = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
        symmetric_cosine((p, z), (torch.randn(3, 4), torch.randn(3, 4)), stop_gradient=stop).backward()
        assert p.grad is not None
        assert (z.grad is None) is stop


@pytest.mark.parametrize("shape", [(), (4, 3), (3, 2, 4)])
def test_normalised_error_is_the_slow_loop(shape):
    torch.manual_seed(0)
    p, z = torch.randn(2, 3, 5, *shape, dtype=torch.float64)
    where = torch.rand(3, *shape) < 0.6
    total, count = 0.0, 0
    for b, *place in np.ndindex(3, *shape):
        if where[(b, *place)]:
            a, t = (x[(b, slice(None), *place)].numpy() for x in (p, z))
            total += 2 - 2 * (a @ t) / np.linalg.norm(a) / np.linalg.norm(t)
            count += 1
    assert normalised_error(p, z, where).item() == pytest.approx(total / count)
    everywhere = torch.ones_like(where)
    assert normalised_error(p, z).item() == pytest.approx(normalised_error(p, z, everywhere).item())


def test_normalised_error_of_equal_maps_is_0_of_opposite_ones_4_and_of_no_cell_0():
    maps = torch.randn(2, 6, 4, 4)
    assert normalised_error(maps, 3 * maps).item() == pytest.approx(0, abs=1e-12)
    assert normalised_error(maps, maps).item() == 0
    assert normalised_error(maps, -maps).item() == pytest.approx(4)
    guess = maps.clone().requires_grad_()
    none = normalised_error(guess, -maps, torch.zeros(2, 4, 4, dtype=torch.bool))
    none.backward()
    assert none.item() == 0
    assert not guess.grad.any()


def test_no_gradient_goes_through_the_target_of_the_normalised_error():
    p, z = (torch.randn(3, 5, requires_grad=True) for _ in range(2))
    normalised_error(p, z).backward()
    assert p.grad.abs().sum() > 0
    assert z.grad is None
