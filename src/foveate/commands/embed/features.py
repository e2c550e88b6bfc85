"""Features of images: maps of every scale, averaged over images, slices, tiles, regions or places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from foveate.commands.embed.layout import Layout, Rows, Shares, Window, part_of
from foveate.core.contracts import VolumeReader
from foveate.core.networks import Encoder
from foveate.core.types import Array, FoveateError, Normalisation
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.data.loader import made_ahead
from foveate.nets.heads import pooled
from foveate.nets.weights.store import Card
from foveate.views.geometry import box_affine
from foveate.views.pipeline import normalise, read_views, with_channels


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """An encoder, and how it sees an image.

    Attributes:
        encoder: In evaluation mode, on its device.
        normalisation: The named step before it.
        layout: What a row is.
        batch_size: Windows at once.
    """

    encoder: Encoder
    normalisation: Normalisation
    layout: Layout
    batch_size: int

    @property
    def columns(self) -> dict[str, list[int]]:
        """Columns [first, end) of every scale."""
        ends = np.cumsum(self.encoder.channels).tolist()
        pairs = zip([0, *ends], ends, strict=False)
        return {f"stride_{s}": [a, b] for s, (a, b) in zip(self.encoder.strides, pairs, strict=True)}

    @torch.no_grad()
    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps of windows (B, C, *grid)."""
        device = next(self.encoder.parameters()).device
        x = with_channels(images[:, None], self.encoder.in_channels)[:, 0].to(device)
        return self.encoder(normalise(x, self.normalisation))

    def view(self, part: VolumeReader, window: Window | None = None) -> Tensor:
        """An image, or a window of it, on the grid: (1, C, *grid) with values in [0, 1]."""
        low, high = (window.low, window.high) if window else ((0,) * len(part.shape), part.shape)
        affine = box_affine(low, high, self.layout.grid)
        return read_views(part, affine[None], self.layout.grid).clamp_(0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Features of a data set.

    Attributes:
        seen: The encoder that made them.
        cache: The images.
        features: The table.
        images: For every row the number of its image.
        rows: For every row its slice, its region and its place.
        split: For every image its part of a split; empty where nobody says.
    """

    seen: Seen
    cache: Cache
    features: Array
    images: Array
    rows: Rows
    split: Sequence[str] = ()

    @property
    def parts(self) -> Array:
        """For every row the number of its slice; 0 for a whole image."""
        return self.rows.parts

    @property
    def patients(self) -> Array:
        """For every row the number of its patient; an image whose patient is not known is its own."""
        names = [v.patient or v.entry.patient or f"image {i}" for i, v in enumerate(self.cache)]
        return np.asarray(np.unique(names, return_inverse=True)[1][self.images])

    def volume(self, row: int) -> CachedVolume:
        """The image of a row."""
        return self.cache[int(self.images[row])]

    def picture(self, row: int) -> Tensor:
        """What a row is of, on the grid: the tile, the slice or the image: (*grid)."""
        volume, layout = self.volume(row), self.seen.layout
        part = part_of(volume, int(self.parts[row]))
        window = None
        if layout.tiles and not (layout.regions or layout.grid_mm):
            first = int(np.searchsorted(self.images, self.images[row]))
            window = layout.windows(volume)[row - first]
        return self.seen.view(part, window)[0, 0]

    def name(self, row: int) -> str:
        """What a row is of, for the terminal."""
        volume, layout = self.volume(row), self.seen.layout
        words = [volume.relative or f"image {volume.entry.id}"]
        if volume.planes is not None:
            words.append(f"slice {self.parts[row]}")
        if layout.regions:
            words.append(f"label {self.rows.labels[row]}")
        elif layout.tiles or layout.grid_mm:
            words.append("at " + " ".join(f"{mm:.1f}" for mm in self.rows.middles[row]) + " mm")
        return ", ".join(words)


def grid_of(card: Card, encoder: Encoder, asked: tuple[int, ...]) -> tuple[int, ...]:
    """The grid of whole images or of tiles: as asked for, or that of the largest views."""
    views = (card.get("views") or {}).values()
    grid = asked or tuple(max(views, key=math.prod, default=()))
    stride = encoder.strides[-1]
    if len(grid) != card["dimension"] or any(n < stride or n % stride for n in grid):
        raise FoveateError(
            f"--grid {','.join(map(str, grid)) or 'is not known: the card of --run names no views'}; "
            f"accepted: {card['dimension']} multiples of {stride}."
        )
    return grid


def rows_of(layout: Layout, cache: Cache) -> list[Rows]:
    """The rows of every image."""
    return [layout.rows(volume) for volume in cache]


def joined(every: Sequence[Rows]) -> tuple[Array, Rows]:
    """For every row of the table the number of its image, and what it is of."""
    counts = [len(rows.parts) for rows in every]
    columns = (np.concatenate(column) for column in zip(*every, strict=True))
    return np.repeat(np.arange(len(counts)), counts), Rows(*columns)


class Job(NamedTuple):
    """Some windows of some images that follow each other; a batch."""

    images: range
    first: int  # of the windows of all these images
    end: int
    last: bool  # of these images


class Batch(NamedTuple):
    """The windows of a job, read."""

    views: Tensor  # (B, C, *grid)
    counted: list[tuple[int, Shares]]  # of every window its image and what it counts for


def jobs_of(seen: Seen, cache: Cache) -> Iterator[list[Job]]:
    """The batches of a data set, those of images that share one together.

    They are the same whoever computes them and wherever he starts, and so are the features to the last bit.
    """
    first, windows = 0, 0
    for number, volume in enumerate(cache):
        windows += len(seen.layout.windows(volume))
        if windows < seen.batch_size and number + 1 < len(cache):
            continue
        starts = range(0, windows, seen.batch_size)
        ends = [min(start + seen.batch_size, windows) for start in starts]
        images = range(first, number + 1)
        yield [Job(images, a, b, b == windows) for a, b in zip(starts, ends, strict=True)]
        first, windows = number + 1, 0


def read(seen: Seen, cache: Cache, every_row: Sequence[Rows], job: Job) -> Batch:
    """The windows of a job, and what they count for."""
    layout, views, counted = seen.layout, [], []
    every = [(number, window) for number in job.images for window in layout.windows(cache[number])]
    firsts: dict[int, int] = {}
    for place, (number, _) in enumerate(every):
        firsts.setdefault(number, place)
    for place in range(job.first, job.end):
        number, window = every[place]
        volume = cache[number]
        views.append(seen.view(part_of(volume, window.part), window))
        if layout.regions or layout.grid_mm:
            counted.append((number, layout.shares(volume, window, every_row[number])))
        else:
            counted.append((number, Shares(np.array([place - firsts[number]]))))
    return Batch(torch.cat(views), counted)


def fill(
    seen: Seen,
    cache: Cache,
    every_row: Sequence[Rows],
    table: Array,
    groups: Sequence[Sequence[Job]],
    finished: Callable[[range], None],
    num_workers: int = 0,
) -> None:
    """Compute the rows of some images into a table.

    Args:
        seen: The encoder.
        cache: All images.
        every_row: Those of every image, from `rows_of`.
        table: (rows, columns).
        groups: From `jobs_of`.
        finished: Told of the images that are done.
        num_workers: Processes that read images meanwhile.
    """
    jobs = [job for group in groups for job in group]
    ends = np.cumsum([len(rows.parts) for rows in every_row]).tolist()
    weights = np.zeros(0)
    batches = made_ahead(
        lambda number: read(seen, cache, every_row, jobs[number]), len(jobs), num_workers=num_workers
    )
    for job, batch in zip(jobs, batches, strict=True):
        start, end = (ends[job.images[0] - 1] if job.images[0] else 0), ends[job.images[-1]]
        if job.first == 0:
            table[start:end], weights = 0, np.zeros(end - start)
        maps = seen.maps(batch.views)
        means = torch.cat([pooled(each) for each in maps], 1).float().cpu().numpy()
        for i, (number, shares) in enumerate(batch.counted):
            rows = (ends[number - 1] if number else 0) + shares.rows
            if not len(rows):  # a slice without a region
                continue
            if shares.cells is None and not shares.axes:
                sums, amounts = means[i][None], np.ones(1)
            else:
                sums, amounts = summed([each[i] for each in maps], shares)
            table[rows] += sums
            weights[rows - start] += amounts
        if job.last:
            table[start:end] /= np.float32(weights[:, None])
            finished(job.images)


@torch.no_grad()
def summed(maps: Sequence[Tensor], shares: Shares) -> tuple[Array, Array]:
    """Sums of maps (C, *S) over regions or places, side by side (R, D), and their weights' sums (R,)."""
    found = []
    for each in maps:
        x, device = each.float(), each.device
        if shares.cells is not None:
            cells = shares.cells.to(device)
            for axis, size in enumerate(x.shape[1:], 1):
                cells = blocks_of(cells, axis, size)
            found.append(cells.flatten(1) @ x.flatten(1).T)
            continue
        for matrix, size in zip(shares.axes, each.shape[1:], strict=True):
            coarse = blocks_of(matrix.to(device), 1, size)  # (P, S)
            x = torch.tensordot(x, coarse, ([1], [1]))  # the first axis of space becomes the last
        found.append(x.flatten(1).T)
    if shares.cells is not None:
        weights = shares.cells.flatten(1).sum(1)
    else:
        weights = torch.ones(1)
        for matrix in shares.axes:
            weights = (weights[:, None] * matrix.sum(1)).reshape(-1)
    return torch.cat(found, 1).cpu().numpy(), weights.double().numpy()


def blocks_of(amounts: Tensor, axis: int, count: int) -> Tensor:
    """Sums over `count` blocks of equal length along an axis: the cells of a coarser map."""
    shape = amounts.shape
    return amounts.reshape(*shape[:axis], count, -1, *shape[axis + 1 :]).sum(axis + 1)
