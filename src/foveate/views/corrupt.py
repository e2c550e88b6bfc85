"""Corruptions of context: exact patch swap, local shuffling, painted boxes and cut-out.

The swap is Context Restoration and PCRLv2's corruption in 3D; shuffling and painting are Models Genesis.
Draws are NumPy arrays per sample, a batch of them is applied at once on the device; only the order of
shuffled voxels is drawn in bulk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.types import FoveateError


def draw_swaps(
    rng: np.random.Generator,
    shape: Sequence[int],
    patch: Sequence[int],
    count: int,
    *,
    overlaps: bool = False,
) -> NDArray[np.int64]:
    """Positions of `count` pairs of disjoint patches, uniform over all such pairs: (count, 2, n).

    With `overlaps` only equal positions are refused and the last one of each axis is never drawn, as in the
    published code: a swap of overlapping patches loses voxels.

    Raises:
        FoveateError: when no two patches of that size are disjoint in a view of that shape.
    """
    _check_patch(shape, patch)
    positions = np.maximum(1, np.asarray(shape) - np.asarray(patch) + (0 if overlaps else 1))
    apart = np.ones_like(positions) if overlaps else np.asarray(patch)
    found = np.empty((0, 2, len(positions)), dtype=np.int64)
    while len(found) < count:
        pairs = rng.integers(0, positions, size=(max(64, 2 * count), 2, len(positions)))
        disjoint = (np.abs(pairs[:, 0] - pairs[:, 1]) >= apart).any(1)
        found = np.concatenate([found, pairs[disjoint]])
    return found[:count]


def draw_sizes(
    rng: np.random.Generator,
    shape: Sequence[int],
    smallest: Sequence[int],
    largest: Sequence[int],
    count: int,
) -> NDArray[np.int64]:
    """A patch size per swap, every axis uniform in its own range: (count, n).

    Raises:
        FoveateError: when the largest patch has no two disjoint places, or a range is empty.
    """
    _check_patch(shape, largest)
    if len(smallest) != len(largest) or not all(0 < a <= b for a, b in zip(smallest, largest, strict=True)):
        raise FoveateError(
            f"swap_patch {tuple(smallest)} to swap_patch_largest {tuple(largest)} is no range of sizes: "
            f"accepted are {len(shape)} numbers each, from 1 up to the largest."
        )
    return rng.integers(smallest, np.asarray(largest) + 1, size=(count, len(shape)))


def draw_sized_swaps(
    rng: np.random.Generator, shape: Sequence[int], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions of two disjoint patches of every size (count, n), uniform over such pairs: (count, 2, n)."""
    places = np.asarray(shape) - sizes + 1
    pairs = rng.integers(0, places[:, None], size=(len(sizes), 2, len(shape)))
    while len(touching := np.flatnonzero((np.abs(pairs[:, 0] - pairs[:, 1]) < sizes).all(1))):
        again = (len(touching), 2, len(shape))
        pairs[touching] = rng.integers(0, places[touching][:, None], size=again)
    return pairs


def swap_map(
    shape: Sequence[int], patch: Sequence[int] | NDArray[np.int64], swaps: NDArray[np.int64]
) -> NDArray[np.int32]:
    """The flat index each voxel is taken from after all swaps in turn: (*S), chains included.

    Args:
        shape: of the view.
        patch: one size for all swaps (n,), or one for each (count, n).
        swaps: positions (count, 2, n).
    """
    source = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    sizes = np.broadcast_to(np.asarray(patch), (len(swaps), len(shape))).tolist()
    for (first, second), size in zip(swaps.tolist(), sizes, strict=True):
        a = tuple(slice(i, i + p) for i, p in zip(first, size, strict=True))
        b = tuple(slice(i, i + p) for i, p in zip(second, size, strict=True))
        kept = source[a].copy()  # a view of `source` would be overwritten by the next line
        source[a] = source[b]
        source[b] = kept
    return source


def swap_patches(images: Tensor, maps: Tensor) -> Tensor:
    """Take every voxel of (B, C, *S) from where the maps (B, *S) say, the same in all channels."""
    index = maps.to(images.device).flatten(1)[:, None]
    wide = index.dtype if images.numel() <= torch.iinfo(index.dtype).max else torch.int64
    first = torch.arange(0, images.numel(), index.shape[2], dtype=wide, device=images.device)
    index = index + first.reshape(*images.shape[:2], 1)  # one long line: faster than a gather per image
    return images.flatten().index_select(0, index.flatten()).reshape(images.shape)


def moved_voxels(maps: Tensor) -> Tensor:
    """Where swap maps (B, *S) changed the image: bool (B, *S)."""
    still = torch.arange(maps[0].numel(), device=maps.device).reshape(maps.shape[1:])
    return maps != still


