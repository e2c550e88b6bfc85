"""How a weight of one shape serves a network of another: channels, position tables, a third axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Size, Tensor

Inflation = Literal["no", "mean", "centre"]
POSITION_TABLE = "relative_position_bias_table"
MODES = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, slots=True)
class Adapted:
    """A weight of the wanted shape and what was done to it."""

    tensor: Tensor
    how: str


def adapt(
    name: str,
    given: Tensor,
    wanted: Size,
    *,
    reads_image: bool,
    inflation: Inflation,
    from_below: int | None = None,
) -> Adapted | str:
    """The weight in the wanted shape, or why it cannot be had.

    Args:
        name: Of the weight, for position tables are known by it.
        given: The weight of the file.
        wanted: The shape in the network.
        reads_image: Whether axis 1 of the weight are the channels of the image.
        inflation: What becomes of a 2D kernel in a 3D network.
        from_below: How many of the channels of axis 1 come from the decoder's own path, the first ones, where
            the encoder's map follows or may follow.
    """
    if name.endswith(POSITION_TABLE):
        return resize_table(given, wanted)
    steps: list[str] = []
    if given.ndim == 4 and len(wanted) == 5:
        if inflation == "no":
            return "a 2D kernel in a 3D network"
        given = inflate(given, wanted[-1], inflation)
        steps.append(f"inflated to 3D ({inflation})")
    if reads_image and given.ndim == len(wanted) > 1 and given.shape[1] != wanted[1]:
        before = given.shape[1]
        changed = change_channels(given, wanted[1])
        if changed is None:
            return f"{before} image channels do not become {wanted[1]}; only 1 -> n and n -> 1 are defined"
        given = changed
        steps.append(
            f"image channels {before} -> {wanted[1]} ({'repeated / n' if before == 1 else 'summed'})"
        )
    if from_below is not None and given.ndim == len(wanted) and given.shape[1] != wanted[1]:
        given, step = change_skip(given, wanted[1], from_below)
        steps.append(step)
    return Adapted(given, "; ".join(steps)) if given.shape == wanted else "another shape"


def reversed_axes(weight: Tensor) -> Tensor:
    """A kernel (C_out, C_in, *S) for images whose axes are in the reverse order; other weights as they are.

    foveate reads (x, y, z); libraries that read pictures as rows and columns, or volumes as slices first,
    read (z, y, x). Nothing else of a network with the same strides on all axes knows its axes.

    >>> import torch
    >>> reversed_axes(torch.zeros(8, 1, 3, 5, 7)).shape, reversed_axes(torch.zeros(8, 4)).shape
    (torch.Size([8, 1, 7, 5, 3]), torch.Size([8, 4]))
    """
    if weight.ndim not in (4, 5):
        return weight
    return weight.permute(0, 1, *reversed(range(2, weight.ndim)))


def change_channels(weight: Tensor, channels: int) -> Tensor | None:
    """A kernel (C_out, C_in, ...) for another number of image channels, None where that has no answer.

    1 -> n repeats it, divided by n: an image repeated n times gives what it gave. n -> 1 adds up: an image
    of one channel gives what it gave when repeated n times.

    >>> import torch
    >>> change_channels(torch.ones(1, 1, 3), 4)[0, :, 0]
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    if weight.shape[1] == 1:
        return weight.repeat(1, channels, *[1] * (weight.ndim - 2)) / channels
    return weight.sum(dim=1, keepdim=True) if channels == 1 else None


def change_skip(weight: Tensor, channels: int, from_below: int) -> tuple[Tensor, str]:
    """A kernel (C_out, C_in, ...) of a decoder for `channels` inputs, with or without the encoder's map.

    A map that is new is met with zeros: the decoder begins by doing what it did before.
    """
    added = channels - weight.shape[1]
    if weight.shape[1] == from_below and added > 0:
        zeros = weight.new_zeros(weight.shape[0], added, *weight.shape[2:])
        return torch.cat((weight, zeros), 1), f"{added} skip channels added at 0"
    if channels == from_below and added < 0:
        return weight[:, :from_below], f"{-added} skip channels dropped"
    return weight, ""


def inflate(weight: Tensor, depth: int, inflation: Inflation) -> Tensor:
    """A 2D kernel (..., h, w) as a 3D one (..., h, w, depth).

    `mean` spreads it evenly: an image that is constant along the third axis gives what its slice gave, away
    from the border. `centre` puts it in the middle: every slice gives what it gave.
    """
    spread = weight[..., None].expand(*weight.shape, depth)
    if inflation == "mean":
        return spread / depth
    middle = F.one_hot(weight.new_tensor(depth // 2).long(), depth).to(weight.dtype)
    return spread * middle


def window_of(rows: int, dimension: int) -> int | None:
    """The window whose relative positions fill a table of so many rows; None where none does.

    >>> window_of(13**3, 3), window_of(100, 2)
    (7, None)
    """
    side = round(rows ** (1 / dimension))
    return (side + 1) // 2 if side % 2 and side**dimension == rows else None


def resize_table(table: Tensor, wanted: Size) -> Adapted | str:
    """A table of relative positions (rows, heads) for another window, linearly interpolated."""
    if table.ndim != 2 or len(wanted) != 2 or table.shape[1] != wanted[1]:
        return "another number of heads"
    fitting = [
        (n, old, new)
        for n in MODES
        if (old := window_of(table.shape[0], n)) and (new := window_of(wanted[0], n))
    ]
    if not fitting:
        return "tables of windows that are no squares or cubes of one dimension"
    n, old, new = fitting[0]
    grid = table.T.reshape(1, table.shape[1], *[2 * old - 1] * n)
    resized = F.interpolate(grid.double(), size=[2 * new - 1] * n, mode=MODES[n], align_corners=True)
    return Adapted(resized.reshape(wanted[1], -1).T.to(table.dtype), f"positions of window {old} -> {new}")
