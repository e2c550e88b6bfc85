"""Contours to voxels: a voxel belongs to a region if its centre is inside.

Inside is the even-odd rule over all contours of a plane: a contour within another cuts a hole, and a bridge
that is drawn there and back (a keyhole) counts for nothing. Every slice takes the plane that is nearest to
it, at most half a step away; slices between planes that are further apart stay empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Array
from foveate.data.readers.refusals import RefusalError

FLAT = 0.2  # slice steps that the points of one contour may be apart
SAME_PLANE = 0.05  # slice steps between contours of one plane: headers are rounded
REACH = 0.5 + 1e-3  # slice steps from a plane to the slice that takes it
DIGITS = 3  # of a voxel: what headers round must not decide on which side of a centre a line lies

Floats = NDArray[np.float64]


def rasterised(contours: Sequence[Floats], shape: tuple[int, ...], affine: Floats) -> Array:
    """The voxels (column, row, slice) whose centres are inside of contours (n, 3) in LPS millimetres.

    Args:
        contours: All contours of one region.
        shape: Columns, rows and slices.
        affine: From (column, row, slice) to LPS millimetres.
    """
    inverse = np.linalg.inv(affine)
    placed = [np.round(points @ inverse[:3, :3].T + inverse[:3, 3], DIGITS) for points in contours]
    if any(np.ptp(points[:, 2]) > FLAT for points in placed):
        raise RefusalError("a contour is not parallel to the slices of the image; draw it on this series")
    result = np.zeros(shape, dtype=bool)
    planes = _planes(placed)
    depths = np.array([depth for depth, _ in planes])
    for k in range(shape[2]):
        nearest = int(np.abs(depths - k).argmin())
        if abs(depths[nearest] - k) <= REACH:
            result[..., k] = even_odd([points[:, :2] for points in planes[nearest][1]], shape[:2])
    return result


def _planes(contours: Sequence[Floats]) -> list[tuple[float, list[Floats]]]:
    """Contours by the plane that they lie in, rising."""
    planes: list[tuple[float, list[Floats]]] = []
    for points in sorted(contours, key=lambda points: float(points[:, 2].mean())):
        depth = float(points[:, 2].mean())
        if planes and depth - planes[-1][0] <= SAME_PLANE:
            planes[-1][1].append(points)
        else:
            planes.append((depth, [points]))
    return planes


def even_odd(polygons: Sequence[Floats], shape: tuple[int, ...]) -> Array:
    """Pixels (column, row) that an odd number of edges separates from the left end of their row.

    A line through a centre counts as left of it, one through a row's centre as above it.
    """
    columns, rows = shape
    crossings = np.zeros((columns + 1, rows), dtype=np.int64)
    for points in polygons:
        start, end = points, np.roll(points, -1, axis=0)
        rising = np.where(
            (start[:, 1] > end[:, 1])[:, None], np.hstack([end, start]), np.hstack([start, end])
        )
        first = np.clip(np.ceil(rising[:, 1]), 0, rows).astype(np.int64)
        last = np.clip(np.ceil(rising[:, 3]), 0, rows).astype(np.int64)  # the lower end is another edge's
        counts = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(points)), counts)
        row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        x0, y0, x1, y1 = rising[edge].T
        column = np.ceil(x0 + (row - y0) * (x1 - x0) / (y1 - y0))
        np.add.at(crossings, (np.clip(column, 0, columns).astype(np.int64), row), 1)
    inside: Array = np.cumsum(crossings[:columns], axis=0) % 2 == 1
    return inside
