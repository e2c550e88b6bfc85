"""Probabilities of one network, or the mean of those of several that answered side by side."""

from __future__ import annotations

from torch import Tensor

LEVELS = 65535  # of a stored probability


def member_shares(logits: Tensor, members: int, *, exclusive: bool) -> Tensor:
    """Logits (M * K, *S) of members side by side as their probabilities (M, K, *S)."""
    apart = logits.reshape(members, -1, *logits.shape[1:])
    return apart.softmax(1) if exclusive else apart.sigmoid()


def mean_of(shares: Tensor) -> Tensor:
    """The mean (K, *S) of members (M, K, *S): a running one, so that equal members give exactly that."""
    mean, *others = shares.unbind()
    for count, each in enumerate(others, 2):
        mean = mean + (each - mean) / count
    return mean


def levels_of(shares: Tensor) -> Tensor:
    """Probabilities as whole numbers, for want of unsigned ones as int32."""
    return shares.mul(LEVELS).round_().int()
