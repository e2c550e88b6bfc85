"""Preview pictures: a row per sample and plane, a titled column per picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foveate.core.dims import LAYERS
from foveate.core.types import Array

TILE = 160  # pixels of the longer side
GAP = 6
HEADER = 18


def write_preview(
    path: Path, pictures: Mapping[str, Tensor], samples: int = 3, *, slices: bool = False
) -> None:
    """Draw titled pictures (B, C, *S) side by side.

    Slices of volumes are 2D and have their last axis upwards, as the volumes do (`slices`). The clean view's
    own range is the grey scale of every column that is in its units; a column whose values leave it by more
    than its width (a z-scored input) gets its own.
    """
    columns = {title: tensor[:samples].float().cpu().numpy() for title, tensor in pictures.items()}
    clean = next(iter(columns.values()))
    upwards = slices or LAYERS[clean.ndim - 2].upwards
    rows = [
        [
            tile(cut[i, 0], grey_range(cut[i, 0], clean[i, 0]), plane, upwards)
            for cut in columns.values()
        ]
        for i in range(len(clean))
        for plane in LAYERS[clean.ndim - 2].planes or (None,)
    ]  # fmt: skip
    sheet(rows, list(columns)).save(path)


def grey_range(image: Array, clean: Array) -> tuple[float, float]:
    """Black and white of one picture."""
    low, high = float(clean.min()), float(clean.max())
    mine = float(image.min()), float(image.max())
    width = max(high - low, 1e-6)
    same_units = mine[0] >= low - width and mine[1] <= high + width
    return (low, high) if same_units else mine


def tile(image: Array, grey: tuple[float, float], plane: int | None, upwards: bool) -> Image.Image:
    """The middle slice through a plane as an 8-bit picture, up is up."""
    flat = image if plane is None else np.take(image, image.shape[plane] // 2, axis=plane)  # (x, y or z)
    low, high = grey
    scaled = np.clip((flat - low) / max(high - low, 1e-6), 0, 1) * 255
    rows = scaled.astype(np.uint8).T
    drawn = Image.fromarray(np.ascontiguousarray(rows[::-1] if upwards else rows))
    factor = TILE / max(drawn.size)
    return drawn.resize((round(drawn.width * factor), round(drawn.height * factor)), Image.Resampling.NEAREST)


def sheet(rows: list[list[Image.Image]], titles: list[str]) -> Image.Image:
    """Tiles on a dark sheet with titles above the columns."""
    heights = [max(t.height for t in row) for row in rows]
    width = len(titles) * (TILE + GAP) + GAP
    canvas = Image.new("L", (width, HEADER + sum(heights) + GAP * (len(rows) + 1)), 32)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for column, title in enumerate(titles):
        pen.text((GAP + column * (TILE + GAP), 3), title, fill=230, font=font)
    top = HEADER
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            canvas.paste(picture, (GAP + column * (TILE + GAP), top))
        top += height + GAP
    return canvas
