"""Writes one image and its maps into a cache, and what its index says of them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.cache.encoding import Encoded, channel_histograms, encode, together
from foveate.data.cache.index import VOLUMES, CacheEntry, MapEntry, stamped
from foveate.data.cache.maps import places_of
from foveate.data.cache.profiles import PrepareConfig, Profile, foreground_windows, window_values
from foveate.data.cache.statistics import statistics_of
from foveate.data.cache.store import SUFFIXES, plane_first, write_array


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where one volume of the cache goes, and from which source."""

    cache: Path
    key: str
    salt: bytes
    fingerprint: tuple[int, int]


def write_map(
    target: Target,
    name: str,
    source: tuple[int, int],
    array: Array,
    image: Volume,
    boxes: Array | None = None,
) -> MapEntry:
    """A map on the grid of its image, with some places of every value, and the boxes it is painted from.

    `source` is its fingerprint.
    """
    fingerprint = stamped(target.salt, source)
    file, places = (f"{VOLUMES}/{target.key}.{name}{end}.npy" for end in ("", ".places"))
    axes = plane_first(image.spacing_mm)
    rows = write_array(target.cache / places, places_of(array, name))  # the key has a salt
    written = write_array(target.cache / file, array, axes)
    return MapEntry(
        name=name,
        file=file,
        file_bytes=written.file_bytes,
        places=places,
        values=tuple(np.unique(array).tolist()),
        content_hash=blake2b(array.data, digest_size=16).hexdigest(),
        source_bytes=fingerprint[0],
        source_stamp=fingerprint[1],
        axes=axes,
        checksum=written.checksum,
        places_checksum=rows.checksum,
        boxes=None if boxes is None else tuple(map(tuple, boxes.tolist())),
    )


def write_volume(target: Target, volume: Volume, profile: Profile, config: PrepareConfig) -> CacheEntry:
    """The codes of an image, and all that the index says of it."""
    encoded = encode(volume.array)
    channels = channel_histograms(encoded)
    counts = together(channels)
    statistics = statistics_of(channels)
    windows = foreground_windows(statistics) if config.window == "foreground" else ()
    low, high = windows[0] if windows else window_values(counts, profile, config)
    file = f"{VOLUMES}/{target.key}{SUFFIXES[config.format]}"
    axes = plane_first(volume.spacing_mm, config.format)
    written = write_array(target.cache / file, encoded.codes, axes)
    return CacheEntry(
        id=target.key,
        file=file,
        file_bytes=written.file_bytes,
        shape=encoded.codes.shape,
        spacing_mm=volume.spacing_mm,
        affine=tuple(tuple(row) for row in volume.affine.tolist()),
        dtype=encoded.codes.dtype.name,
        scale=encoded.scale,
        offset=encoded.offset,
        low=low,
        high=high,
        minimum=float(volume.array.min()),
        maximum=float(volume.array.max()),
        mean=counts.mean(),
        std=counts.std(),
        profile=profile,
        content_hash=content_hash(encoded, volume.spacing_mm),
        voxel_hash="",  # of what was read, which may be another array: the caller knows it
        source_bytes=target.fingerprint[0],
        source_stamp=target.fingerprint[1],
        maps=(),
        axes=axes,
        statistics=statistics,
        checksum=written.checksum,
        windows=windows if len(windows) > 1 else (),
    )


def content_hash(encoded: Encoded, spacing_mm: tuple[float, ...]) -> str:
    """A hash of an image as it is prepared, in its own order of axes."""
    digest = blake2b(digest_size=16)
    shape = encoded.codes.shape
    digest.update(repr((shape, encoded.scale, encoded.offset, spacing_mm)).encode())
    digest.update(np.ascontiguousarray(encoded.codes).data)
    return digest.hexdigest()
