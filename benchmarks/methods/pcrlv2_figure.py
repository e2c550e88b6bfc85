"""The figure of docs/methods/pcrlv2.md: one real batch on its way from views over the pyramid to the terms.

    python benchmarks/methods/pcrlv2_figure.py --run RUN --out FILE.png [--brains FOLDER]

RUN is a 3D PCRLv2 run with sigmoid restorations. The batch is drawn from virtual brains, made in FOLDER where
they are not there yet, so that no patient is in the picture; views, corruption, pyramid and restorations are
those of the package.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foveate.commands.demo.brains import build_cohort
from foveate.commands.pretrain.config import PretrainConfig
from foveate.commands.pretrain.images import open_cache
from foveate.core import config as parsing
from foveate.core.types import Batch
from foveate.data.loader import batches
from foveate.methods.pcrlv2 import PCRLv2
from foveate.views.pipeline import make_views
from restoration import trained

BRAINS, SEED, SAMPLE = 4, 3, 0
BATCH = 4
TILE, SMALL, GAP = 132, 62, 8
INK, GREY = "#1a1a1a", "#5a5a5a"
BLUE, ORANGE, GREEN = "#2878b8", "#d9600a", "#2a8a3c"
SHOWN_CROPS = 4


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One sample, every array a middle slice (x, y) or a list of them."""

    clean: list[Any]
    corrupted: list[Any]
    crops: list[Any]
    maps: list[list[Any]]  # per global view, coarse to fine
    restored: list[Any]  # coarse to fine
    final: Any
    strides: tuple[int, ...]


def batch_of(config: PretrainConfig, method: PCRLv2, brains: Path) -> Batch:
    """A batch of virtual brains as the loader makes it."""
    build_cohort(brains, BRAINS, 0, lambda _done, _total: None)
    with tempfile.TemporaryDirectory() as scratch:
        images = brains / "images"
        cache = open_cache(replace(config, data=str(images), out=str(Path(scratch) / "run")))
        views = partial(make_views, specs=method.crops, seed=SEED)
        return next(batches(cache, views, seed=SEED, first_step=0, steps=1, batch_size=BATCH))


