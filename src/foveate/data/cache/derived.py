"""Derived inputs: integer maps that are computed once from every cached volume and kept beside it.

The file's name holds a hash of the configuration and of the voxels, and a file appears whole or not at all:
an interrupted computation goes on where it was, and another configuration never meets the maps of this one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import blake2b

import numpy as np

from foveate.core.contracts import DerivedSpec
from foveate.core.types import Array, Dataclass, FoveateError
from foveate.data.cache.index import VOLUMES, MapEntry
from foveate.data.cache.store import disk_errors, write_array
from foveate.data.cache.volumes import Cache, CachedVolume

VERSION = 1  # of the computations: raise it when one of them gives other maps


def with_derived(
    cache: Cache, specs: Mapping[str, DerivedSpec[Dataclass]], on_progress: Callable[[int, int], None]
) -> Cache:
    """The same volumes with one more map for each of `specs`, computed where it is not there yet."""
    volumes = list(cache.volumes)
    for name, spec in specs.items():
        for i, volume in enumerate(volumes):
            if name not in volume.map_names:
                with disk_errors(volume.folder):
                    volumes[i] = add_map(volume, name, spec)
            on_progress(i + 1, len(volumes))
    return Cache(volumes, cache.rejects, cache.notes, cache.mix)


def add_map(volume: CachedVolume, name: str, spec: DerivedSpec[Dataclass]) -> CachedVolume:
    """A volume with a derived map."""
    digest = derived_key(volume, name, spec)
    file = f"{VOLUMES}/{volume.entry.id}.{name}-{digest}.npy"
    path = volume.folder / file
    axes = volume.entry.axes
    if not path.exists():
        write_array(path, compute(volume, spec), axes)
    entry = MapEntry(
        name=name,
        file=file,
        file_bytes=path.stat().st_size,
        places="",
        values=(),
        content_hash=digest,
        source_bytes=0,
        source_stamp=0,
        axes=axes,
    )
    known = replace(volume.entry, maps=(*volume.entry.maps, entry))
    return volume.replaced(entry=known)


def derived_key(volume: CachedVolume, name: str, spec: DerivedSpec[Dataclass]) -> str:
    """What a map depends on: its configuration, the voxels, and the window they are seen through."""
    entry = volume.entry
    facts = [VERSION, name, asdict(spec.config), entry.content_hash, entry.low, entry.high, *entry.windows]
    facts += [entry.axes] if entry.axes else []  # none: the files of before
    if volume.cut:
        facts.append(f"slices across axis {volume.cut.axis}")
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


def compute(volume: CachedVolume, spec: DerivedSpec[Dataclass]) -> Array:
    """The map of one volume as 16-bit numbers where they suffice.

    Raises:
        FoveateError: when there is less in it than a method can use.
    """
    values = volume.read([0] * len(volume.shape), volume.shape)
    if volume.cut:
        found = by_slices(values, volume.cut.axis, volume.view_spacing_mm, spec)
    else:
        found = spec.compute(values, volume.spacing_mm, spec.config)
    count = len(np.unique(found[found > 0]))
    if count < spec.fewest:
        raise FoveateError(
            f"{volume.relative or volume.entry.id}: {count} regions were found in it; accepted: at least "
            f"{spec.fewest}. {spec.advice}"
        )
    return np.ascontiguousarray(found.astype(np.uint16 if found.max() < 65536 else np.int32))


def by_slices(values: Array, axis: int, spacing_mm: Sequence[float], spec: DerivedSpec[Dataclass]) -> Array:
    """The maps of all slices in one: each is computed on its own, and no two share a number but 0."""
    found = np.zeros(values.shape[1:], np.int32)
    planes, largest = np.moveaxis(found, axis, 0), 0
    for plane, seen in zip(planes, np.moveaxis(values, axis + 1, 0), strict=True):
        numbers = spec.compute(np.ascontiguousarray(seen), spacing_mm, spec.config)
        plane[...] = np.where(numbers > 0, numbers + largest, 0)
        largest = max(largest, int(plane.max()))
    return found
