"""Masked losses of whole images against the plain ones on what is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from foveate.losses.classification import exclusive_loss, independent_loss, regression_loss

NAN = math.nan


def test_exclusive_is_torchs_weighted_mean_over_known_images():
    torch.manual_seed(0)
    logits, weights = torch.randn(5, 3), torch.tensor([1.0, 2.0, 5.0])
    labels = torch.tensor([0.0, 2.0, NAN, 1.0, 2.0])
    known = [0, 1, 3, 4]
    expected = F.cross_entropy(logits[known], labels[known].long(), weight=weights)
    assert exclusive_loss(logits, labels, weights).item() == pytest.approx(expected.item(), abs=1e-6)


def test_independent_weighs_positives_and_skips_missing_ones():
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.1]])
    labels = torch.tensor([[1.0, NAN], [0.0, 1.0]])
    weights = torch.tensor([3.0, 7.0])
    terms = [(3.0, -math.log(1 / (1 + math.exp(-0.3)))), (1.0, math.log(1 + math.exp(2.0)))]
    terms.append((7.0, -math.log(1 / (1 + math.exp(-0.1)))))
    expected = sum(w * v for w, v in terms) / sum(w for w, _ in terms)
    assert independent_loss(logits, labels, weights).item() == pytest.approx(expected, abs=1e-6)


def test_regression_is_smooth_l1_of_what_is_known():
    values, labels = torch.tensor([[0.2, 3.0]]), torch.tensor([[0.0, NAN]])
    assert regression_loss(values, labels).item() == pytest.approx(0.5 * 0.2**2, abs=1e-7)


def test_nothing_known_is_zero_with_a_gradient_of_zero():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = exclusive_loss(logits, torch.full((2,), NAN), torch.ones(3))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 3))
