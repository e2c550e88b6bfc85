"""PNG, JPEG and TIFF, read by Pillow: [x, y] with x to the right and y down, in grey or in colour."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foveate.core.types import Array, Colour, Volume
from foveate.data.readers import jpeg, png, tiff
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.regular import open_regular

if TYPE_CHECKING:
    from PIL.Image import Image as ImageOfPillow
    from PIL.ImageFile import ImageFile

FORMATS = ("PNG", "JPEG", "TIFF")
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF tag and its value for pictures stored as negatives
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F")  # Pillow's modes of more than 8 bits start with these


def read_picture(path: Path, colour: Colour = "grey") -> Volume:
    """One picture, as its camera was held; more than 8 bits are kept.

    `colour`: `keep` gives every picture three channels (red, green, blue), a grey one three that are equal.
    """
    from PIL import Image, ImageOps

    with open_regular(path) as file:
        data = file.read()
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check(image)
    except Image.DecompressionBombError:
        raise RefusalError("it has more pixels than Pillow agrees to decode") from None
    with Image.open(BytesIO(whole(data)), formats=FORMATS) as image:
        negative = _is_negative(image)
        image.load()
        if data.startswith(jpeg.START):
            check_jpeg(data, image.tobytes())
        upright = ImageOps.exif_transpose(image)
        deep = upright.mode.startswith(DEEP_MODES)
        kept = colour == "keep" and not deep
        coloured = _has_colour(upright)
        rows = np.asarray(upright if deep else upright.convert("RGB" if kept else "L"))
    values = _deep_values(rows, negative=negative) if deep else rows
    if not kept:
        return _with_three(picture(values, spacing_mm=(1.0, 1.0)), coloured, three=colour == "keep")
    channels = [picture(values[..., k], spacing_mm=(1.0, 1.0)).array for k in range(3)]
    return replace(
        picture(values[..., 0], spacing_mm=(1.0, 1.0)), array=np.concatenate(channels), colour=coloured
    )


def _with_three(grey: Volume, coloured: bool, *, three: bool) -> Volume:
    """A picture of one channel, or with three equal ones."""
    return replace(grey, array=np.repeat(grey.array, 3, axis=0) if three else grey.array, colour=coloured)


def _has_colour(image: ImageOfPillow) -> bool:
    """Whether a picture is in colour: some write grey ones with three equal values."""
    if image.mode in GREY_MODES or image.mode.startswith(DEEP_MODES):
        return False
    rows = np.asarray(image.convert("RGB"))
    return bool((rows[..., 0] != rows[..., 1]).any() or (rows[..., 1] != rows[..., 2]).any())


def whole(data: bytes) -> bytes:
    """What Pillow may decode: a picture of which no part is missing, as far as its format tells.

    Raises:
        RefusalError: it is truncated or damaged.
    """
    if data.startswith(png.MAGIC):
        return png.stored(data)
    if data.startswith(jpeg.START):
        return data
    for segment, stream in tiff.check_tiff(data):
        frame = check_jpeg(stream)
        if frame.columns != segment.columns or frame.rows not in segment.rows:
            raise RefusalError("a compressed strip or tile has another size than its header promises")
    return data


def check_jpeg(data: bytes, pixels: bytes | None = None) -> jpeg.Frame:
    """Refuses a JPEG with a scan that is cut; what it says of itself.

    Args:
        data: The stream.
        pixels: What Pillow makes of it, where that is known.
    """
    frame = jpeg.frame_of(data)
    other = jpeg.poisoned(data, frame)
    if other is not None and _decoded(other) != (_decoded(data) if pixels is None else pixels):
        raise RefusalError(jpeg.CUT)
    return frame


def _decoded(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        return image.tobytes()


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


def _check(image: ImageFile) -> None:
    frames = _frames_of(image)
    if frames > 1:
        raise RefusalError(f"it holds {frames} frames; save one file per frame")
    raw_mode = str(image.tile[0][3]) if image.tile else ""
    if ";16" in raw_mode and not image.mode.startswith("I"):
        raise RefusalError("it is 16-bit colour, of which Pillow keeps 8 bits; save it as 16-bit grey")


def _frames_of(image: ImageFile) -> int:
    from PIL.MpoImagePlugin import MpoImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    return image.n_frames if isinstance(image, MpoImageFile | PngImageFile | TiffImageFile) else 1


def _deep_values(rows: Array, *, negative: bool) -> Array:
    """Whole numbers as uint16 where they fit; a negative turned back."""
    if rows.dtype.kind == "f":
        return rows
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        return rows.astype(np.int32)
    values = rows.astype(np.uint16)
    return np.iinfo(np.uint16).max - values if negative else values
