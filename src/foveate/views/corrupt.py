"""Corruptions of context: exact patch swap (Context Restoration, PCRLv2 in 3D) and cut-out.

Every draw is a NumPy array per sample; a batch of them is applied at once on the device.
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


def swap_map(shape: Sequence[int], patch: Sequence[int], swaps: NDArray[np.int64]) -> NDArray[np.int64]:
    """The flat index each voxel is taken from after all swaps in turn: (*S), chains included."""
    source = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    for first, second in swaps.tolist():
        a = tuple(slice(i, i + p) for i, p in zip(first, patch, strict=True))
        b = tuple(slice(i, i + p) for i, p in zip(second, patch, strict=True))
        kept = source[a].copy()  # a view of `source` would be overwritten by the next line
        source[a] = source[b]
        source[b] = kept
    return source


def swap_patches(images: Tensor, maps: Tensor) -> Tensor:
    """Take every voxel of (B, C, *S) from where the maps (B, *S) say, the same in all channels."""
    index = maps.to(images.device).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).reshape(images.shape)


def moved_voxels(maps: Tensor) -> Tensor:
    """Where swap maps (B, *S) changed the image: bool (B, *S)."""
    still = torch.arange(maps[0].numel(), device=maps.device).reshape(maps.shape[1:])
    return maps != still


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
