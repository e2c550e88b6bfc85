"""Masks to contours: along the edges of pixels, so that every centre is clearly inside or outside.

A piece whose pixels touch by their sides is one polygon. Its holes are part of it, each reached over a bridge
that is drawn there and back (a keyhole, as DICOM wants of CLOSED_PLANAR): readers that fill every contour and
readers that count crossings find the same pixels. The area of a polygon is that of its pixels.
"""

from __future__ import annotations

from collections import defaultdict

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
    """Polygons (n, 2) of (column, row) around a mask (columns, rows); centres are whole numbers."""
    from scipy.ndimage import find_objects, label

    pieces, _ = label(mask)
    found = []
    for number, box in enumerate(find_objects(pieces), 1):
        corner = np.array([part.start for part in box])
        loops = _loops(pieces[box] == number)
        found.append(_without_straight(_joined(loops)) + corner - 0.5)
    return found


def _loops(piece: Array) -> list[list[Vertex]]:
    """The boundaries of one piece as corners of pixels, a step apart, inside on the right."""
    padded = np.pad(piece, 1)
    ways: dict[Vertex, list[Vertex]] = defaultdict(list)
    for (dc, dr), (start, end) in SIDES.items():
        neighbour = np.roll(padded, (-dc, -dr), (0, 1))
        for c, r in np.argwhere(padded & ~neighbour).tolist():
            ways[c - 1 + start[0], r - 1 + start[1]].append((c - 1 + end[0], r - 1 + end[1]))
    loops: list[list[Vertex]] = []
    while ways:
        here = first = min(ways)  # of the outer boundary comes first: it reaches furthest
        loop, came = list[Vertex](), (0, -1)
        while not loop or here != first:
            loop.append(here)
            there = min(ways[here], key=lambda end: end != _right_of(here, came))
            ways[here].remove(there)
            if not ways[here]:
                del ways[here]
            came, here = (there[0] - here[0], there[1] - here[1]), there
        loops.append(loop)
    return loops


def _right_of(here: Vertex, came: Vertex) -> Vertex:
    """Where a turn to the right leads: where pixels touch by a corner, it stays with the same pixel."""
    return here[0] - came[1], here[1] + came[0]


def _joined(loops: list[list[Vertex]]) -> list[Vertex]:
    """The outer boundary with its holes, from left to right: each over a bridge to what lies left of it."""
    outline, *holes = loops
    for hole in sorted(holes, key=min):
        start = min(hole)
        places = {vertex: i for i, vertex in enumerate(outline)}
        column = next(c for c in range(start[0], -1, -1) if (c, start[1]) in places)
        at, turn = places[column, start[1]], hole.index(start)
        outline = [*outline[: at + 1], *hole[turn:], *hole[:turn], start, *outline[at:]]
    return outline


def _without_straight(outline: list[Vertex]) -> Floats:
    """The corners at which the direction changes."""
    points = np.array(outline)
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    before = np.sign(points - np.roll(points, 1, axis=0))
    after = np.sign(np.roll(points, -1, axis=0) - points)
    corners: Floats = points[(before != after).any(1)].astype(np.float64)
    return corners
