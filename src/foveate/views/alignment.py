"""Where two views of one volume overlap, their feature maps resampled to one grid there; and drawn cells.

A feature map of a view of G voxels on n cells has cells of G/n voxels; its own affine, cell index to source
voxel, is the view's affine after that scaling. Crops, flips, scales and rotations are all undone by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.core.contracts import Draw
from foveate.core.rng import stream
from foveate.core.types import Batch
from foveate.views.geometry import apply, box_affine, compose, invert, lattice, to_unit


def aligned(maps: Sequence[Tensor], overlap: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    """Maps (B, C, *cells) of the two views by turns, read where both look, and which cells count.

    Args:
        maps: of the first view, the second, the first ...
        overlap: of both views, from `overlap_of` or an `Overlap`.
    """
    ways, valid = (overlap["first"], overlap["second"]), overlap["valid"]
    return [read(x, lattice(ways[i % 2], valid.shape[1:])) for i, x in enumerate(maps)], valid


def overlap_of(affines: Tensor, view: Sequence[int], cells: Sequence[int]) -> dict[str, Tensor]:
    """How both maps are read, from an index on the common grid to -1 ... 1 on a map, and where they count."""
    grid = meet(affines[:, 0], affines[:, 1], view, cells)
    return {"first": to_unit(grid.first, cells), "second": to_unit(grid.second, cells), "valid": grid.valid}


@final
@dataclass(frozen=True, kw_only=True)
class Overlap(Draw):
    """Where the two views of each sample overlap. Nothing is random here: it is inverted on the host.

    Attributes:
        crop: The kind of the views.
        cells: Size of their feature maps.
    """

    crop: str
    cells: tuple[int, ...]

    def draw(self, batch: Batch, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """See `overlap_of`."""
        return overlap_of(batch["affines"][self.crop].cpu(), batch["crops"][self.crop].shape[3:], self.cells)


def shares(affines: Tensor, centres: Tensor, extent: Tensor) -> Tensor:
    """Where points of views lie in their image, each axis from 0 at its first face to 1 at its last.

    What is padding lies on the face that is nearest.

    Args:
        affines: view index to source voxel (B, V, n, n+1), as in a batch.
        centres: points in view index (P, n), such as `cell_centres`, or of each view (B, V, P, n).
        extent: voxels of each sample's source (B, n), as in a batch.

    Returns:
        (B, V, P, n), float64.
    """
    points = apply(affines.double(), centres.to(affines.device).double())  # (B, V, P, n)
    return ((points + 0.5) / extent[:, None, None].double()).clamp(0, 1)


def cell_centres(view: Sequence[int], cells: Sequence[int]) -> Tensor:
    """The centres of the cells of a feature map in the index of its view: (P, n), the last axis fastest.

    >>> cell_centres((4, 2), (2, 1)).tolist()
    [[0.5, 0.5], [2.5, 0.5]]
    """
    corners = torch.cartesian_prod(*[torch.arange(count) for count in cells]).reshape(-1, len(cells))
    return apply(box_affine([0] * len(view), view, cells), corners.double())


class Meeting(NamedTuple):
    """One grid of cells over the overlap of two views, and how each view's feature map is read there."""

    cells: tuple[int, ...]
    first: Tensor  # (B, n, n+1): index on the common grid -> cell index on the first view's map
    second: Tensor
    valid: Tensor  # (B, *cells): at least half a cell inside both maps, so that nothing is extrapolated


def meet(first: Tensor, second: Tensor, view: Sequence[int], cells: Sequence[int]) -> Meeting:
    """The common grid of two views.

    Args:
        first: affines of the first views (B, n, n+1), view index to source voxel.
        second: those of the second views.
        view: size of both views in voxels.
        cells: size of both feature maps, and of the common grid.
    """
    common = overlap_affines(first.double(), second.double(), view, cells)
    ways = [compose(invert(cell_affines(a.double(), view, cells)), common) for a in (first, second)]
    valid = inside(ways[0], cells) & inside(ways[1], cells)
    return Meeting(tuple(cells), ways[0], ways[1], valid)


