"""Calibration against loops and against a temperature that is known."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from foveate.scoring import calibration as cal
from foveate.scoring.members.shares import LEVELS


def slow_ece(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (b == 0 and c == 0)]
        if inside:
            gap = np.mean([confidence[i] for i in inside]) - np.mean([correct[i] for i in inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_oracle_ece_is_the_loop_over_bins(bins):
    rng = np.random.default_rng(bins)
    confidence = np.r_[rng.random(80), 0, 1, 0.25, 0.5]
    correct = rng.random(84) < confidence**2
    assert cal.expected_calibration_error(confidence, correct, bins) == pytest.approx(
        slow_ece(confidence, correct, bins)
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_oracle_temperature_recovers_the_one_that_made_the_labels(kind):
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20000, 3)) * 2
    if kind == "softmax":
        labels = (softmax(honest, 1).cumsum(1) < rng.random((20000, 1))).sum(1).astype(float)
    else:
        labels = (rng.random(honest.shape) < 1 / (1 + np.exp(-honest))).astype(float)
    labels[:50] = np.nan
    logits = honest * 3
    found = cal.fit_temperature(logits, labels, kind)
    assert found == pytest.approx(3, rel=0.05)
    before, after = (
        cal.calibration_error(cal.probabilities(logits, kind, t), labels, kind) for t in (1.0, found)
    )
    assert after < 0.02 < before


def test_oracle_likelihood_against_sklearn():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(40, 3)), np.r_[0, 1, 2, rng.integers(0, 3, 37)].astype(float)
    expected = log_loss(labels, softmax(logits / 1.7, 1))
    assert cal.negative_log_likelihood(logits, labels, "softmax", 1.7) == pytest.approx(expected)


def test_contract_temperature_without_labels_or_with_perfect_ones_stays_finite():
    logits = np.array([[5.0, -5.0], [-5.0, 5.0]])
    assert cal.fit_temperature(logits, np.array([np.nan, -1]), "softmax") == 1.0
    assert 0.05 <= cal.fit_temperature(logits, np.array([0, 1]), "softmax") < 0.5  # NLL is 0 below


def test_oracle_the_error_of_masks_counts_foreground_only():
    """9 of 10 sure and 7 of 10 right, whatever the background is."""
    sure, shape = round(0.9 * LEVELS), (10, 30)
    levels = np.zeros((3, *shape), np.uint16)
    levels[0], levels[1, :, :10], levels[0, :, :10] = LEVELS, sure, LEVELS - sure
    truth = {1: np.zeros(shape, bool), 2: np.zeros(shape, bool)}
    truth[1][:7, :10] = truth[2][7, :10] = True  # and nothing in the last two rows
    predicted = {k: levels.argmax(0) == k for k in truth}
    known = np.ones(shape, bool)
    error = cal.foreground_error(levels, predicted, truth, known, "softmax")
    assert error == pytest.approx(0.2, abs=1e-4)
    known[7:, :10] = False
    assert cal.foreground_error(levels, predicted, truth, known, "softmax") == pytest.approx(0.1, abs=1e-4)
    nothing = {k: np.zeros(shape, bool) for k in truth}
    assert np.isnan(cal.foreground_error(levels, nothing, nothing, known, "softmax"))
    assert np.isnan(cal.foreground_error(levels, nothing, nothing, known, "sigmoid"))


def test_oracle_the_error_of_overlapping_masks_is_that_of_every_class():
    levels = np.zeros((2, 40), np.uint16)
    levels[0, :20], levels[1, :10] = round(0.8 * LEVELS), round(0.6 * LEVELS)
    truth = {0: np.arange(40) < 10, 1: np.arange(40) < 6}
    predicted = {k: levels[k] > 0 for k in truth}
    shares = [0.8] * 20 + [0.6] * 10
    labels = [1] * 10 + [0] * 10 + [1] * 6 + [0] * 4
    error = cal.foreground_error(levels, predicted, truth, np.ones(40, bool), "sigmoid")
    assert error == pytest.approx(slow_ece(shares, labels, 15), abs=1e-4)
    assert error > 0.1
