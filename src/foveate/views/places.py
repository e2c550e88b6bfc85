"""Which slice of a volume a sample shows, around which voxel of a map, and which crop comes first.

Slices are drawn uniformly, and one on which there is nothing to see is drawn again: one that cannot hold a
view that keeps a crop's tissue rule, or, without such a rule, one of which less than `LEAST` reads above
`FOREGROUND`. After `SLICE_ATTEMPTS` draws the one that comes closest is taken. Where a crop is drawn around
the voxels of a map, the slice is that of the voxel, with the probability that the crop says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from foveate.core.contracts import Slices, VolumeReader
from foveate.core.rng import stream
from foveate.core.types import Array, CropSpec, FoveateError, Tissue

SLICE_ATTEMPTS = 10
FOREGROUND = 0.1  # of the intensity window
LEAST = 0.01  # share of a slice


class Seen(NamedTuple):
    """What a sample is made of."""

    image: VolumeReader  # the volume, or one of its slices
    places: Mapping[str, Array]  # of the maps that crops are drawn around: rows (value, *voxel)
    slice: tuple[int, int] | None = None  # the axis that it lies across, and its place along it
    focus: tuple[int, ...] = ()  # the voxel around which every crop lies; (): they are drawn


def seen_by(volume: VolumeReader, index: int, *, specs: Mapping[str, CropSpec], seed: int) -> Seen:
    """The volume, or the slice of it that global sample `index` shows."""
    if volume.focus:
        return focused(volume)
    around = {name: spec for name, spec in specs.items() if spec.around}
    places = {spec.around: volume.places(spec.around) for spec in around.values()}
    if volume.planes is None:
        return Seen(volume, places)
    for name, spec in around.items():
        rng = stream(seed, f"around/{name}", index)  # as the crop's first box will draw it
        row = drawn_place(rng, places[spec.around], spec.around_probability)
        if row is not None:
            seen = of_slice(volume.planes, int(row[1 + volume.planes.axis]), places)
            found = seen.places[spec.around]
            return seen._replace(places={**seen.places, spec.around: found[found[:, 0] == row[0]]})
    position = draw_slice(stream(seed, "slice", index), volume.planes, list(specs.values()))
    return of_slice(volume.planes, position, places)


def focused(volume: VolumeReader) -> Seen:
    """What lies around the focus of a volume: the volume, or the slice through it."""
    if volume.planes is None:
        return Seen(volume, {}, focus=volume.focus)
    axis = volume.planes.axis
    seen = of_slice(volume.planes, volume.focus[axis], ())
    return seen._replace(focus=tuple(v for i, v in enumerate(volume.focus) if i != axis))


def of_slice(planes: Slices, position: int, maps: Iterable[str]) -> Seen:
    """One slice, with its places in some maps."""
    plane = planes[position]
    return Seen(plane, {key: plane.places(key) for key in maps}, (planes.axis, position))


def drawn_place(rng: np.random.Generator, places: Array, probability: float) -> Array | None:
    """With that probability one of the rows (value, *voxel); the value is drawn before the voxel."""
    chance, which, where = rng.random(3)
    values = np.unique(places[:, 0])
    if chance >= probability or not len(values):
        return None
    rows = places[places[:, 0] == values[int(which * len(values))]]
    row: Array = rows[int(where * len(rows))]
    return row


def draw_slice(rng: np.random.Generator, planes: Slices, specs: Sequence[CropSpec]) -> int:
    """The place of a slice with something to see, or the one of `SLICE_ATTEMPTS` that comes closest."""
    closest, least = 0, math.inf
    for _ in range(SLICE_ATTEMPTS):
        position = int(rng.integers(len(planes)))
        lacking = lack(planes[position], specs)
        if lacking < least:
            closest, least = position, lacking
        if not least:
            break
    return closest


def lack(plane: VolumeReader, specs: Sequence[CropSpec]) -> float:
    """How far a slice is from having something to see; 0: it has."""
    codes = plane.codes([0] * len(plane.shape), plane.shape)
    ruled = [spec for spec in specs if not spec.tissue.accepts_all]
    if not ruled:
        return max(0.0, LEAST - codes.share_above(FOREGROUND))
    rules = [of_whole(spec, plane.shape) for spec in ruled]
    return max(rule.shortfall(codes.share_above(rule.threshold)) for rule in rules)


def of_whole(spec: CropSpec, shape: Sequence[int]) -> Tissue:
    """What a crop's tissue rule asks of the whole image: that its smallest box could keep it somewhere."""
    share = smallest_box(spec, shape) / math.prod(shape)
    rule = spec.tissue
    return Tissue(
        threshold=rule.threshold, at_least=rule.at_least * share, at_most=1 - (1 - rule.at_most) * share
    )


def smallest_box(spec: CropSpec, shape: Sequence[int]) -> float:
    """Voxels of the smallest box that the crop draws."""
    if spec.source_sizes:
        return min(math.prod(map(min, size, shape)) for size in spec.source_sizes)
    if any(spec.grid_scale):
        return math.prod(min(spec.grid_scale[0] * n, size) for n, size in zip(spec.grid, shape, strict=True))
    return spec.volume_share[0] * math.prod(shape)


def drawing_order(specs: Mapping[str, CropSpec]) -> list[str]:
    """Crop names such that a crop comes after the one it lies inside.

    Raises:
        FoveateError: when `inside` names no crop, or crops lie inside each other.
    """
    order: list[str] = []
    while waiting := [name for name in specs if name not in order]:
        ready = [name for name in waiting if not specs[name].inside or specs[name].inside in order]
        if not ready:
            raise FoveateError(
                f"crop {waiting[0]!r}: inside={specs[waiting[0]].inside!r} must be empty or name another "
                f"crop that does not depend on it, one of {sorted(set(specs) - {waiting[0]})}."
            )
        order += ready
    return order
