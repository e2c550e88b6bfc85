"""Integer maps on an image's own grid: labels to learn from, regions computed once.

A map is cached beside its image as one memory-mapped array, together with a bounded number of places of
each value, so that a crop can be centred on a rare class without reading the volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.core.rng import stream
from foveate.core.types import Array, Region, Volume
from foveate.data.decoding.decoder import decode_map, decode_regions

SAME_PLACE_MM = 1e-3  # headers that differ by less describe the same grid
PLACES_PER_VALUE = 512


class UnusableMapError(Exception):
    """Why a map cannot be laid over its image."""


def read_map_of(path: Path, image: Volume, root: Path | None = None, regions: Sequence[Region] = ()) -> Array:
    """The map in `path` (*S) for `image`, as uint8 or int16; its header may not lead out of `root`.

    With `regions` it is painted from structures, in their order.

    Raises:
        UnusableMapError: when its grid is another one or its values are no 16-bit whole numbers.
        UnreadableImageError: when it cannot be read.
    """
    volume = decode_regions(regions, image) if regions else decode_map(path, root)
    _check_grid(volume, image)
    return as_integers(volume.array[0])


def _check_grid(volume: Volume, image: Volume) -> None:
    if len(volume.array) != 1:
        raise UnusableMapError(f"it has {len(volume.array)} channels; accepted: 1")
    shape, wanted = volume.array.shape[1:], image.array.shape[1:]
    if shape != wanted:
        raise UnusableMapError(f"its shape is {shape}, the image's {wanted}")
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(len(shape), -1)
    linear = (volume.affine - image.affine)[:3, : len(shape)]
    offset = (volume.affine - image.affine)[:3, 3:]
    apart = float(np.abs(linear @ corners + offset).max())
    if apart > SAME_PLACE_MM:
        raise UnusableMapError(
            f"its header lays it up to {apart:.3g} mm away from the image; accepted: {SAME_PLACE_MM} mm"
        )


def as_integers(array: Array) -> Array:
    """Whole numbers as uint8, or int16 where they need it."""
    low, high = array.min(), array.max()
    if not (low >= -32768 and high <= 32767) or not np.array_equal(array, np.rint(array)):
        raise UnusableMapError(f"its values, {low:g} to {high:g}, are not all 16-bit whole numbers")
    return np.ascontiguousarray(array.astype(np.uint8 if low >= 0 and high <= 255 else np.int16))


def places_of(array: Array, key: str) -> NDArray[np.int32]:
    """Up to `PLACES_PER_VALUE` voxels of every value but 0, evenly drawn: rows (value, *voxel)."""
    order = np.argsort(array.reshape(-1), kind="stable")
    values, first, count = np.unique(array.reshape(-1)[order], return_index=True, return_counts=True)
    rows = []
    for value, start, n in zip(values.tolist(), first.tolist(), count.tolist(), strict=True):
        if value == 0:
            continue
        rng = stream(0, f"places of {key}", value % 65536)
        chosen = order[start + np.sort(rng.permutation(n)[:PLACES_PER_VALUE])]
        voxels = np.stack(np.unravel_index(chosen, array.shape), 1)
        rows.append(np.concatenate([np.full((len(voxels), 1), value), voxels], 1))
    empty = np.zeros((0, 1 + array.ndim), dtype=np.int32)
    return np.concatenate(rows).astype(np.int32) if rows else empty
