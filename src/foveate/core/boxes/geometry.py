"""Boxes along the axes of an image: in voxels, in millimetres, compared with each other, found in label maps.

A box lies along the axes of its image, however oblique that is: in millimetres it has its centre in the world
(RAS+) and the lengths of its sides along those axes. So both forms hold the same box, and turning one into
the other and back changes nothing. In voxels, 0 is the centre of the first voxel, which reaches from -0.5
to 0.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveate.core.types import Array, FoveateError

Floats = NDArray[np.float64]
HALF = 0.5  # a voxel reaches so far beyond its centre


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """N boxes of one image with n axes.

    Attributes:
        centre: (N, n).
        size: (N, n), lengths of the sides along the axes of the image.
        label: (N,) number of the class, from 0.
        score: (N,) how sure an answer is; 1 of what is known.
    """

    centre: Floats
    size: Floats
    label: NDArray[np.int64]
    score: Floats

    @classmethod
    def of(
        cls,
        centre: ArrayLike,
        size: ArrayLike,
        label: ArrayLike | None = None,
        score: ArrayLike | None = None,
        *,
        axes: int = 0,
    ) -> Self:
        """Boxes from anything like arrays; `axes` is needed where there may be none."""
        middle = np.asarray(centre, dtype=np.float64)
        middle = middle.reshape(-1, axes or middle.shape[-1])
        sides = np.asarray(size, dtype=np.float64).reshape(middle.shape)
        count = len(middle)
        labels = np.zeros(count, np.int64) if label is None else np.asarray(label, np.int64).reshape(count)
        scores = np.ones(count) if score is None else np.asarray(score, np.float64).reshape(count)
        return cls(centre=middle, size=sides, label=labels, score=scores)

    @classmethod
    def between(
        cls, low: ArrayLike, high: ArrayLike, label: ArrayLike | None = None, *, axes: int = 0
    ) -> Self:
        """Boxes from their lowest to their highest corners."""
        first, last = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        return cls.of((first + last) / 2, last - first, label, axes=axes)

    def __len__(self) -> int:
        return len(self.centre)

    @property
    def low(self) -> Floats:
        """Lowest corners, (N, n)."""
        return np.asarray(self.centre - self.size / 2)

    @property
    def high(self) -> Floats:
        """Highest corners, (N, n)."""
        return np.asarray(self.centre + self.size / 2)

    def picked(self, which: ArrayLike) -> Boxes:
        """Some of them, by a mask or by their numbers."""
        rows = np.asarray(which)
        rows = rows if rows.dtype == np.bool_ else rows.astype(np.int64)
        return Boxes(
            centre=self.centre[rows], size=self.size[rows], label=self.label[rows], score=self.score[rows]
        )

    def best_first(self) -> Boxes:
        """The same by score; equal ones in the order in which they are."""
        return self.picked(np.argsort(-self.score, kind="stable"))

    def scaled(self, factors: Sequence[float]) -> Boxes:
        """The same with every axis multiplied."""
        by = np.asarray(factors, dtype=np.float64)
        return replace(self, centre=self.centre * by, size=self.size * by)

    def rows(self) -> list[list[float]]:
        """Plain numbers, a row each: (*centre, *size, label, score)."""
        columns = [self.centre, self.size, self.label[:, None].astype(np.float64), self.score[:, None]]
        found: list[list[float]] = np.concatenate(columns, 1).tolist()
        return found

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float]], axes: int) -> Self:
        """What `rows` gave."""
        table = np.asarray(rows, dtype=np.float64).reshape(-1, 2 * axes + 2)
        return cls.of(table[:, :axes], table[:, axes : 2 * axes], table[:, -2], table[:, -1], axes=axes)


def joined(parts: Iterable[Boxes], axes: int) -> Boxes:
    """All boxes of several, one after the other."""
    some = [Boxes.of([], [], axes=axes), *parts]
    columns = [(each.centre, each.size, each.label, each.score) for each in some]
    centre, size, label, score = (np.concatenate(column) for column in zip(*columns, strict=True))
    return Boxes(centre=centre, size=size, label=label, score=score)


def sides_of(affine: ArrayLike, axes: int) -> Floats:
    """Millimetres of a voxel along each axis of an image, from its affine (4, 4).

    >>> sides_of(np.diag([2.0, 3.0, 4.0, 1.0]), 3).tolist()
    [2.0, 3.0, 4.0]
    """
    return np.asarray(np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :axes], axis=0))


def in_mm(boxes: Boxes, affine: ArrayLike) -> Boxes:
    """Boxes in voxels as centres in the world and sides in millimetres; `affine` (4, 4) is the image's."""
    matrix, n = np.asarray(affine, dtype=np.float64), boxes.centre.shape[1]
    centre = boxes.centre @ matrix[:n, :n].T + matrix[:n, 3]
    return replace(boxes, centre=centre, size=boxes.size * sides_of(matrix, n))


