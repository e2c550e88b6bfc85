"""Volumes that are made of others when they are asked for: those of several caches, and places of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import final

from foveate.core.types import Array
from foveate.data.cache.volumes import CachedVolume, Volumes, kinds_of


@final
class Joined(Volumes):
    """The volumes of several caches, one after the other."""

    def __init__(self, parts: Sequence[Sequence[CachedVolume]]) -> None:
        self.parts = tuple(parts)
        self.ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def at(self, position: int) -> CachedVolume:
        """The volume of one position."""
        place = range(len(self))[position]
        part = bisect_right(self.ends, place)
        return self.parts[part][place - self.ends[part]]

    def __iter__(self) -> Iterator[CachedVolume]:
        return chain.from_iterable(self.parts)

    @property
    def of_each_kind(self) -> Sequence[CachedVolume]:
        """Those of every part."""
        return [each for part in self.parts for each in kinds_of(part)]


@final
class Places(Volumes):
    """Places of volumes: each is its volume, seen around that place alone.

    Row i of `rows` (N, 2 + n) is (number of the volume, number of the labels, *voxel).
    """

    def __init__(
        self, volumes: Sequence[CachedVolume], rows: Array, labels: Sequence[Mapping[str, float]]
    ) -> None:
        self.volumes, self.rows, self.labels = tuple(volumes), rows, tuple(labels)

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, position: int) -> CachedVolume:
        """The volume around the place of one position."""
        number, kind, *voxel = map(int, self.rows[position])
        return self.volumes[number].replaced(labels=self.labels[kind], focus=tuple(voxel))

    @property
    def of_each_kind(self) -> Sequence[CachedVolume]:
        """The volumes themselves."""
        return self.volumes