def cell_affines(affines: Tensor, view: Sequence[int], cells: Sequence[int]) -> Tensor:
    """Affines from the cells of a view's feature map to source voxels."""
    return compose(affines, box_affine([0] * len(view), view, cells).to(affines))


def overlap_affines(first: Tensor, second: Tensor, view: Sequence[int], cells: Sequence[int]) -> Tensor:
    """Affines (B, n, n+1) of a grid over the box in the source that both views cover.

    A turned view counts with the box around it. Where views do not meet, the grid is a point and no cell of
    it lies inside both.
    """
    bounds = [view_bounds(a, view) for a in (first, second)]
    low = torch.maximum(bounds[0][0], bounds[1][0])
    high = torch.maximum(low, torch.minimum(bounds[0][1], bounds[1][1]))
    step = (high - low) / low.new_tensor(cells)
    return torch.cat([torch.diag_embed(step), (low + step / 2)[..., None]], -1)


def view_bounds(affines: Tensor, view: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The box (B, n) around each view in source voxels, outer edges of its cells included."""
    size = affines.new_tensor(view)
    middle = apply(affines, ((size - 1) / 2)[None])[:, 0]
    reach = affines[..., :-1].abs() @ (size / 2)
    return middle - reach, middle + reach


def seen_by_both(affines: Tensor, view: Sequence[int]) -> Tensor:
    """Which voxels of two views, with affines (B, 2, n, n+1), the other one shows: bool (B, 2, *view)."""
    first, second = affines.double().unbind(1)
    ways = [compose(invert(second), first), compose(invert(first), second)]
    return torch.stack([inside(way, view) for way in ways], 1)


def inside(affines: Tensor, cells: Sequence[int]) -> Tensor:
    """Which points of a grid of `cells` land between the outermost cell centres: bool (B, *cells)."""
    lines = [torch.arange(n, device=affines.device, dtype=affines.dtype) for n in cells]
    points = apply(affines, torch.cartesian_prod(*lines).reshape(-1, len(cells)))  # (B, P, n)
    last = affines.new_tensor(cells) - 1
    good = ((points >= -1e-4) & (points <= last + 1e-4)).all(-1)  # float32 affines are good to 1e-5 voxels
    return good.reshape(-1, *cells)


def read(features: Tensor, where: Tensor) -> Tensor:
    """Feature maps (B, C, *S) read linearly at places (B, *cells, n), never in half precision."""
    with torch.autocast(features.device.type, enabled=False):
        maps = features.to(torch.promote_types(features.dtype, torch.float32))
        return F.grid_sample(maps, where.to(maps), padding_mode="border", align_corners=False)


REACH = 0.9  # of the half width of a view: beyond it coarse maps would be extrapolated


@final
@dataclass(frozen=True, kw_only=True)
class Sites(Draw):
    """Cells drawn from the views of a kind, and where they lie in their volumes.

    Each is drawn in one view, by turns, and looked at in every view that shows its place; a view that does
    not has one of its own instead.

    Attributes:
        crop: The kind of the views.
        cells: How many of each view.
        regions: Name of an integer map, whose value at each cell is wanted; empty: 0 everywhere.
    """

    crop: str
    cells: int
    regions: str = ""

    def draw(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Where maps are read, "at" (B, V, cells, n), and what is known of these places.

        (B, V, cells + 1, ...), of cells as large as a voxel of the view, and at last of the view as a whole:
        "place" and "width" in mm, "position" and "extent" as shares of the volume, "region". The position
        of a slice of a volume has a third number.
        """
        affines = batch["affines"][self.crop].cpu().double()
        view = batch["crops"][self.crop].shape[3:]
        size, voxel, depth = axes_of(batch)
        spacing, deep = voxel[:, None, None], depth.shape[1]
        at = self.points(batch["index"], affines, view, seed)
        whole = torch.cat([at, at.new_zeros(*at.shape[:2], 1, len(view))], 2)
        centres, along = from_unit(whole, view), depth[:, None, None].expand(-1, *whole.shape[1:3], deep)
        linear, ones = affines[..., :-1], affines.new_ones(self.cells + 1, len(view))
        ones[-1] = affines.new_tensor(view)
        edges = torch.einsum("bvij,cj->bvci", linear.abs(), ones)
        one = linear.det().abs()[..., None] * ones.prod(1) * spacing.prod(-1)
        return {
            "at": at,
            "place": apply(affines, centres) * spacing,
            "width": one[..., None] ** (1 / len(view)),
            "position": torch.cat([shares(affines, centres, size), along], -1),
            "extent": torch.cat([edges / size[:, None, None], torch.zeros_like(along)], -1),
            "region": self.region_at(batch, whole),
        }

    def points(self, index: Sequence[int], affines: Tensor, view: Sequence[int], seed: int) -> Tensor:
        """Where cells are in each view, -1 to 1 between its edges: (B, V, cells, n)."""
        count, shape = affines.shape[1], (affines.shape[1], self.cells, len(view))
        purpose = f"{self.crop}/sites"
        drawn = np.stack([stream(seed, purpose, i).uniform(-REACH, REACH, shape) for i in index])
        own = torch.from_numpy(drawn)
        places = apply(affines, from_unit(own, view))
        turns = torch.arange(self.cells) % count
        shared = places[:, turns, torch.arange(self.cells)]  # (B, cells, n)
        back = to_edges(apply(invert(affines), shared[:, None].expand_as(places)), view)
        return torch.where((back.abs() <= REACH + 1e-9).all(-1, keepdim=True), back, own)

    def region_at(self, batch: Batch, at: Tensor) -> Tensor:
        """Value of the map at the voxels of the view that are nearest: (B, V, cells + 1, 1)."""
        if not self.regions:
            return torch.zeros(*at.shape[:3], 1, dtype=torch.float64)
        maps = batch["regions"][f"{self.regions}/{self.crop}"].cpu()
        flat = torch.zeros(at.shape[:3], dtype=torch.long)
        for axis, size in enumerate(maps.shape[2:]):
            flat = flat * size + from_unit(at, maps.shape[2:])[..., axis].round().long().clamp(0, size - 1)
        return maps.flatten(2).gather(2, flat)[..., None].double()


def from_unit(points: Tensor, view: Sequence[int]) -> Tensor:
    """Places (..., n), -1 and 1 being the outer edges of a view, as indices of its voxels."""
    return (points + 1) * (points.new_tensor(view) / 2) - 0.5


def to_edges(points: Tensor, view: Sequence[int]) -> Tensor:
    """Indices of voxels of a view as places from -1 to 1."""
    return (points + 0.5) * (2 / points.new_tensor(view)) - 1


def axes_of(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Extent and spacing (B, n) along the axes of views, and where slices lie in volumes (B, 0 or 1)."""
    extent, spacing = batch["extent"].cpu().double(), batch["spacing"].cpu().double()
    if "slice" not in batch:
        return extent, spacing, extent[:, :0]
    axis, place = batch["slice"].cpu()[:, :1], batch["slice"].cpu()[:, 1:]
    own = torch.arange(extent.shape[1]) != axis
    depth = (place + 0.5) / extent.gather(1, axis)
    return extent[own].reshape(len(own), -1), spacing[own].reshape(len(own), -1), depth


def read_at(features: Tensor, at: Tensor) -> Tensor:
    """Feature maps (B, C, *S) at places (B, cells, n) of their views, -1 to 1: (B, cells, C)."""
    where = at.flip(-1)[(slice(None), slice(None), *[None] * (at.shape[-1] - 1))]
    return read(features, where).flatten(2).movedim(1, 2)
