"""Pictures of regions over images: outlines in colour, truth beside prediction, with a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foveate.core.dims import LAYERS
from foveate.core.types import Array

TILE, GAP, HEADER = 320, 6, 18
COLOURS = (  # those of the slice viewer on the same page
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (200, 200, 200),
)
LIGHT, LINE = (230, 230, 230), 18  # of words, and the height of a line of them


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of a picture.

    Attributes:
        image: (*S), in [0, 1].
        regions: Title -> regions bool (K, *S).
        caption: A number and a score; no name of a file or a patient.
    """

    image: Tensor
    regions: Mapping[str, Tensor]
    caption: str = ""


def write_overlays(path: Path, cases: Sequence[Case], classes: Sequence[str] = ()) -> None:
    """A row per case: the image, then the image under the outlines of each title, at its fullest slice.

    Args:
        path: The picture.
        cases: The rows.
        classes: Names of the regions, for the legend of their colours.
    """
    titles = ["image", *cases[0].regions]
    rows = [row_of(case) for case in cases]
    heights = [max(each.height for each in row) for row in rows]
    width = len(titles) * (TILE + GAP) + GAP
    legend = legend_of(classes, width)
    size = legend.height + HEADER + sum(heights) + (GAP + LINE) * len(rows) + GAP
    canvas = Image.new("RGB", (width, size))
    canvas.paste(legend, (0, 0))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for column, title in enumerate(titles):
        pen.text((GAP + column * (TILE + GAP), legend.height + 3), title, fill=LIGHT, font=font)
    top = legend.height + HEADER
    for case, row, height in zip(cases, rows, heights, strict=True):
        pen.text((GAP, top + 3), case.caption, fill=LIGHT, font=font)
        for column, picture in enumerate(row):
            canvas.paste(picture, (GAP + column * (TILE + GAP), top + LINE))
        top += LINE + height + GAP
    canvas.save(path)


def row_of(case: Case) -> list[Image.Image]:
    """The tiles of a case."""
    cut = fullest(case.image, case.regions)
    outlined = [tile(case.image, regions, cut) for regions in case.regions.values()]
    return [tile(case.image, None, cut), *outlined]


def legend_of(classes: Sequence[str], width: int) -> Image.Image:
    """A square of its colour before the name of each class, in as many lines as they need."""
    font, places, x, y = ImageFont.load_default(12), [], GAP, 0
    for name in classes:
        wide = LINE + math.ceil(font.getlength(name)) + 2 * GAP
        if x > GAP and x + wide > width:
            x, y = GAP, y + LINE
        places.append((x, y))
        x += wide
    canvas = Image.new("RGB", (width, y + LINE if classes else 0))
    pen = ImageDraw.Draw(canvas)
    for k, (name, (left, top)) in enumerate(zip(classes, places, strict=True)):
        pen.rectangle((left, top + 4, left + 10, top + 14), fill=COLOURS[k % len(COLOURS)])
        pen.text((left + LINE - 3, top + 3), name, fill=LIGHT, font=font)
    return canvas


def dice(regions: Mapping[str, Tensor]) -> float:
    """Mean Dice of two sets of regions over those that either has; NaN where there is none."""
    first, second = (each.flatten(1) for each in regions.values())
    total = first.sum(1) + second.sum(1)
    shares = 2 * (first & second).sum(1) / total
    return float(shares[total > 0].mean())


def fullest(image: Tensor, regions: Mapping[str, Tensor]) -> int | None:
    """The slice with most voxels in the first regions, so that there is something to see."""
    planes = LAYERS[image.ndim].planes
    if not planes:
        return None
    first = next(iter(regions.values())).any(0).movedim(planes[0], -1)
    return int(first.flatten(0, -2).sum(0).argmax())


def tile(image: Tensor, regions: Tensor | None, cut: int | None) -> Image.Image:
    """One slice in grey, enlarged, with an outline per region."""
    scale = max(1, TILE // max(flat(image.numpy(), cut).shape))
    grey = np.kron(upright(flat(image.numpy(), cut), image.ndim), np.ones((scale, scale)))
    rgb = np.repeat((np.clip(grey, 0, 1) * 255).astype(np.uint8)[..., None], 3, 2)
    for k, region in enumerate([] if regions is None else regions.numpy()):
        big = np.kron(upright(flat(region, cut), image.ndim), np.ones((scale, scale), bool))
        rgb[outline(big)] = COLOURS[k % len(COLOURS)]
    drawn = Image.fromarray(rgb)
    drawn.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    return drawn


def flat(array: Array, cut: int | None) -> Array:
    """The slice of a volume, or the picture that it is already."""
    return array if cut is None else np.take(array, cut, axis=LAYERS[array.ndim].planes[0])


def upright(array: Array, ndim: int) -> Array:
    """(x, y) as rows of a picture, up is up."""
    return array.T[::-1] if LAYERS[ndim].upwards else array.T


def outline(region: Array) -> Array:
    """Pixels of a region that have a neighbour outside."""
    padded = np.pad(region, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outlined: Array = region & ~inner
    return outlined
