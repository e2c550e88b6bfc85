"""Which cells of which regions two views of an image are compared at: draws keyed by the sample index.

They cost more than the step that they are for, so the workers of the loader make them (`RegionCells`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.contracts import Draw
from foveate.core.rng import stream
from foveate.core.types import Array, Batch

Cells = NDArray[np.int64]
Pool = Literal["sample", "mean"]
WAYS = ("1 to 2", "2 to 1")
KINDS = ("anchors", "positives", "negatives")


@dataclass(frozen=True, kw_only=True)
class RegionSampling:
    """What is drawn from the regions of a pair of views.

    Attributes:
        regions: Most regions per pair of views.
        fewest_cells: A region with fewer cells in either view is not compared.
        anchors: Cells drawn from a region in one view.
        positives: Cells drawn from it in the other view.
        negatives: Cells of other regions drawn there.
        skip_touching: Whether regions that touch are no negatives of each other: they are often one organ.
    """

    regions: int = 16
    fewest_cells: int = 8
    anchors: int = 8
    positives: int = 8
    negatives: int = 128
    skip_touching: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class RegionCells(Draw):
    """What of the regions of the first two global views is compared.

    Attributes:
        name: Of the map of regions.
        stride: Of the decoder map whose cells are compared.
        pool: Sampled cells, or whole regions.
        how: What is drawn.
    """

    name: str
    stride: int
    pool: Pool
    how: RegionSampling

    def draw(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Positions of each kind and way, or every cell's region and the "pairs"; nothing where none is."""
        one, two = ([Regions(view) for view in side] for side in self.sides(batch))
        keys, found = batch["index"], dict[str, Tensor]()
        if self.pool == "mean":
            if matched := matched_rows(one, two, keys, self.how, seed=seed):
                found |= {
                    "first": torch.from_numpy(matched.first),
                    "second": torch.from_numpy(matched.second),
                }
                found["pairs"] = torch.from_numpy(matched.negatives)
            return found
        for way, here, there in ((WAYS[0], one, two), (WAYS[1], two, one)):
            if cells := batch_cells(here, there, keys, self.how, seed=seed, way=way):
                found |= {f"{kind} {way}": torch.from_numpy(x) for kind, x in zip(KINDS, cells, strict=True)}
        return found

    def sides(self, batch: Batch) -> tuple[Array, Array]:
        """The regions in the cells of the compared maps, of both views, each (B, *s)."""
        maps = batch["regions"][f"{self.name}/global"]
        every = (slice(None, None, self.stride),) * (maps.ndim - 2)
        one, two = (maps[(slice(None), view, *every)].cpu().numpy() for view in (0, 1))
        return one, two


class DrawnCells(NamedTuple):
    """Cells, as positions in flattened maps, a row for each region."""

    anchors: Cells  # (K, n)
    positives: Cells  # (K, P)
    negatives: Cells  # (K, N)


class Matched(NamedTuple):
    """Regions of a batch, numbered through."""

    first: NDArray[np.int32]  # (B * cells,): number of each cell's region in the first views, -1 for none
    second: NDArray[np.int32]
    negatives: NDArray[np.bool_]  # (K, K): which regions are negatives of which


@final
class Regions:
    """The cells of a map in the order of their regions, sorted once for all that is asked of them."""

    def __init__(self, view: Array) -> None:
        self.view, flat = view, view.reshape(-1)
        narrow = flat.astype(np.uint16) if flat.min() >= 0 and flat.max() < 2**16 else flat
        self.order = np.argsort(narrow, kind="stable")  # of 16 bits it counts, which is ten times as fast
        every = flat[self.order]
        starts = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]]))
        counts = np.diff(starts, append=len(every))
        self.ids, self.starts, self.counts = (x[every[starts] > 0] for x in (every[starts], starts, counts))

    def draw(self, regions: Sequence[int], count: int, rng: np.random.Generator) -> Cells:
        """Cells of some regions, each as likely as any other, with repetition."""
        at = np.searchsorted(self.ids, regions)
        ends = np.cumsum(self.counts[at])
        ticket = rng.integers(ends[-1], size=count)
        which = np.searchsorted(ends, ticket, side="right")
        places = self.starts[at][which] + ticket - (ends - self.counts[at])[which]
        drawn: Cells = self.order[places].astype(np.int64)
        return drawn

    def cells(self, region: int) -> Cells:
        """All cells of a region."""
        at = int(np.searchsorted(self.ids, region))
        found: Cells = self.order[self.starts[at] : self.starts[at] + self.counts[at]]
        return found


