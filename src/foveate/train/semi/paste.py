"""Bidirectional copy-paste: of two windows, a box of each is pasted into the other.

The idea is that of Bai et al., "Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation"
(CVPR 2023). Samples 2k and 2k+1 of the global order are a pair, and the box is drawn for the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foveate.core.contracts import Draw
from foveate.core.rng import stream
from foveate.core.types import Batch


@dataclass(frozen=True, kw_only=True)
class PasteBoxes(Draw):
    """One box for each pair of samples.

    Attributes:
        crop: The kind of windows.
        share: Side of the box as a share of theirs.
    """

    crop: str
    share: float

    def draw(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """The lower corner of every pair's box, (B / 2, n)."""
        shape = batch["crops"][self.crop].shape[3:]
        room = np.subtract(shape, sides(shape, self.share)) + 1
        lows = [stream(seed, "paste", int(i)).integers(0, room) for i in batch["index"][::2]]
        return {"low": torch.from_numpy(np.stack(lows))}


def sides(shape: Sequence[int], share: float) -> list[int]:
    """Of a box in a window."""
    return [max(1, round(size * share)) for size in shape]


def box_masks(lows: Tensor, shape: Sequence[int], share: float) -> Tensor:
    """Where the boxes are, bool (B, *S), from their lower corners (B, n)."""
    inside = torch.ones(len(lows), *shape, dtype=torch.bool, device=lows.device)
    for axis, (size, side) in enumerate(zip(shape, sides(shape, share), strict=True)):
        place = torch.arange(size, device=lows.device)
        low = lows[:, axis, None]
        along = (place >= low) & (place < low + side)  # (B, size)
        inside &= along.view(len(lows), *(size if a == axis else 1 for a in range(len(shape))))
    return inside


def exchanged(values: Tensor, masks: Tensor) -> Tensor:
    """Rows (B, ...) of which each pair 2k, 2k+1 has exchanged what lies in its mask (B / 2, ...)."""
    first, second = values[::2], values[1::2]
    pair = (torch.where(masks, second, first), torch.where(masks, first, second))
    return torch.stack(pair, 1).flatten(0, 1)
