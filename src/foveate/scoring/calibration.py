"""Whether probabilities mean what they say, and the one number that mends it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from foveate.core.types import Array
from foveate.scoring.members.shares import LEVELS

BINS = 15
TEMPERATURES = (0.05, 20.0)  # a perfect validation set would ask for 0, one without signal for infinity
SMALLEST_SHARE = 1e-12  # a probability is held above, so that its logarithm exists
Kind = Literal["softmax", "sigmoid"]


def probabilities(logits: Array, kind: Kind, temperature: float = 1.0) -> Array:
    """Logits (N, K) as probabilities, after division by a temperature."""
    from scipy.special import expit, softmax

    scaled = np.asarray(logits, dtype=np.float64) / temperature
    answer: Array = softmax(scaled, axis=1) if kind == "softmax" else expit(scaled)
    return answer


def expected_calibration_error(confidence: Array, correct: Array, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over equally wide bins, weighted by their cases.

    Bins hold their upper end, and the first holds 0 too. NaN without a case.
    """
    confidence, correct = np.ravel(confidence).astype(np.float64), np.ravel(correct).astype(np.float64)
    if not confidence.size:
        return float("nan")
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / confidence.size)


def calibration_error(shares: Array, labels: Array, kind: Kind) -> float:
    """ECE of classifications: of the chosen class (softmax), or of every known yes-or-no label (sigmoid)."""
    shares, labels = np.asarray(shares), np.asarray(labels, dtype=np.float64)
    known = ~np.isnan(labels) & (np.nan_to_num(labels) >= 0)
    if kind == "sigmoid":
        return expected_calibration_error(shares[known], labels[known] > 0)
    shares, labels = shares[known], labels[known]
    if not len(shares):
        return float("nan")
    return expected_calibration_error(shares.max(1), shares.argmax(1) == labels)


def foreground_error(
    levels: Array, predicted: Mapping[int, Array], truth: Mapping[int, Array], known: Array, kind: Kind
) -> float:
    """ECE over the voxels of one image that are foreground in the answer or in truth.

    Where classes exclude each other, of the chosen class; else of every class, over the voxels that are its
    own in the answer or in truth. NaN without such a voxel.

    Args:
        levels: Probabilities (K, *S) as whole numbers up to `LEVELS`.
        predicted: Output -> the mask of the answer (*S).
        truth: The same in truth.
        known: Where the truth is known (*S).
        kind: Whether classes exclude each other.
    """
    wheres = {k: known & (predicted[k] | truth[k]) for k in truth}
    if kind == "sigmoid":
        shares = [levels[k][where] / LEVELS for k, where in wheres.items()]
        labels = [truth[k][where] for k, where in wheres.items()]
        return expected_calibration_error(np.concatenate(shares), np.concatenate(labels))
    where = np.any(list(wheres.values()), axis=0)
    inside = levels[:, where] / LEVELS
    true = np.zeros(inside.shape[1:], dtype=int)
    for k, mask in truth.items():
        true[mask[where]] = k
    if not inside.size:
        return math.nan
    return expected_calibration_error(inside.max(0), inside.argmax(0) == true)


def negative_log_likelihood(logits: Array, labels: Array, kind: Kind, temperature: float) -> float:
    """Mean over known labels; softmax labels (N,), sigmoid labels (N, K), NaN or negative: missing."""
    from scipy.special import log_expit, log_softmax

    labels = np.asarray(labels, dtype=np.float64)
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    known = ~np.isnan(labels) & (np.nan_to_num(labels) >= 0)
    if kind == "sigmoid":
        signs = np.where(labels > 0, 1.0, -1.0)
        return float(-log_expit(signs * scaled)[known].mean())
    rows = np.flatnonzero(known)
    return float(-log_softmax(scaled[rows], axis=1)[np.arange(rows.size), labels[rows].astype(int)].mean())


def fit_temperature(logits: Array, labels: Array, kind: Kind) -> float:
    """The temperature under which validation labels are likeliest, between 0.05 and 20.

    1.0 where no label is known. Dividing by a temperature never changes which class is chosen.
    """
    from scipy.optimize import minimize_scalar

    labels = np.asarray(labels, dtype=np.float64)
    if not (~np.isnan(labels) & (np.nan_to_num(labels, nan=-1.0) >= 0)).any():
        return 1.0
    ends = tuple(math.log(t) for t in TEMPERATURES)
    best = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, kind, math.exp(log_t)),
        bounds=ends,
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(math.exp(best.x))


def logits_of(shares: Array, kind: Kind) -> Array:
    """Logits that have these probabilities (up to a constant per row for softmax)."""
    held = np.clip(np.asarray(shares, dtype=np.float64), SMALLEST_SHARE, 1 - SMALLEST_SHARE)
    return np.asarray(np.log(held) if kind == "softmax" else np.log(held) - np.log1p(-held))


def calibrated(
    answers: Array, truth: Array, validation: Array, validation_truth: Array, kind: Kind
) -> dict[str, float]:
    """The temperature of some validation answers, and the calibration error of others before and after it."""
    temperature = fit_temperature(logits_of(validation, kind), validation_truth, kind)
    after = probabilities(logits_of(answers, kind), kind, temperature)
    return {
        "temperature": temperature,
        "cases": len(validation),
        "ece_before": calibration_error(answers, truth, kind),
        "ece_after": calibration_error(after, truth, kind),
    }
