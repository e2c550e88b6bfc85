"""Agreement of two embeddings."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def symmetric_cosine(
    first: tuple[Tensor, ...], second: tuple[Tensor, ...], *, stop_gradient: bool = True
) -> Tensor:
    """Negative cosine between each prediction and the other projection, both ways, in [-1, 1].

    Args:
        first: Prediction and projection of one view, each (B, C).
        second: The same of the other view.
        stop_gradient: Whether the projections are targets only. Without it the embeddings collapse.
    """
    (p_a, z_a), (p_b, z_b) = first, second
    if stop_gradient:
        z_a, z_b = z_a.detach(), z_b.detach()
    both = F.cosine_similarity(p_a, z_b, dim=1) + F.cosine_similarity(p_b, z_a, dim=1)
    return -0.5 * both.mean()


def mean(values: Iterable[Tensor]) -> Tensor:
    """Of scalar losses."""
    return torch.stack(list(values)).mean()
