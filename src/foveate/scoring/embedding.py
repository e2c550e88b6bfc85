"""How embeddings lie on the sphere: label-free signs of what a network tells apart.

Rows are samples. `first` and `second` are the embeddings of two views, row by row of the same sample.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROUND_OFF = 1e-4  # of the length of all rows: a shorter axis is round-off, not a direction


def relative_std(rows: Tensor) -> float:
    """Standard deviation of the L2-normalised rows against 1/sqrt(C), that of directions spread evenly.

    >>> relative_std(torch.ones(4, 8))
    0.0
    """
    unit = F.normalize(rows, dim=1)
    return float((unit - unit.mean(0)).square().mean().sqrt() * rows.shape[1] ** 0.5)


def effective_rank(rows: Tensor) -> float:
    """Exponential of the entropy of the singular values of the centred rows; 1 where all rows are equal.

    >>> effective_rank(torch.ones(4, 8))
    1.0
    """
    values = torch.linalg.svdvals((rows - rows.mean(0)).double())
    values = values[values > ROUND_OFF * rows.double().norm()]
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum())) if len(values) else 1.0


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of the two views of a sample on the unit sphere, from 0 to 4."""
    return float((F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean())


def uniformity(rows: Tensor, sharpness: float = 2.0) -> float:
    """Logarithm of the mean Gaussian potential of all pairs on the unit sphere; 0 where all are equal."""
    squared = torch.pdist(F.normalize(rows.double(), dim=1)).square()
    return float(torch.exp(-sharpness * squared).mean().log())


def similarity_gap(first: Tensor, second: Tensor) -> float:
    """Mean cosine of the two views of a sample, less that of views of two samples."""
    cosines = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T  # (B, B)
    own, count = cosines.diagonal().sum(), len(cosines)
    return float(own / count - (cosines.sum() - own) / (count * (count - 1)))


def describe(first: Tensor, second: Tensor | None) -> dict[str, float]:
    """All measures by name; without a second view those of one view."""
    both = first if second is None else torch.cat((first, second))
    if not torch.isfinite(both).all():
        return {"std": math.nan}
    found = {
        "std": relative_std(both),
        "rank": effective_rank(first),
        "uniformity": uniformity(first),
    }
    if second is not None:
        found |= {"alignment": alignment(first, second), "gap": similarity_gap(first, second)}
    return found
