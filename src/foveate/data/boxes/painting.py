"""Boxes of a table on the grid of their image: where they lie, and the map of instance numbers they make.

A box is painted as the ellipsoid that fits into it, so that a turned view of a ball still has the box of a
ball; small ones lie on top of large ones, and each has at least the voxel in its middle.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from foveate.core.boxes.geometry import Boxes, in_mm, in_voxels, inside
from foveate.core.types import Array, Volume
from foveate.data.boxes.listing import Frame, Listed, Unit
from foveate.data.readers.canonical import source_affine

KEYS = "--boxes.frame and --boxes.unit"  # what says the convention of labels


class MisplacedError(Exception):
    """Why boxes do not fit their image.

    Attributes:
        outside: How many have their centre outside of it.
    """

    def __init__(self, reason: str, outside: int = 0) -> None:
        super().__init__(reason)
        self.outside = outside


def placed(listed: Listed, image: Volume, keys: str = KEYS) -> Array:
    """Rows (value, *centre, *size) in millimetres: the centre in the world, sides along the image's axes.

    `keys` are those that say the convention of the table.

    Raises:
        MisplacedError: their numbers are not those of the image's axes, or some lie outside of it.
    """
    axes, shape = image.array.ndim - 1, image.array.shape[1:]
    table = np.reshape(listed.rows, (len(listed.rows), -1)) if listed.rows else np.zeros((0, 1 + 2 * axes))
    if table.shape[1] != 1 + 2 * axes:
        raise MisplacedError(
            f"its boxes have {table.shape[1] // 2} coordinates, the image {axes} axes; accepted: as many"
        )
    boxes = in_world(table, listed, axes, lambda: image)
    out = ~inside(in_voxels(boxes, image.affine), shape)
    if out.any():
        raise MisplacedError(_outside(table, listed, image, int(out.sum()), keys), int(out.sum()))
    return np.concatenate([table[:, :1], boxes.centre, boxes.size], 1)


def in_world(table: Array, listed: Listed, axes: int, opened: Callable[[], Volume]) -> Boxes:
    """Rows of a table (value, *centre, *size) as boxes in millimetres; the image is read for voxels only."""
    boxes = Boxes.of(table[:, 1 : 1 + axes], table[:, 1 + axes :], axes=axes)
    if listed.unit == "mm":
        signs = np.array([-1.0, -1.0, 1.0]) if listed.frame == "lps" and axes == 3 else np.ones(axes)
        return Boxes.of(boxes.centre * signs, boxes.size, axes=axes)
    image = opened()
    if not image.orientation:
        return in_mm(boxes, image.affine)
    own = source_affine(image.affine, image.orientation, image.array.shape[1:])
    moved = in_mm(boxes, own)
    order = np.argsort([axis for axis, _ in image.orientation])  # the image's axes -> those of the file
    return Boxes.of(moved.centre, moved.size[:, order], axes=axes)


def _outside(table: Array, listed: Listed, image: Volume, count: int, keys: str) -> str:
    """What is wrong with boxes outside of the image, and which convention would place them all inside."""
    fitting = []
    frames: tuple[Frame, ...] = ("ras", "lps") if image.array.ndim > 3 else ("ras",)
    units: tuple[Unit, ...] = ("mm", "voxel")
    for unit, frame in product(units, frames):
        other = Listed(unit=unit, frame=frame, rows=listed.rows)
        boxes = in_world(table, other, image.array.ndim - 1, lambda: image)
        if inside(in_voxels(boxes, image.affine), image.array.shape[1:]).all():
            fitting.append(f"{unit} ({frame.upper()})" if unit == "mm" and len(frames) > 1 else unit)
    said = f"{listed.unit} ({listed.frame.upper()})" if listed.unit == "mm" else listed.unit
    fitting = list(dict.fromkeys(fitting))
    advice = (
        f"taken as {' or as '.join(fitting)} all of them would lie inside: say it with {keys}, or in the "
        "table"
        if fitting
        else "no convention (mm or voxel, RAS or LPS) places them all inside: are they of another image?"
    )
    return f"{count} of its {len(table)} boxes have their centre outside of it, taken as {said}; {advice}"


def painted(rows: Array, image: Volume) -> Array:
    """A map (*S) of the values of placed rows, on the grid of the image."""
    shape = image.array.shape[1:]
    axes = len(shape)
    boxes = in_voxels(Boxes.of(rows[:, 1 : 1 + axes], rows[:, 1 + axes :], axes=axes), image.affine)
    labels = np.zeros(shape, dtype=np.int16)
    order = np.argsort(-np.prod(boxes.size, 1), kind="stable").tolist()
    for i in order:
        low = np.floor(boxes.low[i]).astype(int).clip(0)
        high = np.minimum(np.ceil(boxes.high[i]).astype(int) + 1, shape)
        window = tuple(slice(a, max(a, b)) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        away = np.zeros((1,) * axes)
        for axis, part in enumerate(window):
            line = (np.arange(part.start, part.stop) - boxes.centre[i, axis]) / max(
                boxes.size[i, axis] / 2, 1e-9
            )
            away = away + (line**2).reshape([-1 if k == axis else 1 for k in range(axes)])
        labels[window][away <= 1] = rows[i, 0]
    for i in order:  # no box is lost below a larger or a nearer one
        middle = np.rint(boxes.centre[i]).astype(int).clip(0, np.array(shape) - 1)
        labels[tuple(middle)] = rows[i, 0]
    return labels
