"""What rows of features say of each other: neighbours, near-duplicates, outliers, what to label first.

Everything is exact: all pairs are compared, a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foveate.commands.embed.features import blocks
from foveate.core.types import Array

TWIN = 0.1  # a pair that is nearer than this share of the usual distance to a neighbour may be a duplicate
SMALL = 1e-12


def comparable(features: Array, columns: Mapping[str, Sequence[int]]) -> tuple[Array, Array, Array]:
    """Rows of length 1 whose products compare images; the centre and factors that make others like them.

    Every scale is centred and weighs the same: else the one with the largest numbers would decide.
    """
    centre = features.mean(0, dtype=np.float64)
    factors = np.empty(features.shape[1])
    for first, end in columns.values():
        parts = (features[block, first:end] - centre[first:end] for block in blocks(len(features)))
        spread = sum(float(np.square(part).sum()) for part in parts) / len(features)
        factors[first:end] = 1 / np.sqrt(max(spread, SMALL))
    return transformed(features, centre, factors), centre, factors


def transformed(features: Array, centre: Array, factors: Array) -> Array:
    """Rows of length 1."""
    rows = np.empty(features.shape, np.float32)
    for block in blocks(len(features)):
        part = (features[block] - centre) * factors
        rows[block] = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), SMALL)
    return rows


def nearest(rows: Array, count: int, groups: Array, queries: Array | None = None) -> tuple[Array, Array]:
    """Numbers and distances (1 - cosine) of the nearest rows, nearest first.

    Args:
        rows: Of length 1.
        count: Neighbours of each.
        groups: Rows of one group are no neighbours of each other: slices of an image, images of a patient.
        queries: Other rows, which belong to no group; the rows themselves where none are given.
    """
    asked = rows if queries is None else queries
    count = min(count, len(rows))
    found, distances = np.empty((len(asked), count), np.int64), np.empty((len(asked), count), np.float32)
    for block in blocks(len(asked)):
        apart = 1 - asked[block] @ rows.T
        if queries is None:
            apart[groups[block, None] == groups] = np.inf
        some = np.argpartition(apart, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(apart, some, 1)
        order = np.lexsort((some, near), axis=1)
        found[block] = np.take_along_axis(some, order, 1)
        distances[block] = np.take_along_axis(near, order, 1)
    return found, distances


def near_duplicates(found: Array, distances: Array) -> list[tuple[int, int, float]]:
    """Pairs that are far nearer than neighbours usually are, nearest first, with their distance."""
    usual = float(np.median(distances[:, 0])) if distances.size else np.inf
    if not np.isfinite(usual):  # one image
        return []
    pairs: dict[tuple[int, int], float] = {}
    for row, (others, apart) in enumerate(zip(found, distances, strict=True)):
        for other, distance in zip(others.tolist(), apart.tolist(), strict=True):
            if distance <= TWIN * usual:
                pairs[min(row, other), max(row, other)] = distance
    return sorted(((a, b, d) for (a, b), d in pairs.items()), key=lambda pair: (pair[2], pair[:2]))


def outlying(distances: Array) -> Array:
    """How far each row is from its neighbours, in units of what is usual."""
    known = np.isfinite(distances)
    own = np.where(known, distances, 0).sum(1) / np.maximum(known.sum(1), 1)
    return np.asarray(own / max(float(np.median(own)), SMALL))


def k_centre(rows: Array, count: int, groups: Array) -> list[int]:
    """Rows far from each other, at most one of a group: the middlemost first, then always the farthest.

    Fewer where there are fewer groups.
    """
    chosen: list[int] = []
    free = np.ones(len(rows), bool)
    apart = rows @ rows.mean(0)  # of the first choice, which is the nearest to the mean
    for _ in range(min(count, len(np.unique(groups)))):
        row = int(np.argmax(np.where(free, apart, -np.inf)))
        distance = 1 - rows @ rows[row]
        apart = distance if not chosen else np.minimum(apart, distance)
        chosen.append(row)
        free &= groups != groups[row]
    return chosen
