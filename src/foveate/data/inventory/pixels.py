"""What the voxels of one image say: hash, range, canonical shape, and a small picture of it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.cache.index import salted_id
from foveate.data.decoding.decoder import FaultyReaderError, shared_decoder
from foveate.data.inventory.headers import crossed, unforeseen
from foveate.data.readers.channels import voxel_hash
from foveate.data.readers.refusals import looks_like_labels
from foveate.data.readers.unreadable import UnreadableImageError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

TILE = 72  # pixels of the longer side
SAMPLE = 1 << 16

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PixelTask:
    """One image to decode."""

    number: int
    files: tuple[bytes, ...]
    role: str
    bits: int
    draw: bool


def looks_of(tasks: Sequence[PixelTask], salt: bytes, root: Path) -> list[tuple[int, Row]]:
    """What the voxels of some images say, by their numbers; their headers may not lead out of `root`."""
    return [(task.number, {"decoded": 1, **_look(task, salt, root)}) for task in tasks]


def _look(task: PixelTask, salt: bytes, root: Path) -> Row:
    try:
        return _decoded(task, salt, root)
    except FaultyReaderError:  # every file of its kind would be left out, for good
        raise
    except Exception as error:
        return {"role": "other", "reason": unforeseen(error)}


def _decoded(task: PixelTask, salt: bytes, root: Path) -> Row:
    files = tuple(Path(os.fsdecode(file)) for file in task.files)
    extra: Row = {}
    try:
        try:
            volume = shared_decoder().read(files, as_map=task.role == "label", root=root)
        except UnreadableImageError as error:
            if not looks_like_labels(error.reason):
                raise
            volume = shared_decoder().read(files, flat=True, root=root)
            extra = {"role": "label", "evidence": error.reason}
    except UnreadableImageError as error:
        return {"role": "other", "reason": error.reason}
    array = volume.array
    return extra | {
        "shape": crossed(array.shape[1:]),
        "spacing_mm": crossed(round(float(each), 4) for each in volume.spacing_mm),
        "bits": task.bits or array.dtype.itemsize * 8,
        "minimum": float(array.min()),
        "maximum": float(array.max()),
        "voxels": salted_id(salt, f"voxels {voxel_hash(array)}"),
        "thumbnail": thumbnail(volume) if task.draw else None,
    }


def thumbnail(volume: Volume) -> bytes:
    """Middle planes side by side as a PNG with nothing but pixels in it."""
    from PIL import Image

    image = volume.array[0]
    low, high = volume.window or _range(image)
    tiles = [
        _tile(image, axes, (low, high), volume.spacing_mm) for axes in combinations(range(image.ndim), 2)
    ]
    sheet = Image.new("L", (sum(tile.width for tile in tiles), max(tile.height for tile in tiles)))
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _range(image: Array) -> tuple[float, float]:
    sample = image.reshape(-1)[:: max(1, image.size // SAMPLE)]
    low, high = np.percentile(sample, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(image.min()), float(image.max()))


def _tile(
    image: Array, axes: tuple[int, ...], grey: tuple[float, float], spacing: Sequence[float]
) -> Picture:
    """The middle plane along two axes, in true proportions; volumes grow upwards, pictures downwards."""
    from PIL import Image

    index = tuple(slice(None) if axis in axes else size // 2 for axis, size in enumerate(image.shape))
    rows = image[index].T.astype(np.float64)
    low, high = grey
    pixels = np.clip((rows - low) / max(high - low, 1e-6), 0, 1) * 255
    upright = pixels[::-1] if image.ndim > len(axes) else pixels
    sides = [image.shape[axis] * spacing[axis] for axis in axes]
    scale = TILE / max(sides)
    size = (max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale)))
    drawn = Image.fromarray(np.ascontiguousarray(upright.astype(np.uint8)))
    return drawn.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
