"""Losses of a segmentation that compare regions: Dice and Tversky; focal, which compares voxels.

Predictions p and targets y are (B, K, *S) in [0, 1]. `known` (B, 1, *S) is how much a voxel counts: 0 where
nothing is known. Overlaps are summed over batch and space before they are divided, so that a class that
is absent from one crop does not dominate.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = (
    1.0  # voxels: a class that is neither there nor predicted has overlap 1, and its gradient stays finite
)


def dice_loss(predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """One minus the mean over classes of the soft Dice overlap 2|py| / (|p| + |y|)."""
    return tversky_loss(predicted, target, known, misses=0.5, false_alarms=0.5)


def tversky_loss(
    predicted: Tensor, target: Tensor, known: Tensor, *, misses: float, false_alarms: float
) -> Tensor:
    """One minus the mean over classes of |py| / (|py| + misses |y(1-p)| + false_alarms |p(1-y)|)."""
    axes = (0, *range(2, predicted.ndim))
    p, y = predicted.float() * known, target.float()
    hit = (p * y).sum(axes)
    missed, false = (y * known).sum(axes) - hit, p.sum(axes) - hit
    overlap = (2 * hit + SMOOTH) / (2 * hit + 2 * misses * missed + 2 * false_alarms * false + SMOOTH)
    return 1 - overlap.mean()


def voxel_loss(logits: Tensor, target: Tensor, known: Tensor, *, exclusive: bool, focus: float) -> Tensor:
    """Cross-entropy averaged over known voxels, times (1 - p of the truth)^focus; focus 0 is plain.

    Args:
        logits: (B, K, *S).
        target: (B, K, *S) of 0 and 1; one 1 per voxel where classes are exclusive.
        known: (B, 1, *S).
        exclusive: One softmax over classes, or a sigmoid for each.
        focus: The focal loss's gamma.
    """
    logits, y = logits.float(), target.float()
    if exclusive:
        log_truth = (logits.log_softmax(1) * y).sum(1, keepdim=True)
    else:
        log_truth = -F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    losses = -log_truth if focus == 0 else -((1 - log_truth.exp()) ** focus) * log_truth
    return (losses * known).sum() / (known.sum() * losses.shape[1]).clamp_min(1)


def one_hot(index: Tensor, classes: int) -> Tensor:
    """Class numbers (B, *S) as (B, K, *S) of 0 and 1."""
    return torch.movedim(F.one_hot(index, classes), -1, 1)
