"""How well a position says what is seen there: whether images of different patients are aligned.

Every image is seen on a coarse grid over its whole extent, z-scored. What the mean of the *other* patients
explains of a patient's grid is compared with the same after every grid was shifted around and mirrored at
random: images in which position means nothing read 0, images that are all the same 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import final

import numpy as np

from foveate.core.rng import stream
from foveate.core.types import Array, Json
from foveate.data.cache.volumes import Cache, CachedVolume

GRID = 6  # cells along each axis
VOXELS = 64  # of a cell that are looked at
MOST = 64  # patients
LOOKED_THROUGH = 4 * MOST  # images among which patients are found: a cache may hold a million
FEWEST = 4  # patients
SHIFTS = 19
THRESHOLD = 0.18  # centred cubes of lung have 0.10, cine MR of hearts 0.26 (docs/methods/foveate.md)


@final
@dataclass(frozen=True, kw_only=True)
class Position:
    """What was measured.

    Attributes:
        explained: Share of the variance of appearance, beyond chance; 0 where it is less.
        chance: The largest share that shifted images reach.
        patients: How many were looked at, one image each.
        known: Whether the patients are known; else every image counts as one.
    """

    explained: float
    chance: float
    patients: int
    known: bool

    @property
    def aligned(self) -> bool:
        """Whether the same position shows like things in different patients."""
        return self.patients >= FEWEST and self.explained >= THRESHOLD and self.explained > self.chance

    @property
    def sentence(self) -> str:
        """For a log."""
        whom = f"{self.patients} {'patients' if self.known else 'images, patients unknown'}"
        if self.patients < FEWEST:
            return f"position: {whom}; it takes {FEWEST} to see whether it explains appearance"
        return f"position explains {self.explained:.2f} of appearance across {whom}"

    def as_json(self) -> dict[str, Json]:
        """For a file."""
        return asdict(self)


def measure(cache: Cache) -> Position:
    """The statistic of some images of a cache, evenly chosen, one for each patient."""
    chosen, known = one_of_each(cache)
    if len(chosen) < FEWEST:
        return Position(explained=0.0, chance=0.0, patients=len(chosen), known=known)
    grids = np.stack([grid_of(volume) for volume in chosen])
    shares = np.array([explained(shifted(grids, i)) for i in range(SHIFTS)])
    chance = float(shares.mean())
    found = (explained(grids) - chance) / (1 - chance)
    highest = (float(shares.max()) - chance) / (1 - chance)
    return Position(explained=max(0.0, found), chance=highest, patients=len(chosen), known=known)


def one_of_each(cache: Cache) -> tuple[list[CachedVolume], bool]:
    """An image of each of at most `MOST` patients, and whether these are known."""
    looked = min(len(cache), LOOKED_THROUGH)
    images = [cache[i * len(cache) // looked] for i in range(looked)]
    names = [volume.patient or volume.entry.patient for volume in images]
    firsts: dict[str, CachedVolume] = {}
    for name, volume in zip(names, images, strict=True):
        firsts.setdefault(name or f"image {volume.entry.id}", volume)
    every = list(firsts.values())
    count = min(len(every), MOST)
    return [every[i * len(every) // count] for i in range(count)], all(names)


def grid_of(volume: CachedVolume) -> Array:
    """Means of the cells of an image, (C, *[GRID] * n), of mean 0 and standard deviation 1 per channel."""
    axes = len(volume.shape)
    each = round(VOXELS ** (1 / axes))
    points = (np.arange(GRID * each) + 0.5) / (GRID * each)
    codes = volume.codes([0] * axes, volume.shape)
    index = np.ix_(range(codes.shape[0]), *((points * size).astype(int) for size in volume.shape))
    values = replace(codes, array=codes.array[index]).values().astype(np.float64)
    cells = values.reshape(len(values), *[GRID, each] * axes).mean(tuple(range(2, 2 + 2 * axes, 2)))
    whole = tuple(range(1, 1 + axes))
    cells -= cells.mean(whole, keepdims=True)
    spread = cells.std(whole, keepdims=True)
    return np.asarray(cells / np.where(spread > 0, spread, 1))


def explained(grids: Array) -> float:
    """The share of the grids' variance that the mean of the others explains; below 0 where it misleads."""
    others = (grids.sum(0) - grids) / (len(grids) - 1)
    total = float((grids**2).sum())
    return 1 - float(((grids - others) ** 2).sum()) / total if total else 0.0


def shifted(grids: Sequence[Array] | Array, number: int) -> Array:
    """The grids, each moved around its edges and mirrored at random: as smooth as before, not aligned."""
    moved = []
    for place, grid in enumerate(grids):
        rng, axes = stream(0, "position/shift", number, place), tuple(range(1, grid.ndim))
        turned = np.roll(grid, tuple(int(rng.integers(GRID)) for _ in axes), axes)
        moved.append(np.flip(turned, tuple(axis for axis in axes if rng.random() < 0.5)))
    return np.stack(moved)
