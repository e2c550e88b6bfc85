"""One comparison over places: which cells of a batch belong together, and how far their embeddings say so.

    K_ij = [same sample] a_ij near(|p_i - p_j| / s_ij)  +  gamma [other samples] near(|(u_i - u_j) / r_ij|)
    L    = mean over i of the cross entropy between K_i. / sum K_i. and softmax(z_i . z_j / tau)

p is a cell's place in millimetres, u its position as a share of its volume; j runs over the cells of all
other views of the batch, of all processes. a_ij is 1, or, where it is asked for, whether both cells lie in
one super-pixel. `near` is a Gaussian that ends where it has fallen to `CUT`, or a step. SimCLR, PGL with
negatives, region contrast and positional contrast are settings of it (`tests/losses/test_places.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from foveate.core.types import FoveateError
from foveate.losses.contrast import unit_rows
from foveate.losses.gather import joined

Falloff = Literal["gaussian", "step"]
CUT = 0.05  # 2.4 standard deviations: far pairs, of which there are most, must not add up to a target
BOX_VARIANCE = 1 / 12  # of a uniform distribution over a length of 1


class Places(NamedTuple):
    """Where cells lie, a row for each."""

    sample: Tensor  # (N,): which sample of the batch
    view: Tensor  # (N,): which view of the batch; no two samples share one
    place: Tensor  # (N, n): in millimetres of its own volume
    width: Tensor  # (N,): of the cell, millimetres
    position: Tensor  # (N, m): share of the volume, 0 to 1
    extent: Tensor  # (N, m): of the cell along these axes
    region: Tensor  # (N,): number of its super-pixel in its volume, 0 for none


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Which pairs of cells count, and how much.

    Attributes:
        sigma: How far apart cells of one image are the same place, in widths of a cell; inf: anywhere.
        gamma: Weight of cells of other images at the same position; auto: 1, or 0 where the images of the run
            show that position says nothing of appearance.
        rho: How far apart cells of two images are at the same position, as a share of the volume.
        falloff: A Gaussian of these standard deviations, or a step at these distances.
        gated: Whether cells of one image must also lie in one super-pixel.
    """

    sigma: float = 1.0
    gamma: float | Literal["auto"] = "auto"
    rho: float = 0.1
    falloff: Falloff = "gaussian"
    gated: bool = False

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and self.rho > 0 and self.weight >= 0):
            raise FoveateError(
                f"kernel is sigma {self.sigma}, rho {self.rho}, gamma {self.gamma}; accepted are sigma and "
                "rho above 0, gamma from 0, or auto."
            )

    @property
    def weight(self) -> float:
        """gamma; 1 as long as it is not found from images."""
        return 1.0 if self.gamma == "auto" else self.gamma

    def settled(self, aligned: Callable[[], bool]) -> Kernel:
        """The kernel with gamma as a number."""
        return replace(self, gamma=float(aligned())) if self.gamma == "auto" else self

    def __call__(self, cells: Places) -> Tensor:
        """K (N, N), 0 between cells of one view."""
        own = self.same_sample(cells)
        return own + self.weight * self.other_samples(cells) if self.weight else own

    def same_sample(self, cells: Places) -> Tensor:
        """The part of cells of one sample in different views."""
        counted = pairs(cells.sample) & ~pairs(cells.view)
        if self.gated:
            counted = counted & pairs(cells.region) & (cells.region > 0)
        if math.isinf(self.sigma):
            return counted.to(cells.place.dtype)
        apart = sum_of_squares(cells.place)
        width = cells.width.square()
        return counted * self.near(apart / (self.sigma**2 * (width[:, None] + width) / 2))

    def other_samples(self, cells: Places) -> Tensor:
        """The part of cells of different samples, without gamma."""
        ratio = torch.zeros_like(cells.position[:, :1] * cells.position[:, 0])
        for u, length in zip(cells.position.unbind(1), cells.extent.square().unbind(1), strict=True):
            # A cell is no point: its content is spread over its box.
            box = BOX_VARIANCE * (length[:, None] + length) if self.falloff == "gaussian" else 0 * ratio
            ratio = ratio + (u[:, None] - u).square() / (self.rho**2 + box)
        return ~pairs(cells.sample) * self.near(ratio)

    def near(self, ratio: Tensor) -> Tensor:
        """How near, from 0 to 1, of squared distances in units of the squared standard deviation."""
        if self.falloff == "step":
            return (ratio < 1).to(ratio.dtype)
        near = torch.exp(-ratio / 2)
        return near * (near > CUT)


def pairs(numbers: Tensor) -> Tensor:
    """Which rows have the same number: bool (N, N)."""
    return numbers[:, None] == numbers


def sum_of_squares(points: Tensor) -> Tensor:
    """Squared distances (N, N) of points (N, n), by differences: near points are what counts."""
    every = ((x[:, None] - x).square() for x in points.unbind(1))
    return torch.stack(list(every)).sum(0)


def place_contrast(rows: Tensor, kernel: Tensor, view: Tensor, temperature: float) -> Tensor:
    """How well embeddings say which cells belong together; cells with nothing to find have no part in it.

    Args:
        rows: (N, E).
        kernel: (N, N): targets, 0 for negatives; a row of it without any target does not count.
        view: (N,): cells of one view are never compared.
        temperature: what similarities are divided by.
    """
    with torch.autocast(rows.device.type, enabled=False):
        z, same = unit_rows(rows), pairs(view)
        logits = (z @ z.mT / temperature).masked_fill(same, -torch.inf)
        told = logits.log_softmax(1).masked_fill(same, 0.0)
        total = kernel.to(told.dtype).sum(1)
        errors = -(kernel * told).sum(1) / torch.where(total > 0, total, 1.0)
        counted = total > 0
        return (errors * counted).sum() / counted.sum().clamp_min(1)


def answered(kernel: Tensor) -> Tensor:
    """The share of rows that have any target."""
    return (kernel.sum(1) > 0).float().mean()


def sites(found: Mapping[str, Tensor], stride: int) -> Places:
    """The cells of a drawn `views.alignment.Sites`, of all processes.

    Args:
        found: what was drawn, each (B, V, cells + 1, ...), the whole view last.
        stride: of the map whose cells are wanted; 0: the whole views.
    """
    names = ("place", "width", "position", "extent", "region")
    wanted = slice(-1) if stride else slice(-1, None)
    chosen = [found[name][:, :, wanted].float() for name in names]
    table = joined(torch.cat(chosen, -1))  # (W * B, V, cells, ...), in one transfer
    samples, views, count = table.shape[:3]
    number = torch.arange(samples * views, device=table.device).repeat_interleave(count)
    widths = [x.shape[-1] for x in chosen]
    place, width, position, extent, region = torch.split(table.flatten(0, 2), widths, 1)
    return Places(
        sample=number // views,
        view=number,
        place=place,
        width=max(1, stride) * width[:, 0],
        position=position,
        extent=max(1, stride) * extent,
        region=region[:, 0],
    )
