"""The agreement loss against a slow loop."""

import math

import torch

from foveate.losses.agreement import symmetric_cosine


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
