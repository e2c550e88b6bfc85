"""Pictures of regions over images: outlines in colour, truth beside prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foveate.core.dims import LAYERS
from foveate.core.types import Array

TILE, GAP, HEADER = 320, 6, 18
COLOURS = ((255, 90, 60), (60, 200, 255), (255, 215, 0), (130, 230, 90), (230, 110, 255), (255, 150, 200))
Case = tuple[Tensor, Mapping[str, Tensor]]  # an image (*S); title -> regions bool (K, *S)


def write_overlays(path: Path, cases: Sequence[Case]) -> None:
    """A row per case: the image, then the image under the outlines of each title, at its fullest slice."""
    titles = ["image", *cases[0][1]]
    rows = [[tile(image, None, cut), *(tile(image, r, cut) for r in regions.values())]
            for image, regions in cases for cut in [fullest(image, regions)]]  # fmt: skip
    heights = [max(each.height for each in row) for row in rows]
    canvas = Image.new(
        "RGB", (len(titles) * (TILE + GAP) + GAP, HEADER + sum(heights) + GAP * (len(rows) + 1))
    )
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for column, title in enumerate(titles):
        pen.text((GAP + column * (TILE + GAP), 3), title, fill=(230, 230, 230), font=font)
    top = HEADER
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            canvas.paste(picture, (GAP + column * (TILE + GAP), top))
        top += height + GAP
    canvas.save(path)


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
