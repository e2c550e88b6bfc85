"""Arrays of a data set in Python as a cache, of which a run reads as of any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from foveate.core.dims import LAYERS
from foveate.core.types import FoveateError, Volume
from foveate.data.cache.complete import forget_complete, write_complete
from foveate.data.cache.index import VOLUMES, CacheEntry, append_entry, read_entries, salted_id, stamped
from foveate.data.cache.prepare import claim, regridded
from foveate.data.cache.profiles import PrepareConfig, UnusableError, profile_of
from foveate.data.cache.store import check_format, disk_errors
from foveate.data.cache.writing import Target, write_volume
from foveate.data.readers.channels import voxel_hash
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.values import check_values
from foveate.data.salts import read_salt

IMAGE, SPACING = "image", "spacing_mm"
Item = tuple[ArrayLike, Sequence[float]] | Mapping[str, ArrayLike]


class ArrayDataset(Protocol):
    """A map-style data set, such as those of torch: `dataset[i]` is (array, spacing in mm).

    Or a mapping with "image" and "spacing_mm". The array has an axis for each spacing, (x, y) or (x, y, z) in
    RAS+ order, with an axis of channels before them where the image has several.
    """

    def __len__(self) -> int:
        """How many images there are."""

    def __getitem__(self, position: int, /) -> Item:
        """One of them."""


def volume_of(item: Item, position: int) -> Volume:
    """An item as a decoded image.

    >>> volume_of((np.ones((4, 3)), (0.5, 0.5)), 0).array.shape
    (1, 4, 3)
    """
    try:
        found = (item[IMAGE], item[SPACING]) if isinstance(item, Mapping) else tuple(item)
        array, spacing = np.asarray(found[0]), [float(mm) for mm in np.asarray(found[1]).ravel()]
    except (KeyError, IndexError, TypeError, ValueError):
        raise FoveateError(
            f"data[{position}] is {type(item).__name__}; accepted: (array, spacing in mm for each axis), "
            f'or a mapping with "{IMAGE}" and "{SPACING}".'
        ) from None
    axes, channels = len(spacing), array.ndim - len(spacing)
    if axes not in LAYERS or channels not in (0, 1) or not all(mm > 0 for mm in spacing):
        raise FoveateError(
            f"data[{position}]: an array of shape {array.shape} with the spacing {spacing}; accepted: (x, y) "
            "or (x, y, z), after an axis of channels or without one, and a positive spacing for each."
        )
    if array.dtype.kind not in "buif":
        raise FoveateError(f"data[{position}]: values of type {array.dtype}; accepted are numbers.")
    sizes = (*spacing, *[1.0] * (3 - axes))
    return Volume(
        array=array if channels else array[np.newaxis],
        affine=np.diag([*sizes, 1.0]),
        spacing_mm=tuple(spacing),
        bits=8 if array.dtype == np.uint8 else 16,
    )


def write_arrays(
    data: ArrayDataset, cache: Path, config: PrepareConfig, show: Callable[[int, int], None]
) -> list[str]:
    """Bring a cache up to date with a data set, item by item; why each excluded item cannot be used.

    Every item is asked for each time; one that is in the cache already is not written again.
    """
    check_format(config.format)
    rejects, kept = list[str](), list[CacheEntry]()
    with disk_errors(cache):
        (cache / VOLUMES).mkdir(parents=True, exist_ok=True)
        claim(cache, config)
        forget_complete(cache)
        salt, known = read_salt(cache), read_entries(cache)
        for position in range(len(data)):
            volume, key = volume_of(data[position], position), salted_id(salt, f"item {position}")
            seen = blake2b(f"{voxel_hash(volume.array)} {volume.spacing_mm}".encode(), digest_size=7).digest()
            stamp = stamped(salt, (volume.array.nbytes, int.from_bytes(seen, "big")))
            target = Target(cache=cache, key=key, salt=salt, fingerprint=stamp)
            try:
                check_values(volume.array, as_map=False, flat=True)
                entry = known.get(key)
                if entry is None or entry.fingerprint != stamp:
                    entry = written(volume, target, config)
            except (RefusalError, UnusableError) as error:
                rejects.append(f"data[{position}]: {error}")
            else:
                kept.append(entry)
            show(position + 1, len(data))
        if not kept:
            why = "; ".join(rejects[:3])
            raise FoveateError(f"data: none of its {len(rejects)} images can be used. {why}")
        write_complete(cache, kept)
    return rejects


def written(volume: Volume, target: Target, config: PrepareConfig) -> CacheEntry:
    """The entry of an image that is new in the cache."""
    profile = profile_of("", config)
    gridded, _ = regridded(volume, {}, profile, config)
    entry = write_volume(target, gridded, profile, config)
    entry = replace(entry, voxel_hash=voxel_hash(volume.array))
    append_entry(target.cache, entry)
    return entry
