"""From the maps of a detector, window by window, to the boxes of a whole image, within a bounded memory.

The network answers for cells of several voxels. A volume is read as cells, each with its voxels as channels:
the sliding window of `scoring.inference` averages answers cell by cell, and their slabs are as small as the
answer. A cell is a peak where none of its neighbours, corners included, is higher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.boxes.geometry import Boxes, joined
from foveate.core.boxes.suppression import suppressed
from foveate.core.contracts import VolumeReader
from foveate.core.dims import LAYERS
from foveate.core.types import Array
from foveate.scoring.inference import Pace, WindowConfig, sliding_window, sweep_axis

Places = TypeVar("Places", Tensor, NDArray[np.float64])
LARGEST = 12.0  # logarithm of a side in cells: beyond it a network has said nothing
MOST_PEAKS = 2000  # of an image, before overlapping boxes are suppressed


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakRule:
    """Which peaks become boxes.

    Attributes:
        classes: K, the first maps.
        stride: Voxels of a cell along every axis.
        least_score: Peaks below it are dropped.
        most_iou: Of boxes of one class that overlap by more, the surest is kept.
        most_boxes: The surest of an image that are kept.
    """

    classes: int
    stride: int
    least_score: float
    most_iou: float
    most_boxes: int


class Block(NamedTuple):
    """Answers (K + 2n, *S) for the cells from `start` on along an axis; planes [first, last) are asked."""

    maps: Tensor
    start: int
    first: int
    last: int


@final
class Cells:
    """A volume whose cells are read as voxels with more channels; mirrored along some axes."""

    def __init__(self, volume: VolumeReader, stride: int, mirrored: Sequence[int]) -> None:
        self.volume, self.stride, self.mirrored = volume, stride, tuple(mirrored)
        self.shape = tuple(-(-size // stride) for size in volume.shape)

    def read(self, low: Sequence[int], high: Sequence[int]) -> Array:
        """Cells [low, high) as (C * stride^n, *cells); voxels beyond the image are 0."""
        s, sizes = self.stride, self.volume.shape
        first = [a * s for a in low]
        end = [min(b * s, size) for b, size in zip(high, sizes, strict=True)]
        flipped = [
            (size - b, size - a) if axis in self.mirrored else (a, b)
            for axis, (a, b, size) in enumerate(zip(first, end, sizes, strict=True))
        ]
        values = self.volume.read([a for a, _ in flipped], [b for _, b in flipped])
        values = np.flip(values, tuple(axis + 1 for axis in self.mirrored)) if self.mirrored else values
        room = [(0, b * s - stop) for b, stop in zip(high, end, strict=True)]
        return folded(np.pad(values, [(0, 0), *room]), s)


def folded(values: Array, stride: int) -> Array:
    """Voxels (C, *S) as cells (C * stride^n, *S / stride).

    >>> folded(np.arange(4)[None], 2).tolist()
    [[0, 2], [1, 3]]
    """
    n = values.ndim - 1
    parts = [part for size in values.shape[1:] for part in (size // stride, stride)]
    split = values.reshape(len(values), *parts)
    inner, outer = [2 + 2 * a for a in range(n)], [1 + 2 * a for a in range(n)]
    return np.ascontiguousarray(split.transpose(0, *inner, *outer)).reshape(-1, *parts[::2])


def unfolded(cells: Tensor, stride: int) -> Tensor:
    """Cells (B, C * stride^n, *S) as voxels (B, C, *S * stride): what `folded` undoes."""
    n = cells.ndim - 2
    split = cells.reshape(len(cells), -1, *([stride] * n), *cells.shape[2:])
    order = [axis for a in range(n) for axis in (2 + n + a, 2 + a)]
    return split.permute(0, 1, *order).reshape(
        len(cells), split.shape[1], *(size * stride for size in cells.shape[2:])
    )


def as_cells(centre: Places, size: Places, stride: int) -> tuple[Places, Places]:
    """Centres and sides in voxels as those in cells of `stride` voxels, the first of which begins the image.

    >>> as_cells(np.array([5.5]), np.array([4.0]), 4)  # voxels 4 to 7
    (array([1.]), array([1.]))
    """
    return (centre - (stride - 1) / 2) / stride, size / stride


def as_voxels(centre: Places, size: Places, stride: int) -> tuple[Places, Places]:
    """What `as_cells` undoes."""
    return centre * stride + (stride - 1) / 2, size * stride


def boxes_in(
    volume: VolumeReader,
    answer: Callable[[Tensor], Tensor],
    patch: Sequence[int],
    rule: PeakRule,
    *,
    overlap: float,
    device: torch.device,
    mirrored: Sequence[int] = (),
) -> Boxes:
    """Scored boxes in voxels of a whole image, the surest first.

    Args:
        volume: The image.
        answer: The network: windows (B, C, *patch) to maps (B, K + 2n, *patch / stride).
        patch: Shape of its windows, in voxels.
        rule: Which peaks become boxes.
        overlap: Share of a window that the next one sees again.
        device: Where the network is.
        mirrored: Axes that are mirrored before; boxes are those of the image as it is.
    """
    cells, n = Cells(volume, rule.stride, mirrored), len(patch)
    small = [size // rule.stride for size in patch]

    def of_cells(images: Tensor) -> Tensor:
        return answer(unfolded(images, rule.stride))

    axis = sweep_axis(cells.shape, small)
    slabs = sliding_window(
        cells, of_cells, small, rule.classes + 2 * n, WindowConfig(overlap=overlap), Pace(device)
    )
    found = [peaks_of(block, axis, rule) for block in blocks(((s.start, s.logits) for s in slabs), axis)]
    every = joined(found, n).best_first()
    kept = suppressed(every.picked(np.arange(min(MOST_PEAKS, len(every)))), rule.most_iou, rule.most_boxes)
    centre = kept.centre.copy()
    for each in mirrored:
        centre[:, each] = volume.shape[each] - 1 - centre[:, each]
    return Boxes.of(centre, kept.size, kept.label, kept.score, axes=n)


def blocks(slabs: Iterator[tuple[int, Tensor]], axis: int) -> Iterator[Block]:
    """Slabs with two planes of the one before them: every plane is asked once, between its neighbours."""
    before: Tensor | None = None
    begin = waiting = 0  # of what is held; the first plane that was not asked yet
    for start, logits in slabs:
        maps = logits if before is None else torch.cat([before, logits], axis + 1)
        at = start if before is None else begin
        size = maps.shape[axis + 1]
        yield Block(maps, at, waiting - at, size - 1)  # the last plane waits for its neighbour
        waiting = at + size - 1
        held = min(2, size)
        before, begin = maps.narrow(axis + 1, size - held, held), at + size - held
    if before is not None:
        size = before.shape[axis + 1]
        yield Block(before, begin, waiting - begin, size)


def peaks_of(block: Block, axis: int, rule: PeakRule) -> Boxes:
    """Boxes of the peaks in a block, in voxels."""
    n, k = block.maps.ndim - 1, rule.classes
    heat = block.maps[:k].sigmoid()
    highest = LAYERS[n].max_pool(3, stride=1, padding=1)(heat[None])[0]
    asked = torch.zeros_like(heat, dtype=torch.bool)
    asked.narrow(axis + 1, block.first, block.last - block.first).fill_(True)
    places = ((heat >= highest) & (heat >= rule.least_score) & asked).nonzero()
    scores = heat[tuple(places.T)]
    best = scores.argsort(descending=True, stable=True)[:MOST_PEAKS]
    places, scores = places[best], scores[best]
    here = tuple(places[:, 1:].T)
    offset, sides = (block.maps[a : a + n][(slice(None), *here)].T for a in (k, k + n))
    cell = places[:, 1:].double()
    cell[:, axis] += block.start
    centre, size = as_voxels(cell + offset, sides.double().clamp(-LARGEST, LARGEST).exp(), rule.stride)
    return Boxes.of(
        centre.cpu().numpy(),
        size.cpu().numpy(),
        places[:, 0].cpu().numpy(),
        scores.cpu().numpy(),
        axes=n,
    )
