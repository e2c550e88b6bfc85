"""Masks to contours: along the edges of pixels, so that every centre is clearly inside or outside.

A piece whose pixels touch by their sides is one polygon. Its holes are part of it, each reached over a bridge
that is drawn there and back (a keyhole, as DICOM wants of CLOSED_PLANAR): readers that fill every contour and
readers that count crossings find the same pixels. The area of a polygon is that of its pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Array

Vertex = tuple[int, int]
Floats = NDArray[np.float64]

SIDES = {  # neighbour that is missing -> where the edge of the pixel runs, clockwise
    (0, -1): ((0, 0), (1, 0)),
    (1, 0): ((1, 0), (1, 1)),
    (0, 1): ((1, 1), (0, 1)),
    (-1, 0): ((0, 1), (0, 0)),
}


def outlines(mask: Array) -> list[Floats]:
    """Polygons (n, 2) of (column, row) around a mask (columns, rows); centres are whole numbers.

    Takes time in proportion to the edges of the mask, however many pieces and holes it has.
    """
    from scipy.ndimage import label

    pieces, count = label(mask)
    loops: list[list[list[Vertex]]] = [[] for _ in range(count)]
    for number, loop in _loops(pieces):
        loops[number - 1].append(loop)
    return [_without_straight(_joined(each)) - 0.5 for each in loops]


def _loops(pieces: Array) -> Iterator[tuple[int, list[Vertex]]]:
    """The boundaries of numbered pieces as corners of pixels, a step apart, inside on the right.

    The outer boundary of a piece comes before its holes: it reaches further to the left.
    """
    padded = np.pad(pieces, 1)
    ways: dict[Vertex, list[tuple[Vertex, int]]] = defaultdict(list)
    for (dc, dr), (start, end) in SIDES.items():
        neighbour = np.roll(padded, (-dc, -dr), (0, 1))
        edges = np.argwhere((padded > 0) & (neighbour == 0))
        for (c, r), number in zip((edges - 1).tolist(), padded[tuple(edges.T)].tolist(), strict=True):
            ways[c + start[0], r + start[1]].append(((c + end[0], r + end[1]), number))
    for first in sorted(ways):
        while first in ways:
            here, came, loop = first, (0, -1), list[Vertex]()
            while not loop or here != first:
                loop.append(here)
                right = _right_of(here, came)
                way = min(ways[here], key=lambda way: way[0] != right)
                ways[here].remove(way)
                if not ways[here]:
                    del ways[here]
                there, number = way
                came, here = (there[0] - here[0], there[1] - here[1]), there
            yield number, loop


def _right_of(here: Vertex, came: Vertex) -> Vertex:
    """Where a turn to the right leads: where pixels touch by a corner, it stays with the same pixel."""
    return here[0] - came[1], here[1] + came[0]


def _joined(loops: list[list[Vertex]]) -> list[Vertex]:
    """The outer boundary with its holes, from left to right: each over a bridge to what lies left of it."""
    outline, *holes = loops
    corners, following = list(outline), [*range(1, len(outline)), 0]
    places = {vertex: i for i, vertex in enumerate(outline)}
    for hole in holes:  # each begins with its leftmost corner
        column, row = hole[0]
        while (column, row) not in places:
            column -= 1
        at, first = places[column, row], len(corners)
        corners += [*hole, hole[0], (column, row)]  # around the hole, and back over the bridge
        following += [*range(first + 1, len(corners)), following[at]]
        following[at] = first
        places.update(zip(corners[first:], range(first, len(corners)), strict=True))
    walk = [0]
    while (step := following[walk[-1]]) != 0:
        walk.append(step)
    return [corners[i] for i in walk]


def _without_straight(outline: list[Vertex]) -> Floats:
    """The corners at which the direction changes."""
    points = np.array(outline)
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    before = np.sign(points - np.roll(points, 1, axis=0))
    after = np.sign(np.roll(points, -1, axis=0) - points)
    corners: Floats = points[(before != after).any(1)].astype(np.float64)
    return corners
