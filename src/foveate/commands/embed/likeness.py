"""What rows of features say of each other: neighbours, near-duplicates, outliers, what to label first.

Everything is exact: all pairs are compared, a block of rows at a time; of many rows by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from foveate.core.types import Array

TWIN = 0.1  # a pair that is nearer than this share of the usual distance to a neighbour may be a duplicate
SMALL = 1e-12
MANY = 20_000  # rows from which scikit-learn finds neighbours
SPARE = 32  # further neighbours that it is asked for, in place of those of the row's own group
PAIRS = 1 << 20  # that are compared at once


def blocks(count: int, size: int = 1024) -> Iterator[slice]:
    """Slices that cover a number of rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


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
    if queries is None and len(rows) >= MANY:
        return by_library(rows, count, groups)
    everything = np.arange(len(rows) if queries is None else len(queries))
    return compared(rows, count, groups, everything, queries)


def compared(
    rows: Array, count: int, groups: Array, wanted: Array, queries: Array | None = None
) -> tuple[Array, Array]:
    """The same of some rows, or of some queries, by comparing each with all rows."""
    asked = rows if queries is None else queries
    count = min(count, len(rows))
    found, distances = np.empty((len(wanted), count), np.int64), np.empty((len(wanted), count), np.float32)
    for block in blocks(len(wanted), max(1, PAIRS // len(rows))):
        some = wanted[block]
        apart = 1 - asked[some] @ rows.T
        if queries is None:
            apart[groups[some, None] == groups] = np.inf
        least = np.argpartition(apart, count - 1, axis=1)[:, :count]
        found[block], distances[block] = in_order(least, np.take_along_axis(apart, least, 1))
    return found, distances


def by_library(rows: Array, count: int, groups: Array) -> tuple[Array, Array]:
    """The same of all rows, by scikit-learn, which keeps a few distances instead of all.

    It knows no groups: it is asked for more neighbours, and rows that still lack some are compared with all.
    """
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=min(len(rows), count + SPARE), algorithm="brute").fit(rows)
    found, distances = np.empty((len(rows), count), np.int64), np.empty((len(rows), count), np.float32)
    lacking = [np.zeros(0, np.int64)]
    for block in blocks(len(rows), max(1, PAIRS // rows.shape[1])):
        near = finder.kneighbors(rows[block], return_distance=False)
        numbers = np.arange(block.start, block.stop)
        # of unit rows the order of Euclidean distances is that of 1 - cosine
        apart = cosines_apart(rows, numbers, near)
        apart[groups[near] == groups[numbers, None]] = np.inf
        lacking.append(numbers[np.isfinite(apart).sum(1) < count])
        order = np.argsort(apart, axis=1, kind="stable")[:, :count]
        found[block], distances[block] = in_order(
            np.take_along_axis(near, order, 1), np.take_along_axis(apart, order, 1)
        )
    rest = np.concatenate(lacking)
    if len(rest):
        found[rest], distances[rest] = compared(rows, count, groups, rest)
    return found, distances


def cosines_apart(rows: Array, numbers: Array, others: Array) -> Array:
    """1 - cosine of rows and some others of each (R, K), a column at a time."""
    columns = [1 - (rows[numbers] * rows[others[:, k]]).sum(1) for k in range(others.shape[1])]
    return np.stack(columns, 1)


def in_order(found: Array, distances: Array) -> tuple[Array, Array]:
    """Neighbours (R, K) nearest first, the lower number first where two are equally far."""
    order = np.lexsort((found, distances), axis=1)
    return np.take_along_axis(found, order, 1), np.take_along_axis(distances, order, 1)


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
