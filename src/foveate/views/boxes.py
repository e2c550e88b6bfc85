"""Which box of a volume a view shows: integer boxes drawn without ever giving up.

A box is clamped to the volume. Where the volume is shorter than the view's grid although the asked size
is not, the view is not magnified: the box becomes as long as the grid, is centred on the volume and sticks
out; what lies outside is sampled as 0. A volume below half a view is refused.

Where a crop has a tissue rule every box is drawn anew until its own voxels keep it, each partner given the
first box. After `TISSUE_ATTEMPTS` draws the one that comes closest is taken: an image without tissue yields
views all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.core.rng import stream
from foveate.core.types import CropSpec, FoveateError, Tissue
from foveate.views.places import drawing_order, drawn_place

Integers = NDArray[np.int64]
SIZE_ATTEMPTS = 1000  # for a partner of a random share; then the partner takes the size of the first
POSITION_BATCH = 64
TISSUE_ATTEMPTS = 20

Measure = Callable[["Box", float], float]  # (box, threshold) -> share of its voxels above the threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The voxels [low, high)."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A size, and the first and last voxel at which a box of that size may start, per axis."""

    size: tuple[int, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes.

    >>> iou(Box(low=(0, 0), high=(2, 2)), Box(low=(1, 0), high=(3, 2)))
    0.3333333333333333
    """
    shared = math.prod(
        max(0, min(ah, bh) - max(al, bl)) for al, ah, bl, bh in zip(a.low, a.high, b.low, b.high, strict=True)
    )
    return shared / (math.prod(a.size) + math.prod(b.size) - shared)


def union_box(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them."""
    return Box(
        low=tuple(map(min, zip(*(b.low for b in boxes), strict=True))),
        high=tuple(map(max, zip(*(b.high for b in boxes), strict=True))),
    )


def padded_axes(shape: Sequence[int], spec: CropSpec) -> tuple[int, ...]:
    """Axes on which some view of the crop is padded because the volume is shorter than the view.

    >>> padded_axes((40, 20), CropSpec(count=1, grid=(32, 32), source_sizes=((48, 48),)))
    (1,)
    """
    axes = range(len(shape))
    sizes = [*spec.source_sizes, tuple(spec.grid_scale[1] * cells for cells in spec.grid)]
    return tuple(i for i in axes if any(s[i] >= spec.grid[i] > shape[i] for s in sizes))


def check_fits(shape: Sequence[int], specs: Mapping[str, CropSpec]) -> None:
    """Refuse crops that a volume of `shape` cannot feed.

    Raises:
        FoveateError: naming the crop, the axis and what is accepted.
    """
    for name, spec in specs.items():
        if any(len(size) != len(shape) for size in (spec.grid, *spec.source_sizes)):
            raise FoveateError(
                f"crop {name!r}: grid {spec.grid} and source_sizes {spec.source_sizes} need "
                f"{len(shape)} axes each, as the volume {tuple(shape)} has."
            )
        if spec.source_sizes and any(spec.grid_scale):
            raise FoveateError(
                f"crop {name!r}: source_sizes {spec.source_sizes} and grid_scale {spec.grid_scale} both say "
                "how large a box is; accepted is one of them, the other being [] or [0, 0]."
            )
        for axis in padded_axes(shape, spec):
            if 2 * shape[axis] < spec.grid[axis]:
                raise FoveateError(
                    f"crop {name!r}: the volume has {shape[axis]} voxels on axis {axis}, less than half of "
                    f"the view's {spec.grid[axis]}; at least {math.ceil(spec.grid[axis] / 2)} are accepted. "
                    f"Leave the volume out, or choose a smaller grid or a finer spacing."
                )


def draw_boxes(
    shape: Sequence[int],
    specs: Mapping[str, CropSpec],
    *,
    seed: int,
    index: int,
    places: Mapping[str, Integers] | None = None,
    focus: Sequence[int] = (),
    measure: Measure | None = None,
) -> dict[str, tuple[Box, ...]]:
    """The boxes of every crop of global sample `index`, each crop from a stream of its own.

    Args:
        shape: of the volume.
        specs: the crops.
        seed: of the run.
        index: of the sample.
        places: rows (value, *voxel) of the maps that crops are drawn around.
        focus: the voxel in the middle of every box, also of one that reaches beyond the volume for it.
        measure: looks at the voxels for tissue rules; without it they do not apply.
    """
    check_fits(shape, specs)
    boxes: dict[str, tuple[Box, ...]] = {}
    for name in drawing_order(specs):
        spec = specs[name]
        room = union_box(boxes[spec.inside]) if spec.inside else _everywhere(shape, spec)
        boxes[name] = draw_crop(stream(seed, f"box/{name}", index), shape, spec, room, measure)
        if focus:
            boxes[name] = tuple(centred(box, focus) for box in boxes[name])
        elif places and spec.around:
            rng, rows = stream(seed, f"around/{name}", index), places[spec.around]
            boxes[name] = tuple(move_to_region(rng, box, rows, shape, spec) for box in boxes[name])
    return boxes


def centred(box: Box, voxel: Sequence[int]) -> Box:
    """A box of the same size with a voxel in its middle."""
    low = tuple(v - size // 2 for v, size in zip(voxel, box.size, strict=True))
    return Box(low=low, high=tuple(a + size for a, size in zip(low, box.size, strict=True)))


def move_to_region(
    rng: np.random.Generator, box: Box, places: Integers, shape: Sequence[int], spec: CropSpec
) -> Box:
    """The box, or with the crop's probability one centred on a voxel of a map, clamped to the volume.

    The value is drawn before the voxel; an axis on which the box sticks out of the volume is left alone.
    """
    row = drawn_place(rng, places, spec.around_probability)
    if row is None:
        return box
    centre, size, room = row[1:], np.asarray(box.size), np.asarray(shape)
    low = np.clip(centre - size // 2, 0, np.maximum(room - size, 0))
    low = np.where(size > room, box.low, low)
    return Box(low=tuple(low.tolist()), high=tuple((low + size).tolist()))


def draw_crop(
    rng: np.random.Generator,
    shape: Sequence[int],
    spec: CropSpec,
    room: Box,
    measure: Measure | None = None,
) -> tuple[Box, ...]:
    """The boxes of one crop inside `room`; those after the first overlap the first by `min_iou`."""

    def draw_placement() -> Placement:
        return place(requested_size(rng, shape, spec), spec.grid, shape, room)

    def draw_loose() -> Box:
        return loose_box(rng, requested_size(rng, shape, spec), shape, room)

    def draw_uniform() -> Box:
        placement = waiting.pop(0) if waiting else draw_placement()
        # Drawn one by one they are the same numbers, sooner.
        pairs = zip(placement.first, placement.last, strict=True)
        return _box(placement, [int(rng.integers(first, last + 1)) for first, last in pairs])

    def draw_beside_first() -> Box:
        fallback = place(first.size, spec.grid, shape, room)
        return draw_partner(rng, first, fallback, draw_placement, spec.min_iou)

    if spec.loose and spec.inside:
        return tuple(with_tissue(draw_loose, spec.tissue, measure) for _ in range(spec.count))
    waiting: list[Placement] = []
    first = with_tissue(draw_uniform, spec.tissue, measure)  # every size has partners: none is excluded
    if spec.min_iou <= 0:
        waiting = [draw_placement() for _ in range(spec.count - 1)]
    draw_other = draw_beside_first if spec.min_iou > 0 else draw_uniform
    return first, *(with_tissue(draw_other, spec.tissue, measure) for _ in range(spec.count - 1))


def with_tissue(draw: Callable[[], Box], rule: Tissue, measure: Measure | None) -> Box:
    """The first box drawn that keeps the rule, else the one of `TISSUE_ATTEMPTS` that comes closest."""
    closest, least = draw(), math.inf
    if rule.accepts_all or measure is None:
        return closest
    box = closest
    for _ in range(TISSUE_ATTEMPTS):
        shortfall = rule.shortfall(measure(box, rule.threshold))
        if shortfall < least:
            closest, least = box, shortfall
        if not least:
            break
        box = draw()
    return closest


def loose_box(rng: np.random.Generator, size: Sequence[int], shape: Sequence[int], room: Box) -> Box:
    """A box that only starts inside `room` and is cut off where the volume ends: the published code's way."""
    low = rng.integers(np.maximum(room.low, 0), np.minimum(room.high, shape))
    high = np.minimum(low + np.asarray(size), shape)
    return Box(low=tuple(low.tolist()), high=tuple(high.tolist()))


def requested_size(rng: np.random.Generator, shape: Sequence[int], spec: CropSpec) -> tuple[int, ...]:
    """One of the sizes of the crop, a multiple of its grid, or one that covers a share of the volume."""
    if spec.source_sizes:
        return spec.source_sizes[rng.integers(len(spec.source_sizes))]
    if any(spec.grid_scale):
        factors = rng.uniform(*spec.grid_scale, size=len(shape))
        return tuple(max(1, round(c * f)) for c, f in zip(spec.grid, factors.tolist(), strict=True))
    share = rng.uniform(*spec.volume_share)
    # Halved in the logarithm: the ratio of two axes then stays within `aspect`.
    low, high = (math.log(ratio) / 2 for ratio in spec.aspect)
    jitter = rng.uniform(low, high, size=len(shape)).tolist()
    return share_size(share, [c * math.exp(j) for c, j in zip(spec.grid, jitter, strict=True)], shape)


def share_size(share: float, proportions: Sequence[float], shape: Sequence[int]) -> tuple[int, ...]:
    """The size of a box that covers `share` of the volume in these proportions as far as it fits.

    An axis that would stick out is clamped and the others grow, so that the share holds.

    >>> share_size(0.5, [1.0, 1.0], (100, 20))
    (50, 20)
    """
    size = [float(side) for side in proportions]
    free = [True] * len(size)
    for _ in shape:
        missing = share * math.prod(shape) / math.prod(size)
        growth = missing ** (1 / max(1, sum(free)))
        size = [side * growth if grows else side for side, grows in zip(size, free, strict=True)]
        free = [grows and side < limit for grows, side, limit in zip(free, size, shape, strict=True)]
        if all(free):
            break
        size = [min(side, float(limit)) for side, limit in zip(size, shape, strict=True)]
    return tuple(max(1, round(side)) for side in size)


def place(size: Sequence[int], grid: Sequence[int], shape: Sequence[int], room: Box) -> Placement:
    """Where a box of the asked size may go inside `room`, clamped or made to stick out as the module says."""
    axes = zip(size, grid, shape, room.low, room.high, strict=True)
    length, first, last = zip(*(_place_axis(*axis) for axis in axes), strict=True)
    return Placement(size=length, first=first, last=last)


def _place_axis(size: int, cells: int, volume: int, low: int, high: int) -> tuple[int, int, int]:
    """Length, first and last start of a box on one axis of a room [low, high)."""
    if size >= cells > volume:
        length = min(cells, high - low)
        centred = min(max((volume - length) // 2, low), high - length)
        return length, centred, centred
    low, high = max(low, 0), min(high, volume)
    length = min(size, high - low)
    return length, low, high - length


def draw_partner(
    rng: np.random.Generator,
    first: Box,
    fallback: Placement,
    draw_placement: Callable[[], Placement],
    min_iou: float,
) -> Box:
    """A box whose IoU with `first` is at least `min_iou`: a feasible size, then a uniform position."""
    for _ in range(SIZE_ATTEMPTS):
        placement = draw_placement()
        if iou(first, _closest(first, placement)) >= min_iou:
            return draw_position(rng, first, placement, min_iou)
    if iou(first, _closest(first, fallback)) < min_iou:  # `first` sticks out where its size alone would not
        return first
    return draw_position(rng, first, fallback, min_iou)


def draw_position(rng: np.random.Generator, first: Box, placement: Placement, min_iou: float) -> Box:
    """Uniform over all positions of the placement with IoU >= `min_iou`; at least one must exist.

    Bounding the overlap of every axis leaves a region of which no less than about one in n! is admissible.
    """
    low, theirs, ours = (np.asarray(a) for a in (first.low, first.size, placement.size))
    volumes = int(theirs.prod() + ours.prod())
    best = _overlap(first, ours, np.asarray(_closest(first, placement).low))
    needed = min_iou * volumes / (1 + min_iou)  # the smallest intersection
    least = np.ceil(needed * best / best.prod() - 1e-9).astype(np.int64)  # when the other axes are best
    start = np.maximum(placement.first, low + least - ours)
    stop = np.minimum(placement.last, low + theirs - least)
    while True:
        lows = rng.integers(start, stop + 1, size=(POSITION_BATCH, len(low)))
        shared = _overlap(first, ours, lows).prod(1)
        admissible = np.flatnonzero(shared / (volumes - shared) >= min_iou)
        if len(admissible):
            return _box(placement, lows[admissible[0]].tolist())


def _overlap(first: Box, size: Integers, lows: Integers) -> Integers:
    """Voxels shared per axis with boxes of `size` that start at `lows` (..., n)."""
    shared = np.minimum(first.high, lows + size) - np.maximum(first.low, lows)
    return np.asarray(np.maximum(0, shared), dtype=np.int64)


def _closest(first: Box, placement: Placement) -> Box:
    """The box of a placement that overlaps `first` most."""
    starts = zip(first.low, placement.first, placement.last, strict=True)
    return _box(placement, [min(max(low, least), most) for low, least, most in starts])


def _box(placement: Placement, low: Sequence[int]) -> Box:
    return Box(low=tuple(low), high=tuple(a + b for a, b in zip(low, placement.size, strict=True)))


def _everywhere(shape: Sequence[int], spec: CropSpec) -> Box:
    """Room for every box that the volume and its padding allow."""
    return Box(
        low=tuple(-g for g in spec.grid),
        high=tuple(s + g for s, g in zip(shape, spec.grid, strict=True)),
    )
