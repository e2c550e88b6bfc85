"""Walls of boxes as distributions along an axis: where they are seen, and how far from where they are.

An axis of N cells reaches from -0.5 to N - 0.5, and so do the places of N logits along it: the first stands
for one rim and the last for the other, so that a box may fill the whole image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.losses.classification import masked_mean

HALF = 0.5  # a cell reaches so far beyond its middle
NEAR = 2  # places on either side of a peak


def places(cells: int, like: Tensor) -> Tensor:
    """Where the logits of an axis stand, (N,), in cells."""
    return torch.linspace(-HALF, cells - HALF, cells, device=like.device, dtype=like.dtype)


def wall_means(logits: Tensor) -> Tensor:
    """The mean place of distributions (..., N) along an axis, in cells: (...)."""
    return (logits.softmax(-1) * places(logits.shape[-1], logits)).sum(-1)


def walls_found(logits: Tensor) -> Tensor:
    """Where distributions (..., N) put walls, in cells (...): the mean within `NEAR` places of the peak.

    The mean of all of an axis is drawn to its middle wherever the distribution is not sharp.

    >>> walls_found(torch.tensor([9.0, 0, 0, 0, 0, 0, 0, 0])) < 0
    tensor(True)
    """
    chances, cells = logits.softmax(-1), logits.shape[-1]
    away = torch.arange(cells, device=logits.device) - chances.argmax(-1, keepdim=True)
    near = chances * (away.abs() <= NEAR)
    return (near * places(cells, logits)).sum(-1) / near.sum(-1)


def wall_losses(logits: Tensor, walls: Tensor, there: Tensor) -> Tensor:
    """Cross-entropy of (B, K, 2, N) with walls (B, K, 2) in cells, each shared by the two nearest places.

    Organs that are not there, 0 in (B, K), have no part in the mean.
    """
    cells = logits.shape[-1]
    at = ((walls + HALF) * (cells - 1) / cells).clamp(0, cells - 1)
    lower = at.floor().clamp_max(cells - 2)
    share = (at - lower)[..., None]
    said = logits.log_softmax(-1)
    index = lower.long()[..., None]
    found = (1 - share) * said.gather(-1, index) + share * said.gather(-1, index + 1)
    return masked_mean(-found[..., 0].mean(-1), there)


def wall_distances(logits: Tensor, walls: Tensor, there: Tensor) -> Tensor:
    """The distance between walls (B, K, 2) and the means of (B, K, 2, N), as a share of the axis."""
    away = (wall_means(logits) - walls).abs().mean(-1) / logits.shape[-1]
    return masked_mean(away, there)
