"""Contrast: a positive against negatives, over images, cells or regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit_rows(rows: Tensor) -> Tensor:
    """Rows of length 1, never in half precision."""
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)


def sampled_contrast(anchors: Tensor, positives: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Contrastive sampling loss: every positive of an anchor against all its negatives, averaged.

    Args:
        anchors: (K, n, E): n pixels of each of K regions, seen in one view.
        positives: (K, P, E): pixels of the same regions in the other view.
        negatives: (K, N, E): pixels of other regions there.
        temperature: what similarities are divided by.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        a, p, n = (unit_rows(rows) for rows in (anchors, positives, negatives))
        alike = a @ p.mT / temperature  # (K, n, P)
        others = torch.logsumexp(a @ n.mT / temperature, dim=-1, keepdim=True)  # (K, n, 1)
    return F.softplus(others - alike).mean()


def region_contrast(first: Tensor, second: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE over region means, both ways and averaged.

    Args:
        first: (K, E): a row for each region, in one view.
        second: (K, E): the same regions in the other.
        negatives: bool (K, K): which rows are negatives of which; the diagonal counts as the positive.
        temperature: what similarities are divided by.
    """
    with torch.autocast(first.device.type, enabled=False):
        logits = unit_rows(first) @ unit_rows(second).mT / temperature
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(~(negatives | own), -torch.inf)
    wanted = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.mT, wanted))


def region_means(rows: Tensor, regions: Tensor, count: int) -> Tensor:
    """Mean of the rows (M, E) of each region 0 to count - 1; rows of region -1 count nowhere."""
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    place = regions.masked_fill(regions < 0, count)  # one more row for those: to leave them out would wait
    sums = rows.new_zeros(count + 1, rows.shape[1]).index_add(0, place, rows)
    sizes = place.new_zeros(count + 1).index_add(0, place, torch.ones_like(place))
    return sums[:count] / sizes[:count, None].clamp_min(1)


def queue_contrast(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE of every query (B, E) for its own key among the rows of a queue (N, E)."""
    with torch.autocast(queries.device.type, enabled=False):
        q = unit_rows(queries)
        own = (q * keys.to(q.dtype)).sum(1, keepdim=True)
        logits = torch.cat([own, q @ queue.to(q.dtype).mT], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Every view (B, E) looks for the other view of its image among all others of the batch."""
    with torch.autocast(first.device.type, enabled=False):
        z = unit_rows(torch.cat([first, second]))
        logits = z @ z.mT / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(first)))
