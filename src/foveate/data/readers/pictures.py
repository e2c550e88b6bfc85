"""PNG, JPEG and TIFF, read by Pillow: [x, y] with x to the right and y down, colour reduced to luminance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.readers.refusals import RefusalError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

FORMATS = ("PNG", "JPEG", "TIFF")
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF tag and its value for pictures stored as negatives
DEEP_MODES = ("I", "F")  # Pillow's modes of more than 8 bits start with these


def read_picture(path: Path) -> Volume:
    """One picture, as its camera was held; more than 8 bits are kept."""
    from PIL import Image, ImageOps

    try:
        opened = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise RefusalError("it has more pixels than Pillow agrees to decode") from None
    with opened as image:
        _check(image)
        negative = _is_negative(image)
        upright = ImageOps.exif_transpose(image)
        deep = upright.mode.startswith(DEEP_MODES)
        rows = np.asarray(upright if deep else upright.convert("L"))
    values = _deep_values(rows, negative=negative) if deep else rows
    return picture(values, spacing_mm=(1.0, 1.0))


def picture(rows: Array, spacing_mm: tuple[float, float], modality: str = "") -> Volume:
    """A 2D volume from an array [y, x]."""
    return Volume(
        array=rows.T[np.newaxis],
        affine=np.diag([*spacing_mm, 1.0, 1.0]),
        spacing_mm=spacing_mm,
        bits=8 if rows.dtype == np.uint8 else 16,
        modality=modality,
    )


def _is_negative(image: ImageFile) -> bool:
    from PIL.TiffImagePlugin import TiffImageFile

    return isinstance(image, TiffImageFile) and bool(image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO)


def _frames(image: ImageFile) -> int:
    """How many pictures a file holds; a JPEG of several is an MPO."""
    from PIL.MpoImagePlugin import MpoImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    return image.n_frames if isinstance(image, MpoImageFile | PngImageFile | TiffImageFile) else 1


def _check(image: ImageFile) -> None:
    if (frames := _frames(image)) > 1:
        raise RefusalError(f"it holds {frames} frames; save one file per frame")
    raw_mode = str(image.tile[0][3]) if image.tile else ""
    if ";16" in raw_mode and not image.mode.startswith("I"):
        raise RefusalError("it is 16-bit colour, of which Pillow keeps 8 bits; save it as 16-bit grey")


def _deep_values(rows: Array, *, negative: bool) -> Array:
    """Whole numbers as uint16 where they fit; a negative turned back."""
    if rows.dtype.kind == "f":
        return rows
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        return rows.astype(np.int32)
    values = rows.astype(np.uint16)
    return np.iinfo(np.uint16).max - values if negative else values
