"""What a row of the table is: an image or slice, a tile, a region of a label map, or a place.

The network sees windows: each image or slice as a whole, sampled on one grid, or in tiles of its own voxels.
Features of regions and places are means of its maps, weighted by how much of each cell belongs to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from foveate.core.contracts import VolumeReader
from foveate.core.types import Array
from foveate.data.cache.volumes import CachedVolume
from foveate.scoring.inference import starts


class Window(NamedTuple):
    """A box [low, high) of an image or of one of its slices, in voxels; it may stick out."""

    part: int
    low: tuple[int, ...]
    high: tuple[int, ...]


class Rows(NamedTuple):
    """The rows of an image."""

    parts: Array  # (R,) number of the slice, rising; 0 of a whole image
    labels: Array  # (R,) value of the label map; 0: no region
    middles: Array  # (R, n) middle in mm as the image's file counts them (RAS+); NaN: the row has no place


class Shares(NamedTuple):
    """Which rows of its image a window counts for, and how much of each cell of its finest map.

    Of a region the amount in voxels of every cell; of places, which are boxes, one matrix for every axis.
    """

    rows: Array  # (R,)
    cells: Tensor | None = None  # (R, *cells)
    axes: tuple[Tensor, ...] = ()  # of every axis (places, cells); the rows are all their combinations


@final
@dataclass(frozen=True, kw_only=True)
class Layout:
    """How images become rows.

    Attributes:
        grid: That a whole image is sampled on, or the size of tiles.
        stride: Of the encoder's finest map.
        tiles: Whether images are seen in tiles.
        regions: Name of the label map whose regions are rows; empty: they are not.
        grid_mm: Sides of the boxes that rows are; 0: they are not.
    """

    grid: tuple[int, ...]
    stride: int
    tiles: bool = False
    regions: str = ""
    grid_mm: float = 0.0

    def windows(self, volume: CachedVolume) -> list[Window]:
        """What the network sees of an image, slice after slice."""
        shape = volume.view_shape
        corners: list[tuple[int, ...]] = [(0,) * len(shape)]
        size = shape
        if self.tiles:
            lines = [tile_starts(n, side) for n, side in zip(shape, self.grid, strict=True)]
            corners, size = list(product(*lines)), self.grid
        boxes = [(low, tuple(a + n for a, n in zip(low, size, strict=True))) for low in corners]
        return [Window(part, *box) for part in range(parts_of(volume)) for box in boxes]

    def rows(self, volume: CachedVolume) -> Rows:
        """The rows of an image."""
        if self.regions:
            parts, values = np.array(regions_of(volume, self.regions), np.int64).reshape(-1, 2).T
            return Rows(parts, values, np.full((len(parts), len(volume.shape)), np.nan))
        if self.grid_mm:
            lines = [box.mean(1) for box in self.places(volume)]
            each = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(lines))
            parts = np.repeat(np.arange(parts_of(volume)), len(each))
            inside = np.tile(each, (parts_of(volume), 1)) / volume.view_spacing_mm
        else:
            windows = self.windows(volume)
            parts = np.array([window.part for window in windows])
            inside = np.array([[(a + b) / 2 for a, b in zip(w.low, w.high, strict=True)] for w in windows])
        middles = in_file(volume, parts, inside)
        return Rows(parts, np.zeros(len(parts), np.int64), middles)

    def places(self, volume: CachedVolume) -> list[Array]:
        """For every axis of what the network sees the boxes [from, to) in mm from the first face: (P, 2)."""
        pairs = zip(volume.view_shape, volume.view_spacing_mm, strict=True)
        return [boxes_along(n * mm, self.grid_mm) for n, mm in pairs]

    def shares(self, volume: CachedVolume, window: Window, rows: Rows) -> Shares:
        """What a window counts for where rows are regions or places."""
        cells = [n // self.stride for n in self.grid]
        first, end = np.searchsorted(rows.parts, [window.part, window.part + 1])
        if self.regions:
            values = rows.labels[first:end]
            if not len(values):  # nothing to count, and an image without a label map has none to read
                return Shares(np.zeros(0, np.int64))
            found = map_of(part_of(volume, window.part), self.regions, window)
            amounts = region_amounts(found, window, values, cells)
            return Shares(np.arange(first, end), torch.from_numpy(amounts))
        overlaps = [
            overlap(boxes / mm, box_edges(low, high, n))
            for boxes, mm, low, high, n in zip(
                self.places(volume), volume.view_spacing_mm, window.low, window.high, cells, strict=True
            )
        ]
        met = [np.flatnonzero(each.any(1)) for each in overlaps]
        numbers = np.ravel_multi_index(np.ix_(*met), [len(each) for each in overlaps]).reshape(-1)
        axes = [each[some] for each, some in zip(overlaps, met, strict=True)]
        return Shares(first + numbers, axes=tuple(torch.from_numpy(np.float32(each)) for each in axes))


def parts_of(volume: CachedVolume) -> int:
    """Slices of an image; 1 where it is seen as a whole."""
    return 1 if volume.planes is None else len(volume.planes)


def part_of(volume: CachedVolume, part: int) -> VolumeReader:
    """An image, or one of its slices."""
    return volume if volume.planes is None else volume.planes[part]


def tile_starts(size: int, side: int) -> list[int]:
    """Where tiles begin along an axis: evenly spread, overlapping rather than sticking out.

    >>> tile_starts(10, 4), tile_starts(8, 4), tile_starts(2, 4)
    ([0, 3, 6], [0, 4], [-1])
    """
    return starts(size, side, 0.0) if size >= side else [(size - side) // 2]


def boxes_along(length: float, side: float) -> Array:
    """As many boxes of a side as an axis has room for, in its middle; all of it where there is none.

    >>> boxes_along(10.0, 4.0).tolist(), boxes_along(3.0, 4.0).tolist()
    ([[1.0, 5.0], [5.0, 9.0]], [[0.0, 3.0]])
    """
    count = math.floor(length / side + 1e-9)
    if not count:
        return np.array([[0.0, length]])
    edges = (length - count * side) / 2 + side * np.arange(count + 1)
    return np.stack([edges[:-1], edges[1:]], 1)


def box_edges(low: int, high: int, cells: int) -> Array:
    """Edges [from, to) of the cells of a box, in voxels: (cells, 2)."""
    edges = np.linspace(low, high, cells + 1)
    return np.stack([edges[:-1], edges[1:]], 1)


def overlap(first: Array, second: Array) -> Array:
    """How long intervals (A, 2) and (B, 2) overlap: (A, B)."""
    ends = np.minimum(first[:, None, 1], second[None, :, 1])
    begins = np.maximum(first[:, None, 0], second[None, :, 0])
    return np.asarray(np.maximum(0, ends - begins))


class Mapped(NamedTuple):
    """A label map in a window, where the image is, and where that begins."""

    values: Array
    low: tuple[int, ...]


def map_of(part: VolumeReader, name: str, window: Window) -> Mapped:
    """The part of a window's label map that lies in the image."""
    low = tuple(max(0, a) for a in window.low)
    high = [min(b, n) for b, n in zip(window.high, part.shape, strict=True)]
    return Mapped(part.read_map(name, low, high), low)


