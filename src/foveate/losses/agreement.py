"""Agreement of two embeddings."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def single(rows: Tensor) -> Tensor:
    """The same in float32 at least: a sum of squares in bfloat16 is none."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def symmetric_cosine(
    first: tuple[Tensor, ...], second: tuple[Tensor, ...], *, stop_gradient: bool = True
) -> Tensor:
    """Negative cosine between each prediction and the other projection, both ways, in [-1, 1].

    Args:
        first: Prediction and projection of one view, each (B, C).
        second: The same of the other view.
        stop_gradient: Whether the projections are targets only. Without it the embeddings collapse.
    """
    (p_a, z_a), (p_b, z_b) = (tuple(map(single, rows)) for rows in (first, second))
    if stop_gradient:
        z_a, z_b = z_a.detach(), z_b.detach()
    both = F.cosine_similarity(p_a, z_b, dim=1) + F.cosine_similarity(p_b, z_a, dim=1)
    return -0.5 * both.mean()


def normalised_error(prediction: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """Squared distance of unit vectors, 2 - 2 cos, averaged: BYOL's regression, PGL's at every cell.

    Args:
        prediction: (B, C) or (B, C, *S).
        target: the same shape; no gradient goes through it.
        where: (B, *S), true where cells count; a batch without any has error 0.
    """
    a, b = (F.normalize(single(x), dim=1) for x in (prediction, target.detach()))
    errors = (a - b).square().sum(1)
    if where is None:
        return errors.mean()
    return (errors * where).sum() / where.sum().clamp_min(1)


def spread_shortfall(rows: Tensor) -> Tensor:
    """How far the standard deviations of channels over rows (B, E) fall short of 1, averaged: VICReg's v.

    Of `losses.gather.joined` rows, or a process sees the spread of its own share of the batch only.
    """
    return F.relu(1 - (rows.var(0) + 1e-4).sqrt()).mean()


def off_covariance(rows: Tensor) -> Tensor:
    """Squared covariances of different channels over rows (B, E), summed, over E: VICReg's c."""
    with torch.autocast(rows.device.type, enabled=False):
        centred = rows - rows.mean(0)
        covariance = centred.mT @ centred / (len(rows) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / rows.shape[1]


def mean(values: Iterable[Tensor]) -> Tensor:
    """Of scalar losses."""
    return torch.stack(list(values)).mean()