def cut(tensor: Tensor) -> Any:
    """The middle axial slice of (C, x, y, z), mean over channels."""
    return tensor.mean(0)[..., tensor.shape[-1] // 2].numpy()


@torch.no_grad()
def pictures_of(method: PCRLv2, batch: Batch) -> Pictures:
    """Everything that the figure shows."""
    clean = batch["crops"]["global"]
    _, views, crops = method.looks(batch, SEED)
    maps = [method.net(view) for view in views]
    return Pictures(
        clean=[cut(clean[SAMPLE, j]) for j in (0, 1)],
        corrupted=[cut(view[SAMPLE]) for view in views],
        crops=[cut(crop) for crop in crops[SAMPLE, :SHOWN_CROPS]],
        maps=[[cut(m[SAMPLE]) for m in side] for side in maps],
        restored=[cut(method.restore.middle(maps[0], s)[SAMPLE]) for s in method.scales],
        final=cut(method.restore(maps[0])[SAMPLE]),
        strides=method.net.strides,
    )


def tile(image: Any, side: int, limits: tuple[float, float] | None = None) -> Image.Image:
    """A grey picture, anterior up; its own range where no limits are given."""
    low, high = limits or tuple(np.percentile(image, (1, 99)))
    grey = (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(grey.T[::-1])).resize((side, side), Image.Resampling.NEAREST)


class Sheet:
    """A canvas with a few words for what the figure needs."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), "white")
        self.pen = ImageDraw.Draw(self.image)

    def text(
        self, x: float, y: float, words: str, size: int = 13, ink: str = INK, anchor: str = "mm"
    ) -> None:
        """One line."""
        self.pen.text((x, y), words, fill=ink, font=ImageFont.load_default(size), anchor=anchor)

    def put(self, picture: Image.Image, x: int, y: int, frame: str = "#909090") -> None:
        """A picture with a frame."""
        self.image.paste(picture, (x, y))
        self.pen.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=frame, width=1)

    def arrow(self, points: list[tuple[float, float]], ink: str) -> None:
        """A broken line with a head at its end, both ends horizontal or vertical."""
        self.pen.line(points, fill=ink, width=2)
        (x0, y0), (x1, y1) = points[-2:]
        dx, dy = float(np.sign(x1 - x0)), float(np.sign(y1 - y0))
        base = x1 - 8 * dx, y1 - 8 * dy
        self.pen.polygon(
            [(x1, y1), (base[0] - 5 * dy, base[1] - 5 * dx), (base[0] + 5 * dy, base[1] + 5 * dx)], fill=ink
        )

    def both_ways(self, x: float, low: float, high: float, ink: str) -> None:
        """A vertical double arrow."""
        middle = (low + high) // 2
        self.arrow([(x, middle), (x, low)], ink)
        self.arrow([(x, middle), (x, high)], ink)


VIEW_X, LOOK_X, MAP_X = 20, 190, 380
ROWS = (74, 300)
RESTORED_Y = 598
MAPS_WIDE = 3 * (TILE + 26)


def draw(p: Pictures, path: Path) -> None:
    """The whole figure."""
    sheet = Sheet(MAP_X + MAPS_WIDE + 190, 772)
    for x, words in ((VIEW_X, "clean view"), (LOOK_X, "corrupted view")):
        sheet.text(x + TILE / 2, 22, words, 16)
    sheet.text(MAP_X + (MAPS_WIDE - 26) / 2, 22, "pyramid (decoder maps, mean over channels)", 16)
    for j, top in enumerate(ROWS):
        draw_side(sheet, p, j, top)
    draw_crops(sheet, p)
    draw_restorations(sheet, p)
    draw_siamese(sheet, p)
    sheet.image.save(path, optimize=True)


def columns(p: Pictures) -> list[int]:
    """Left edges of the scales."""
    return [MAP_X + i * (TILE + 26) for i in range(len(p.strides))]


def draw_side(sheet: Sheet, p: Pictures, j: int, top: int) -> None:
    """One global view, clean and corrupted, and its maps."""
    middle = top + TILE // 2
    sheet.put(tile(p.clean[j], TILE, (0, 1)), VIEW_X, top)
    sheet.put(tile(p.corrupted[j], TILE), LOOK_X, top)
    sheet.text(VIEW_X + TILE / 2, top - 14, f"global view {j + 1}", ink=GREY)
    sheet.text(LOOK_X + TILE / 2, top - 14, f"x{j + 1}", ink=GREY)
    sheet.arrow([(VIEW_X + TILE + 4, middle), (LOOK_X - 5, middle)], GREY)
    sheet.arrow([(LOOK_X + TILE + 4, middle), (MAP_X - 5, middle)], GREY)
    for x, feature, stride in zip(columns(p), p.maps[j], p.strides, strict=True):
        sheet.put(tile(feature, TILE), x, top)
        sheet.text(x + TILE / 2, top - 14, f"scale 1/{stride}", ink=GREY)


def draw_siamese(sheet: Sheet, p: Pictures) -> None:
    """The comparison of the two pyramids."""
    top, low = ROWS[0] + TILE + 6, ROWS[1] - 26
    for x in columns(p):
        sheet.both_ways(x + TILE // 2, top, low, BLUE)
    x = columns(p)[-1] + TILE + 22
    sheet.text(x, (top + low) / 2 - 9, "L_sia: pooled maps agree,", 14, BLUE, "lm")
    sheet.text(x, (top + low) / 2 + 9, "at one drawn scale", 14, BLUE, "lm")


def draw_crops(sheet: Sheet, p: Pictures) -> None:
    """Sub-crops and the comparison with both global views."""
    y = 486
    for i, crop in enumerate(p.crops):
        sheet.put(tile(crop, SMALL), VIEW_X + i * (SMALL + GAP), y)
    wide = SHOWN_CROPS * (SMALL + GAP) - GAP
    sheet.text(VIEW_X + wide / 2, y - 14, f"{SHOWN_CROPS} of the 6 corrupted sub-crops", ink=GREY)
    x = columns(p)[-1] + TILE + 22
    middle = ROWS[1] + TILE / 2
    bend = y + SMALL / 2
    sheet.arrow([(VIEW_X + wide + 6, bend), (x + 40, bend), (x + 40, middle + 50)], ORANGE)
    words = (
        "L_loc: every sub-crop,",
        "through the same net,",
        "agrees with x1 and x2,",
        "a scale for each pair",
    )
    for i, line in enumerate(words):
        sheet.text(x, middle - 34 + 19 * i, line, 14, ORANGE, "lm")


def draw_restorations(sheet: Sheet, p: Pictures) -> None:
    """What view 1 is restored to, from every scale and by the final head."""
    places = [*columns(p), columns(p)[-1] + TILE + 26]
    titles = [*(f"x1 restored from 1/{stride}" for stride in p.strides), "x1 restored, final head"]
    for x, title, picture in zip(places, titles, [*p.restored, p.final], strict=True):
        sheet.put(tile(picture, TILE, (0, 1)), x, RESTORED_Y)
        sheet.text(x + TILE / 2, RESTORED_Y - 14, title, ink=GREY)
    sheet.put(tile(p.clean[0], TILE, (0, 1)), LOOK_X, RESTORED_Y)
    sheet.text(LOOK_X + TILE / 2, RESTORED_Y - 14, "target: clean view 1", ink=GREY)
    middle = RESTORED_Y + TILE / 2
    sheet.pen.line((LOOK_X + TILE + 6, middle - 4, MAP_X - 8, middle - 4), fill=GREEN, width=2)
    sheet.pen.line((LOOK_X + TILE + 6, middle + 4, MAP_X - 8, middle + 4), fill=GREEN, width=2)
    sheet.text(VIEW_X + 70, middle - 10, "squared error,", 14, GREEN)
    sheet.text(VIEW_X + 70, middle + 10, "in every voxel", 14, GREEN)
    y = RESTORED_Y + TILE + 22
    sheet.text((places[0] + places[-2] + TILE) / 2, y, "L_mid: from the drawn scale, fades out", 14, GREEN)
    sheet.text(places[-1] + TILE / 2, y, "L_pix: always", 14, GREEN)


def main() -> None:
    """Batch, pictures, figure."""
    flags, _ = parsing.read_flags(sys.argv[1:], ())
    if not {"run", "out"} <= set(flags):
        sys.exit(__doc__)
    config, method = trained(Path(flags["run"]))
    with tempfile.TemporaryDirectory() as scratch:
        brains = Path(flags.get("brains", str(Path(scratch) / "brains")))
        draw(pictures_of(method, batch_of(config, method, brains)), Path(flags["out"]))


if __name__ == "__main__":
    main()