def shuffle_maps(windows: Tensor, offsets: Tensor, shares: Tensor, tickets: Tensor, order: Tensor) -> Tensor:
    """The flat index each voxel is taken from when voxels change places inside small windows: (B, *S).

    The view is tiled by windows, of which a share is shuffled. They do not overlap, so that all of them are
    shuffled at once, by sorting.

    Args:
        windows: size of the tiles (B, n).
        offsets: by how much the tiling is shifted (B, n), each from 0 to the size less 1.
        shares: of the tiles that are shuffled (B,).
        tickets: uniform numbers (B, *S): tile t is shuffled where number t is below the share.
        order: uniform numbers (B, *S) that decide the new places inside a tile.
    """
    tiles = _tile_numbers(windows, offsets, order.shape[1:]).flatten(1)
    here = torch.arange(tiles.shape[1], device=order.device).expand_as(tiles)
    shuffled = tickets.flatten(1).gather(1, tiles) < shares.to(tickets)[:, None]
    mixed = torch.where(shuffled, order.flatten(1).double(), here.double()).argsort(1)
    source = mixed.gather(1, tiles.gather(1, mixed).argsort(stable=True, dim=1))
    target = tiles.argsort(stable=True, dim=1)
    return torch.empty_like(tiles).scatter_(1, target, source).reshape(order.shape)


def _tile_numbers(windows: Tensor, offsets: Tensor, shape: Sequence[int]) -> Tensor:
    """Which tile holds each voxel: (B, *S), counted from 0 without reaching the number of voxels."""
    numbers = windows.new_zeros(len(windows), *[1] * len(shape))
    for axis, size in enumerate(shape):
        steps = torch.arange(size, device=windows.device) + offsets[:, axis, None]
        along = steps // windows[:, axis, None]  # (B, S_axis)
        line = along.reshape(len(windows), *[size if i == axis else 1 for i in range(len(shape))])
        numbers = numbers * (along[:, -1].reshape(-1, *[1] * len(shape)) + 1) + line
    return numbers


def draw_windows(
    rng: np.random.Generator, shape: Sequence[int], sizes: tuple[float, float], most: int
) -> NDArray[np.bool_]:
    """A mask (*S) of 1 to `most` boxes whose sides are shares of the view in the range `sizes`."""
    mask = np.zeros(shape, dtype=np.bool_)
    for _ in range(rng.integers(1, most + 1)):
        size = np.clip(np.rint(rng.uniform(*sizes, len(shape)) * shape), 1, shape).astype(np.int64)
        low = rng.integers(0, np.asarray(shape) - size + 1)
        mask[tuple(slice(a, a + b) for a, b in zip(low.tolist(), size.tolist(), strict=True))] = True
    return mask


def paint(images: Tensor, masks: Tensor, values: Tensor) -> Tensor:
    """Set (B, C, *S) to the sample's value (B,) where the masks (B, *S) are true, in all channels."""
    value = values.to(images).reshape(-1, *[1] * (images.ndim - 1))
    return torch.where(masks.to(images.device)[:, None], value, images)


def draw_holes(
    rng: np.random.Generator, shape: Sequence[int], size: Sequence[int], count: int
) -> NDArray[np.bool_]:
    """A mask (*S) with `count` boxes of `size`, uniform over all positions inside the view; they may overlap.

    Raises:
        FoveateError: when a box does not fit into the view.
    """
    if len(size) != len(shape) or not all(0 < p <= s for p, s in zip(size, shape, strict=True)):
        raise FoveateError(
            f"cutout_size {tuple(size)} does not fit a view of {tuple(shape)}: accepted are {len(shape)} "
            f"numbers, each between 1 and the view's size on that axis."
        )
    mask = np.zeros(shape, dtype=np.bool_)
    for low in rng.integers(0, np.asarray(shape) - np.asarray(size) + 1, size=(count, len(shape))).tolist():
        mask[tuple(slice(i, i + p) for i, p in zip(low, size, strict=True))] = True
    return mask


def cut_out(images: Tensor, masks: Tensor) -> Tensor:
    """Set (B, C, *S) to 0 where the masks (B, *S) are true, in all channels."""
    return images.masked_fill(masks.to(images.device)[:, None], 0.0)


def _check_patch(shape: Sequence[int], patch: Sequence[int]) -> None:
    fits = len(patch) == len(shape) and all(0 < p <= s for p, s in zip(patch, shape, strict=True))
    if not fits or not any(2 * p <= s for p, s in zip(patch, shape, strict=True)):
        raise FoveateError(
            f"swap_patch {tuple(patch)} has no two disjoint places in a view of {tuple(shape)}: accepted are "
            f"{len(shape)} numbers, each between 1 and the view's size, one of them at most half of it."
        )