def in_voxels(boxes: Boxes, affine: ArrayLike) -> Boxes:
    """Boxes in millimetres as boxes in voxels of an image: the inverse of `in_mm`."""
    matrix, n = np.asarray(affine, dtype=np.float64), boxes.centre.shape[1]
    inverse = np.linalg.inv(matrix[:n, :n])
    centre = (boxes.centre - matrix[:n, 3]) @ inverse.T
    return replace(boxes, centre=centre, size=boxes.size / sides_of(matrix, n))


def inside(boxes: Boxes, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Whether the centres of boxes in voxels lie in an image of that shape, (N,)."""
    within = (boxes.centre >= -HALF) & (boxes.centre < np.asarray(shape) - HALF)
    return np.asarray(within.all(1))


def iou(one: Boxes, other: Boxes) -> Floats:
    """Intersection over union of every pair of boxes of one image, (N, M); in voxels, or both scaled alike.

    >>> iou(Boxes.of([[0, 0]], [[2, 2]]), Boxes.of([[1, 0], [9, 9]], [[2, 2], [1, 1]])).round(3).tolist()
    [[0.333, 0.0]]
    """
    high = np.minimum(one.high[:, None], other.high[None])
    low = np.maximum(one.low[:, None], other.low[None])
    shared = np.prod(np.clip(high - low, 0, None), -1)
    union = np.prod(one.size, 1)[:, None] + np.prod(other.size, 1)[None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def depth_within(points: Floats, boxes: Boxes) -> Floats:
    """How far from the middle points (P, n) lie in the ellipsoids that fit into boxes, (P, N): 1 on the rim.

    Of a box with equal sides it is the distance to its centre as a share of its radius.
    """
    half = np.maximum(boxes.size / 2, np.finfo(np.float64).tiny)
    away = (points[:, None] - boxes.centre[None]) / half[None]
    return np.asarray(np.sqrt((away**2).sum(-1)))


def value_boxes(labels: Array, classes: Mapping[int, int]) -> Boxes:
    """One box for each value of a map (*S) that belongs to a class: all of its voxels, in voxels.

    Args:
        labels: Whole numbers.
        classes: Value -> number of the class; other values are left out.
    """
    from scipy.ndimage import find_objects

    if labels.min(initial=0) < 0:
        labels = np.where(labels < 0, 0, labels)
    places = enumerate(find_objects(labels.astype(np.int32, copy=False)), 1)
    found = [(place, classes[value]) for value, place in places if place and value in classes]
    return _boxes_of(found, labels.ndim)


def component_boxes(labels: Array, classes: Mapping[int, int]) -> Boxes:
    """One box for each connected piece of a class in a map (*S), in voxels.

    Voxels that touch by a face, an edge or a corner are connected.
    """
    from scipy.ndimage import find_objects, generate_binary_structure, label

    touching = generate_binary_structure(labels.ndim, labels.ndim)
    found = []
    for number in sorted(set(classes.values())):
        values = [value for value, mine in classes.items() if mine == number]
        pieces, _ = label(np.isin(labels, values), touching)
        found += [(place, number) for place in find_objects(pieces) if place]
    return _boxes_of(found, labels.ndim)


def _boxes_of(found: Sequence[tuple[tuple[slice, ...], int]], axes: int) -> Boxes:
    low = [[part.start - HALF for part in place] for place, _ in found]
    high = [[part.stop - HALF for part in place] for place, _ in found]
    return Boxes.between(
        np.reshape(low, (-1, axes)), np.reshape(high, (-1, axes)), [number for _, number in found], axes=axes
    )


def filled(boxes: Boxes, shape: Sequence[int], classes: int) -> NDArray[np.bool_]:
    """The voxels of boxes, by class: (K, *S); a box holds the voxels whose centres it holds, or its nearest.

    >>> filled(Boxes.of([[1.0]], [[2.0]]), (4,), 1).astype(int).tolist()
    [[1, 1, 1, 0]]
    >>> filled(Boxes.of([[-5.0]], [[2.0]]), (4,), 1).any()
    np.False_
    """
    if boxes.centre.shape[1] != len(shape):
        raise FoveateError(f"Boxes have {boxes.centre.shape[1]} axes, the image {len(shape)}.")
    masks = np.zeros((classes, *shape), dtype=np.bool_)
    for low, high, middle, number in zip(boxes.low, boxes.high, boxes.centre, boxes.label, strict=True):
        nearest = np.rint(middle).astype(int)
        first = np.minimum(np.ceil(low), nearest).astype(int).clip(0)
        last = np.maximum(np.floor(high), nearest).astype(int).clip(-1)  # of a box before the image: nothing
        masks[(number, *(slice(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True)))] = True
    return masks
