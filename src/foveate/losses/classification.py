"""Losses of whole images where some labels are missing (NaN): a missing one has no part in the mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean; 0, with a gradient of 0, where all weights are 0."""
    return (losses * weights).sum() / weights.sum().clamp_min(1e-12)


def exclusive_loss(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Cross-entropy of (B, K) against class numbers (B,), weighted by the true class."""
    known = ~labels.isnan()
    truth = torch.where(known, labels, 0).long()
    losses = F.cross_entropy(logits.float(), truth, reduction="none")
    return masked_mean(losses, known * class_weights[truth])


def independent_loss(logits: Tensor, labels: Tensor, positive_weights: Tensor) -> Tensor:
    """Binary cross-entropy of (B, K) against 0 and 1 (B, K); the positives of a finding weigh as said."""
    known = ~labels.isnan()
    truth = torch.where(known, labels, 0.0).float()
    losses = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return masked_mean(losses, known * torch.where(truth > 0, positive_weights, 1.0))


def regression_loss(values: Tensor, labels: Tensor) -> Tensor:
    """Smooth L1 of (B, K) against standardised targets (B, K)."""
    known = ~labels.isnan()
    truth = torch.where(known, labels, 0.0).float()
    return masked_mean(F.smooth_l1_loss(values.float(), truth, reduction="none"), known.float())


def class_weights(labels: Sequence[float], classes: int) -> list[float]:
    """The inverse frequency of every class, on average 1 over the labels; every class must occur.

    >>> class_weights([1, 0, 1], 2)
    [1.5, 0.75]
    """
    counts = Counter(labels)
    return [len(labels) / len(counts) / counts[k] for k in range(classes)]


def positive_weight(labels: Sequence[float]) -> float:
    """Negatives per positive of a finding, as if there was at least one of each.

    >>> positive_weight([0, 1, 0, 0])
    3.0
    """
    positives = max(1.0, sum(labels))
    return max(1.0, len(labels) - positives) / positives
