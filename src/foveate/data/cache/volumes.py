"""Prepared volumes on disk, read by windows through memory maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, final, overload

import numpy as np

from foveate.core.codes import Codes
from foveate.core.types import Array, ChannelStatistics, FoveateError, Place
from foveate.data.cache.complete import Table, complete_entries, data_hash
from foveate.data.cache.encoding import Histogram, channelwise, counted, windowed
from foveate.data.cache.index import CacheEntry, MapEntry
from foveate.data.cache.planes import Cut, Planes, SlicesConfig
from foveate.data.cache.profiles import earlier_note, is_of_before
from foveate.data.cache.statistics import statistics_of
from foveate.data.cache.store import open_array, read_window
from foveate.data.order import Mix

SLAB = 32  # planes that are counted at once


@final
class CachedVolume:
    """One volume of a cache, as `core.contracts.VolumeReader`.

    Holds no open file, so that it can be sent to a worker. `relative` is the source's path for messages
    on the terminal, `labels` the values of the whole image: neither is ever stored.
    """

    __slots__ = ("cut", "entry", "focus", "folder", "labels", "patient", "relative")

    def __init__(
        self,
        folder: Path,
        entry: CacheEntry,
        relative: str = "",
        labels: Mapping[str, Any] | None = None,
        patient: str = "",
        cut: Cut | None = None,
        focus: tuple[int, ...] = (),
    ) -> None:
        self.folder, self.entry, self.relative, self.patient = folder, entry, relative, patient
        self.labels, self.cut, self.focus = dict(labels or {}), cut, focus

    def replaced(
        self,
        *,
        entry: CacheEntry | None = None,
        labels: Mapping[str, Any] | None = None,
        cut: Cut | None = None,
        focus: tuple[int, ...] = (),
    ) -> CachedVolume:
        """The same volume with what is given in place of its own."""
        return CachedVolume(
            self.folder,
            entry or self.entry,
            self.relative,
            self.labels if labels is None else labels,
            self.patient,
            cut or self.cut,
            focus or self.focus,
        )

    def focused(self, voxel: Sequence[int]) -> CachedVolume:
        """The same, of which every crop shows the surroundings of this voxel, and no map is cut for it."""
        return self.replaced(focus=tuple(voxel))

    def __repr__(self) -> str:
        return f"CachedVolume(id={self.entry.id!r}, shape={self.entry.shape})"  # no name: this reaches logs

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, without channels."""
        return self.entry.shape[1:]

    @property
    def channels(self) -> int:
        """Number of channels of what a network sees."""
        return self.entry.shape[0] * (self.cut.depth if self.cut else 1)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Size of a voxel along each axis."""
        return self.entry.spacing_mm

    @property
    def place(self) -> Place:
        """What turns a voxel into a share of the image."""
        return Place(extent=self.shape, spacing_mm=self.spacing_mm)

    @property
    def affine(self) -> Array:
        """Voxel index to millimetres (RAS+), (4, 4)."""
        return np.array(self.entry.affine)

    def listed_boxes(self, name: str) -> Array | None:
        """Boxes that a map is painted from, rows (value, *centre, *size) in mm; None: it is a label map."""
        found = self.map_entry(name).boxes
        return None if found is None else np.reshape(found, (-1, 1 + 2 * len(self.shape)))

    @property
    def statistics(self) -> tuple[ChannelStatistics, ...]:
        """Of every channel; counted here and now where an earlier version has written the entry."""
        return self.entry.statistics or statistics_of(self.histograms())

    def histograms(self) -> list[Histogram]:
        """How often each value occurs in each channel, counted in slabs."""
        entry = self.entry
        codes = open_array(self.folder / entry.file, entry.checksum or entry.content_hash)
        axis = entry.axes[0] if entry.axes else 0
        slabs = (np.asarray(codes[:, at : at + SLAB]) for at in range(0, self.shape[axis], SLAB))
        return counted(slabs, scale=entry.scale, offset=entry.offset)

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Spatial shape of what a network sees at once: the volume, or a slice of it."""
        return self.cut.across(self.shape) if self.cut else self.shape

    @property
    def view_spacing_mm(self) -> tuple[float, ...]:
        """Size of a voxel along each axis of that."""
        return self.cut.across(self.spacing_mm) if self.cut else self.spacing_mm

    @property
    def planes(self) -> Planes | None:
        """The slices that a network sees one by one; None: it sees the whole."""
        return Planes(self, self.cut) if self.cut else None

    def read(self, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) as float32 (C, *window), the intensity window mapped to [0, 1].

        Raises:
            ValueError: when the window is empty or leaves the volume.
        """
        return self.codes(low, high).values()

    def codes(self, low: Sequence[int], high: Sequence[int]) -> Codes:
        """The same window as it is stored: a view of a mapped file where it is one."""
        _check_window(low, high, self.shape)
        entry = self.entry
        array = open_array(self.folder / entry.file, entry.checksum or entry.content_hash)
        window = read_window(array, entry.axes, low, high, channels=True)  # (C, *window)
        if entry.windows:
            return channelwise(window, entry.windows, scale=entry.scale, offset=entry.offset)
        return windowed(window, scale=entry.scale, offset=entry.offset, low=entry.low, high=entry.high)

    @property
    def map_names(self) -> Collection[str]:
        """The integer maps on the volume's grid that are cut with its crops."""
        return () if self.focus else tuple(each.name for each in self.entry.maps)

    def read_map(self, name: str, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) of a map, integers (*window)."""
        _check_window(low, high, self.shape)
        found = self.map_entry(name)
        codes = open_array(self.folder / found.file, found.checksum or found.content_hash)
        return read_window(codes, found.axes, low, high, channels=False)

    def places(self, name: str) -> Array:
        """Some voxels of every value but 0 of a map, rows (value, *voxel)."""
        found = self.map_entry(name)
        return np.asarray(open_array(self.folder / found.places, found.content_hash))

    def map_entry(self, name: str) -> MapEntry:
        """What is known of one map."""
        for each in self.entry.maps:
            if each.name == name:
                return each
        raise FoveateError(f"{self.relative or self.entry.id} has no map {name!r}; it has {self.map_names}.")


def _check_window(low: Sequence[int], high: Sequence[int], shape: tuple[int, ...]) -> None:
    fits = len(low) == len(high) == len(shape) and all(
        0 <= first < end <= size for first, end, size in zip(low, high, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"The window [{tuple(low)}, {tuple(high)}) is empty or leaves the volume {shape}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A source file that was excluded; `relative` is for the terminal only."""

    relative: str
    reason: str