Views = Sequence[Regions]  # of a batch, one for each sample


def batch_cells(
    first: Views, second: Views, keys: Sequence[int], how: RegionSampling, *, seed: int, way: str
) -> DrawnCells | None:
    """Drawn cells of all samples of a batch, as positions in flattened batches of cells."""
    found = []
    for row, (here, there, index) in enumerate(zip(first, second, keys, strict=True)):
        chosen = shared_regions(here, there, how, seed=seed, index=index)
        drawn = draw_cells(here, there, chosen, how, seed=seed, index=index, way=way)
        found += [[cells + row * here.view.size for cells in drawn]] if drawn else []
    return DrawnCells(*(np.concatenate(column) for column in zip(*found, strict=True))) if found else None


def matched_rows(
    first: Views, second: Views, keys: Sequence[int], how: RegionSampling, *, seed: int
) -> Matched | None:
    """The chosen regions of all samples of a batch; None where there are none."""
    views = list(zip(first, second, strict=True))
    chosen = [shared_regions(*pair, how, seed=seed, index=i) for pair, i in zip(views, keys, strict=True)]
    total = sum(map(len, chosen))
    rows = [np.full((len(side), side[0].view.size), -1, np.int32) for side in (first, second)]
    negatives, start = np.zeros((total, total), np.bool_), 0
    for sample, ids in enumerate(chosen):
        pair = views[sample]
        for side, view in zip(rows, pair, strict=True):
            for number, region in enumerate(ids.tolist(), start):
                side[sample][view.cells(region)] = number
        apart = touching(pair[0].view) | touching(pair[1].view) if how.skip_touching else set()
        block = [[a != b and (a, b) not in apart for b in ids.tolist()] for a in ids.tolist()]
        end = start + len(ids)
        negatives[start:end, start:end] = np.array(block, np.bool_).reshape(len(ids), len(ids))
        start = end
    return Matched(rows[0].reshape(-1), rows[1].reshape(-1), negatives) if total else None


def shared_regions(first: Regions, second: Regions, how: RegionSampling, *, seed: int, index: int) -> Cells:
    """Regions to compare: with cells enough in both views, at most `how.regions`, rising; or none."""
    one, two = (view.ids[view.counts >= how.fewest_cells].astype(np.int64) for view in (first, second))
    shared = np.intersect1d(one, two, assume_unique=True)
    chosen = stream(seed, "regions", index).permutation(shared)[: how.regions]
    return np.sort(chosen) if len(shared) > 1 else shared[:0]


def draw_cells(
    first: Regions, second: Regions, chosen: Cells, how: RegionSampling, *, seed: int, index: int, way: str
) -> DrawnCells | None:
    """Anchors in `first`, positives and negatives in `second`; None where no region has a negative."""
    rng = stream(seed, f"region cells {way}", index)
    apart = touching(second.view) if how.skip_touching else set()
    rows: list[tuple[Cells, ...]] = []
    for region in chosen.tolist():
        allowed = [i for i in second.ids.tolist() if i != region and (region, i) not in apart]
        drawn = (
            first.draw([region], how.anchors, rng),
            second.draw([region], how.positives, rng),
            second.draw(allowed, how.negatives, rng) if allowed else None,
        )
        rows += [drawn] if drawn[2] is not None else []  # type: ignore[list-item]
    return DrawnCells(*(np.stack(column) for column in zip(*rows, strict=True))) if rows else None


def touching(view: Array) -> set[tuple[int, int]]:
    """Pairs of regions with cells beside each other, both ways."""
    found: set[tuple[int, int]] = set()
    for axis in range(view.ndim):
        size = view.shape[axis]
        low, high = view.take(range(size - 1), axis), view.take(range(1, size), axis)
        differ = low != high
        pairs = set(zip(low[differ].tolist(), high[differ].tolist(), strict=True))
        found |= pairs | {(b, a) for a, b in pairs}
    return found