def region_amounts(found: Mapped, window: Window, values: Array, cells: Sequence[int]) -> Array:
    """How many voxels of each value lie in each cell of a window: (values, *cells).

    Counted on the image's own voxels, so that no region is too small for the grid that the network sees.
    """
    amounts = np.empty((len(values), *cells), np.float32)
    matrices = [
        np.float32(overlap(box_edges(a, b, n), box_edges(start, start + size, size)))
        for a, b, n, start, size in zip(
            window.low, window.high, cells, found.low, found.values.shape, strict=True
        )
    ]
    for number, value in enumerate(values):
        inside = (found.values == value).astype(np.float32)
        for matrix in matrices:  # each turns the first axis into cells and makes it the last
            inside = np.tensordot(inside, matrix, ([0], [1]))
        amounts[number] = inside
    return amounts


def regions_of(volume: CachedVolume, name: str) -> list[tuple[int, int]]:
    """Slices and values of the regions of an image, in order."""
    if name not in volume.map_names:
        return []
    values = [value for value in volume.map_entry(name).values if value]
    if volume.planes is None:
        return [(0, value) for value in values]
    found = volume.read_map(name, [0] * len(volume.shape), volume.shape)
    others = tuple(axis for axis in range(found.ndim) if axis != volume.planes.axis)
    held = {value: (found == value).any(others) for value in values}
    return [(part, value) for part in range(len(volume.planes)) for value in values if held[value][part]]


def in_file(volume: CachedVolume, parts: Array, inside: Array) -> Array:
    """Points (R, n) of slices or images, in voxels from the first face, in the coordinates of the file."""
    if volume.cut:
        inside = np.insert(inside, volume.cut.axis, parts + 0.5, axis=1)
    affine, n = np.asarray(volume.entry.affine), inside.shape[1]
    return np.asarray((inside - 0.5) @ affine[:n, :n].T + affine[:n, 3])
