"""The picture at the top of README: what goes in, what is learned without labels, what comes out.

    python benchmarks/methods/hero.py --figures docs --out docs/figures/hero.png

Put together from pictures that other scripts drew of virtual brains (no patient): the views of `compared.py`,
the restoration of `figures.py` and the tissues of `benchmarks/tasks/figures.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, TOP, EDGE, LOW = 200, 46, 46, 16, 62
INK, GREY, BLUE = "#1a1a1a", "#5a5a5a", "#2878b8"


class Panel(NamedTuple):
    """A part of a picture: file, box in its pixels, words below."""

    file: str
    box: tuple[int, int, int, int]
    words: tuple[str, str]


RESTORED, TISSUES = "methods/figures/context_restoration.png", "tasks/figures/segmentation.png"
PANELS = (
    Panel("methods/figures/simclr.png", (34, 43, 230, 276), ("scans without labels,", "views cut from each")),
    Panel(RESTORED, (281, 29, 534, 282), ("a view, corrupted", "")),
    Panel(RESTORED, (552, 29, 805, 282), ("and restored: so an", "encoder is trained")),
    Panel(TISSUES, (6, 994, 272, 1300), ("a new scan", "")),
    Panel(TISSUES, (658, 994, 924, 1300), ("its tissues, learned", "from 15 brains")),
)
HEADS = ((0, 2, "foveate pretrain"), (3, 4, "foveate finetune, predict"))


def square(picture: Image.Image) -> Image.Image:
    """The middle of a picture, as large as a panel."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def left_of(number: int) -> int:
    """Where a panel begins."""
    return EDGE + number * (SIDE + GAP)


def draw(figures: Path) -> Image.Image:
    """All panels in a row, arrows between them, words above and below."""
    sheet = Image.new("RGB", (left_of(len(PANELS)) - GAP + EDGE, TOP + SIDE + LOW), "white")
    pen = ImageDraw.Draw(sheet)
    for number, panel in enumerate(PANELS):
        left = left_of(number)
        with Image.open(figures / panel.file) as picture:
            sheet.paste(square(picture.convert("RGB").crop(panel.box)), (left, TOP))
        for line, text in enumerate(panel.words):
            place = (left + SIDE // 2, TOP + SIDE + 18 + 20 * line)
            pen.text(place, text, fill=GREY, font=ImageFont.load_default(16), anchor="mm")
    for number in range(1, len(PANELS)):
        end, middle = left_of(number) - 8, TOP + SIDE // 2
        pen.line((end - GAP + 16, middle, end - 8, middle), fill=BLUE, width=4)
        pen.polygon([(end, middle), (end - 12, middle - 8), (end - 12, middle + 8)], fill=BLUE)
    for first, last, words in HEADS:
        begin, end = left_of(first), left_of(last) + SIDE
        pen.text(((begin + end) // 2, 18), words, fill=INK, font=ImageFont.load_default(20), anchor="mm")
        pen.line((begin, TOP - 12, end, TOP - 12), fill=BLUE, width=3)
    return sheet


def main() -> None:
    """Put it together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    draw(chosen.figures).save(chosen.out, optimize=True)


if __name__ == "__main__":
    main()