@final
class Cache:
    """Volumes in the order of the records they come from."""

    def __init__(
        self,
        volumes: Sequence[CachedVolume],
        rejects: Sequence[Reject] = (),
        notes: Sequence[str] = (),
        mix: Mix | None = None,
    ) -> None:
        self.volumes = volumes if isinstance(volumes, Volumes) else tuple(volumes)
        self.rejects = tuple(rejects)
        self.notes = tuple(notes)  # what the terminal should say; they may hold a part of file names
        self.mix = mix  # of several data sets, whose volumes follow each other; None: there is one
        _check_alike(kinds_of(self.volumes))

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, position: int) -> CachedVolume:
        return self.volumes[position]

    def __iter__(self) -> Iterator[CachedVolume]:
        return iter(self.volumes)

    def sliced(self, slices: SlicesConfig) -> Cache:
        """The same volumes, seen slice by slice."""
        cut = [volume.replaced(cut=slices.cut(volume.spacing_mm)) for volume in self.volumes]
        return Cache(cut, self.rejects, self.notes, self.mix)

    def only(self, keep: Sequence[bool]) -> Cache:
        """Some of the volumes, of every data set at least one."""
        mix = self.mix.kept(keep) if self.mix else None
        for each in mix.sets if mix else ():
            if not each.images:
                raise FoveateError(
                    f"data set {each.name}: none of its images is left; accepted: at least one."
                )
        kept = [volume for volume, wanted in zip(self, keep, strict=True) if wanted]
        return Cache(kept, self.rejects, self.notes, mix)

    @property
    def channels(self) -> int:
        """Channels of every volume."""
        return self.volumes[0].channels

    @property
    def data_hash(self) -> str:
        """A hash of the voxels alone: the same data have it under other names, salts and orders."""
        if isinstance(self.volumes, Prepared):
            return self.volumes.table.data_hash
        hashes = (volume.entry.content_hash for volume in self.volumes)
        if self.mix:
            return data_hash(
                f"{each.name} {data_hash(islice(hashes, each.images))}" for each in self.mix.sets
            )
        return data_hash(hashes)


class Volumes(Sequence[CachedVolume]):
    """Volumes that are made when they are asked for."""

    @abstractmethod
    def at(self, position: int) -> CachedVolume:
        """The volume of one position."""

    @property
    @abstractmethod
    def of_each_kind(self) -> Sequence[CachedVolume]:
        """Enough of them to know which channels and axes there are."""

    @overload
    def __getitem__(self, position: int) -> CachedVolume: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[CachedVolume]: ...
    def __getitem__(self, position: int | slice) -> CachedVolume | Sequence[CachedVolume]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        return self.at(position)


@final
class Prepared(Volumes):
    """The images of a finished cache, without their maps, each known when it is asked for."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def at(self, position: int) -> CachedVolume:
        """The volume of one position."""
        return _alone(self.table.path.parent, self.table[position])

    def __iter__(self) -> Iterator[CachedVolume]:
        return (_alone(self.table.path.parent, entry) for entry in self.table)

    @property
    def of_each_kind(self) -> Sequence[CachedVolume]:
        """The first volume of all, and the first ones with other channels or axes."""
        return [self[position] for position in self.table.kinds]


def kinds_of(volumes: Sequence[CachedVolume]) -> Sequence[CachedVolume]:
    """Enough volumes to know which channels and axes there are."""
    return volumes.of_each_kind if isinstance(volumes, Volumes) else volumes


def _alone(folder: Path, entry: CacheEntry) -> CachedVolume:
    return CachedVolume(folder, replace(entry, maps=()))


def open_prepared(folder: Path) -> Cache:
    """The images of a finished cache, without the sources that they were made from and without their maps.

    Takes the same time and memory whatever their number, except in format 4. Whether all files are there is
    said by `complete.refuse_incomplete`.

    Raises:
        FoveateError: when it is unfinished.
    """
    entries = complete_entries(folder)
    volumes = Prepared(entries) if isinstance(entries, Table) else [_alone(folder, each) for each in entries]
    return Cache(volumes, notes=[earlier_note(folder)] if is_of_before(folder) else [])


def _check_alike(volumes: Sequence[CachedVolume]) -> None:
    if not volumes:
        raise FoveateError("The cache holds no volume; prepare at least one image.")
    first = volumes[0]
    for volume in volumes:
        facts = [(v.channels, len(v.shape), v.cut is None) for v in (first, volume)]
        if facts[0] != facts[1]:
            raise FoveateError(
                "All images of a run need the same number of channels and axes, but "
                f"{first.relative or first} has shape {first.entry.shape} (channels first) and "
                f"{volume.relative or volume} has {volume.entry.shape}."
            )
