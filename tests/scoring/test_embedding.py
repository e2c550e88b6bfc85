"""Measures of embeddings against slow loops, closed forms and NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from foveate.scoring import embedding


def rows(count, channels, seed=0):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


def test_isotropic_gaussian_is_spread_evenly():
    x = rows(4000, 16)
    assert embedding.relative_std(x) == pytest.approx(1.0, abs=0.01)
    assert embedding.effective_rank(x) == pytest.approx(16, abs=0.1)
    # log E exp(-2 |u - v|^2) for u, v on the sphere in 16 dimensions, by the density of their cosine
    t = np.linspace(-1, 1, 20001)
    density = (1 - t**2) ** ((16 - 3) / 2)
    wanted = math.log(np.sum(np.exp(-4 * (1 - t)) * density) / np.sum(density))
    assert embedding.uniformity(x) == pytest.approx(wanted, abs=0.02)


def test_rank_one_embeddings_have_rank_one():
    x = rows(20, 1) @ rows(1, 8, seed=1)
    assert embedding.effective_rank(x) == pytest.approx(1.0, abs=1e-3)
    signs = (x @ x[0] > 0).sum().item()
    same = signs * (signs - 1) / 2 + (20 - signs) * (19 - signs) / 2
    wanted = math.log((same + (190 - same) * math.exp(-8)) / 190)
    assert embedding.uniformity(x) == pytest.approx(wanted, abs=1e-4)


def test_equal_rows_are_a_collapse_in_every_measure():
    x = torch.full((10, 6), 0.3) + 1e-7 * rows(10, 6)
    assert embedding.relative_std(x) < 1e-5
    assert embedding.effective_rank(x) == 1.0  # round-off is no direction
    assert embedding.uniformity(x) == pytest.approx(0.0, abs=1e-6)
    assert embedding.similarity_gap(x, x) == pytest.approx(0.0, abs=1e-5)


def test_two_opposite_clusters():
    sign = torch.tensor([1.0, -1.0]).repeat(8)
    x = sign[:, None] * torch.ones(16, 4)
    assert embedding.relative_std(x) == pytest.approx(1.0)
    assert embedding.effective_rank(x) == pytest.approx(1.0, abs=1e-6)
    assert embedding.uniformity(x) == pytest.approx(math.log((56 + 64 * math.exp(-8)) / 120), abs=1e-6)
    assert embedding.alignment(x, x) == 0
    assert embedding.similarity_gap(x, x) == pytest.approx(1 - (7 - 8) / 15, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(1, 7), st.integers(0, 99))
def test_measures_equal_slow_loops(count, channels, seed):
    a, b = rows(count, channels, seed).double().numpy(), rows(count, channels, seed + 100).double().numpy()
    ua, ub = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    first, second = torch.from_numpy(a), torch.from_numpy(b)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    potential = np.mean([math.exp(-2 * np.sum((ua[i] - ua[j]) ** 2)) for i, j in pairs])
    assert embedding.uniformity(first) == pytest.approx(math.log(potential), abs=1e-6)
    distance = np.mean([np.sum((ua[i] - ub[i]) ** 2) for i in range(count)])
    assert embedding.alignment(first, second) == pytest.approx(distance, abs=1e-6)
    own = np.mean([ua[i] @ ub[i] for i in range(count)])
    other = np.mean([ua[i] @ ub[j] for i in range(count) for j in range(count) if i != j])
    assert embedding.similarity_gap(first, second) == pytest.approx(own - other, abs=1e-6)
    variance = np.mean([np.var(ua[:, c]) for c in range(channels)])
    assert embedding.relative_std(first) == pytest.approx(math.sqrt(variance * channels), abs=1e-6)
    values = np.linalg.svd(a - a.mean(0), compute_uv=False)
    shares = values[values > 1e-4 * np.linalg.norm(a)]
    shares = shares / shares.sum()
    rank = math.exp(-np.sum(shares * np.log(shares)))
    assert embedding.effective_rank(first) == pytest.approx(rank, rel=1e-6)
