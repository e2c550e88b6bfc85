"""Slices of a cached volume: how it is cut, and each read as an image of two axes. Nothing is stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, final

import numpy as np

from foveate.core.codes import Codes
from foveate.core.contracts import VolumeReader
from foveate.core.types import Array, FoveateError

SAME_LENGTH = 0.99  # voxel sides whose ratio is above it are equally long
MOST_NEIGHBOURS = 32


@dataclass(frozen=True, kw_only=True)
class SlicesConfig:
    """How volumes are seen by a run whose `dimension` is 2: as slices.

    Attributes:
        axis: The axis that slices lie across: x, y or z, or "auto": in each volume the axis along which its
            voxels are longest, z where that is not clear.
        neighbours: Slices on either side that are seen with each one, as further channels; beyond the ends
            of a volume its last slice is repeated.
    """

    axis: Literal["auto", "x", "y", "z"] = "auto"
    neighbours: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.neighbours <= MOST_NEIGHBOURS:
            raise FoveateError(f"slices.neighbours {self.neighbours}: accepted are 0 to {MOST_NEIGHBOURS}.")

    def cut(self, spacing_mm: Sequence[float]) -> Cut:
        """How a volume with voxels of this size is cut.

        >>> SlicesConfig().cut((1.0, 1.0, 5.0)), SlicesConfig().cut((4.0, 1.0, 1.0))
        (Cut(axis=2, neighbours=0), Cut(axis=0, neighbours=0))
        """
        if self.axis != "auto":
            return Cut("xyz".index(self.axis), self.neighbours)
        long = [i for i, mm in enumerate(spacing_mm) if mm >= SAME_LENGTH * max(spacing_mm)]
        return Cut(long[-1], self.neighbours)


class Cut(NamedTuple):
    """How one volume is cut into slices."""

    axis: int
    neighbours: int = 0  # on either side

    @property
    def depth(self) -> int:
        """Slices that are seen at once."""
        return 2 * self.neighbours + 1

    def across(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Of values for three axes, those of the slices' own two."""
        return tuple(value for i, value in enumerate(values) if i != self.axis)


@final
class Planes:
    """All slices of a volume, made when they are asked for, as `core.contracts.Slices`."""

    __slots__ = ("cut", "volume")

    def __init__(self, volume: VolumeReader, cut: Cut) -> None:
        self.volume, self.cut = volume, cut

    @property
    def axis(self) -> int:
        """The axis of the volume that they lie across."""
        return self.cut.axis

    def __len__(self) -> int:
        return self.volume.shape[self.cut.axis]

    def __getitem__(self, position: int) -> Plane:
        if not 0 <= position < len(self):
            raise IndexError(position)
        return Plane(self.volume, self.cut, position)


@final
class Plane:
    """One slice, as `core.contracts.VolumeReader`.

    Its channels are those of the volume, each with its neighbours along the axis beside it: channel c of
    neighbour j in -k..k is number c * (2k + 1) + k + j.
    """

    __slots__ = ("cut", "position", "volume")
    planes: None = None  # it is seen as it is

    def __init__(self, volume: VolumeReader, cut: Cut, position: int) -> None:
        self.volume, self.cut, self.position = volume, cut, position

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, without channels."""
        return self.cut.across(self.volume.shape)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Size of a voxel along both axes."""
        return self.cut.across(self.volume.spacing_mm)

    def read(self, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) as float32 (C, *window) with values in [0, 1]."""
        return self.codes(low, high).values()

    def codes(self, low: Sequence[int], high: Sequence[int]) -> Codes:
        """The same window as it is stored, of the slice and its neighbours."""
        wanted = np.arange(self.cut.depth) + self.position - self.cut.neighbours
        wanted = wanted.clip(0, self.volume.shape[self.cut.axis] - 1)  # beyond the ends the last is repeated
        first, end = int(wanted[0]), int(wanted[-1]) + 1
        found = self.volume.codes(self._inserted(low, first), self._inserted(high, end))
        stack = np.moveaxis(found.array, self.cut.axis + 1, 1)  # (C, slices, *window)
        if self.cut.neighbours:
            stack = stack[:, wanted - first]
            return replace(found, array=stack.reshape(-1, *stack.shape[2:]))
        return replace(found, array=stack[:, 0])

    @property
    def focus(self) -> tuple[int, ...]:
        """None of its own: that of the volume has chosen the slice."""
        return ()

    @property
    def map_names(self) -> Collection[str]:
        """The integer maps of the volume."""
        return self.volume.map_names

    def read_map(self, name: str, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) of a map, integers (*window): of the slice alone."""
        inside = self._inserted(low, self.position), self._inserted(high, self.position + 1)
        return np.asarray(np.take(self.volume.read_map(name, *inside), 0, axis=self.cut.axis))

    def places(self, name: str) -> Array:
        """Those of the volume's places that lie in the slice, rows (value, *voxel)."""
        rows = self.volume.places(name)
        inside = rows[rows[:, 1 + self.cut.axis] == self.position]
        return np.delete(inside, 1 + self.cut.axis, axis=1)

    def _inserted(self, values: Sequence[int], number: int) -> list[int]:
        axis = self.cut.axis
        return [*values[:axis], number, *values[axis:]]
