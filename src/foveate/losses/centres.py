"""Losses of a detector that marks the centres of boxes: where centres are, how far off, how large boxes are.

Boxes come as rows for every view (`core.boxes.views`), in cells of the map that answers. A class has a heat
map that is 1 at the cell nearest to a centre and falls off around it as a Gaussian; sides and offsets are
learned in the inner half of a box. Cells of boxes that do not count, or go on beyond the rim, say nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

INNER = 0.5  # of the way from the middle to the rim: there sides and offsets are learned
SHARE = 1 / 6  # of a box's side: the Gaussian's sigma
LEAST_SIGMA = 0.6  # cells


class Targets(NamedTuple):
    """What a map of cells should say, for R views and K classes with n axes."""

    heat: Tensor  # (R, K, *S), 1 at centres
    counts: Tensor  # (R, 1, *S), 0 where nothing is known
    near: Tensor  # (R, 1, *S), 1 where sides and offsets are learned
    offset: Tensor  # (R, n, *S), cells from here to the centre
    size: Tensor  # (R, n, *S), logarithms of sides in cells


def targets_of(
    centre: Tensor, size: Tensor, label: Tensor, whole: Tensor, grid: tuple[int, ...], classes: int
) -> Targets:
    """Targets on a grid from rows (R, N, n), (R, N, n), (R, N) and (R, N); labels below 0 do not count."""
    rows, most, n = centre.shape
    axes = [torch.arange(cells, device=centre.device, dtype=torch.float32) for cells in grid]
    cells = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (n, *S)
    heat = centre.new_zeros((rows, classes, *grid), dtype=torch.float32)
    hidden = torch.zeros((rows, *grid), dtype=torch.bool, device=centre.device)
    least = torch.full((rows, *grid), torch.inf, device=centre.device)
    offset, sides = (centre.new_zeros((rows, n, *grid), dtype=torch.float32) for _ in range(2))
    spread = (slice(None), slice(None), *([None] * n))
    for i in range(most):
        middle, side = centre[:, i].float()[spread], size[:, i].float()[spread]
        taken = ((label[:, i] >= 0) & (whole[:, i] > 0))[(slice(None), *([None] * n))]
        there = (label[:, i] >= -1)[(slice(None), *([None] * n))]
        away = middle - cells  # (R, n, *S)
        depth = (away / (side / 2)).square().sum(1).sqrt()
        nearest = ((away > -0.5) & (away <= 0.5)).all(1)  # half way between two cells: the lower one
        hidden |= there & ~taken & ((away.abs() <= side / 2 + 0.5).all(1))
        sigma = (side * SHARE).clamp_min(LEAST_SIGMA)
        fall = torch.exp(-(away / sigma).square().sum(1) / 2)
        peak = torch.where(nearest, 1.0, fall.clamp_max(0.999)) * taken
        kind = label[:, i].clamp_min(0)
        index = torch.arange(rows, device=centre.device)
        heat[index, kind] = torch.maximum(heat[index, kind], peak)
        mine = taken & ((depth <= INNER) | nearest) & (depth < least)
        least = torch.where(mine, depth, least)
        offset = torch.where(mine[:, None], away, offset)
        sides = torch.where(mine[:, None], side.log().expand_as(away), sides)
    near = torch.isfinite(least)[:, None]
    counts = (~hidden[:, None] | (heat >= 1).any(1, keepdim=True)).float()
    return Targets(heat, counts, near.float(), offset, sides)


def heat_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Focal loss for heat maps (R, K, *S), summed over cells and divided by the number of centres.

    Cells near a centre count less the nearer they are: (1 - target)^4.
    """
    logits = logits.float()
    log_p, log_q = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    share = logits.sigmoid()
    is_centre = target >= 1
    at_centres = -((1 - share) ** 2) * log_p * is_centre
    elsewhere = -((1 - target) ** 4) * share**2 * log_q * ~is_centre
    return ((at_centres + elsewhere) * counts).sum() / (is_centre * counts).sum().clamp_min(1)


def distance_loss(found: Tensor, target: Tensor, near: Tensor) -> Tensor:
    """Mean absolute difference (R, n, *S) where `near` (R, 1, *S) is 1; 0 where no box is."""
    apart = (found.float() - target).abs() * near
    return apart.sum() / (near.sum() * found.shape[1]).clamp_min(1)
