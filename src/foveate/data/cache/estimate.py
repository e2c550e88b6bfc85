"""How much disk a cache will take, from the headers of some of its images."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from foveate.core.types import FoveateError, Record
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.image_files import image_files
from foveate.data.readers.itk import volume as itk
from foveate.data.readers.suffixes import suffix_of

SAMPLE = 64  # images whose headers are read; the others are taken to be like them
BYTES_PER_VOXEL = {"npy": 2.0, "blosc2": 1.35}  # LZ4 leaves about two thirds of a CT
UNKNOWN_FACTOR = 4.0  # cache bytes per byte of a file whose header is not read here: most are compressed


def estimated_bytes(images: Sequence[Record], config: PrepareConfig) -> int:
    """Bytes of the cache of these images: exact voxel counts of an even sample, scaled up."""
    if not images:
        return 0
    sample = images[:: math.ceil(len(images) / SAMPLE)]
    return math.ceil(sum(_bytes_of(record, config) for record in sample) * len(images) / len(sample))


def _bytes_of(record: Record, config: PrepareConfig) -> float:
    per_voxel = BYTES_PER_VOXEL[config.format]
    try:
        voxels = _voxels(record, config)
    except Exception:  # unreadable: it will be a reject, or a reader knows more than this
        voxels = None
    if voxels is None:
        return sum(path.stat().st_size for path in image_files(record) if path.exists()) * UNKNOWN_FACTOR
    return voxels * (per_voxel * max(1, len(record.channels)) + len(record.maps))


def _voxels(record: Record, config: PrepareConfig) -> float | None:
    """Voxels after resampling, from the header; None where no header is read here."""
    suffix = suffix_of(record.path)
    if suffix in (".nii", ".nii.gz"):
        import nibabel as nib

        image = nib.load(record.path)
        shape, spacing = image.shape[:3], image.header.get_zooms()[:3]
    elif suffix in (".png", ".jpg", ".jpeg"):
        from PIL import Image

        with Image.open(record.path) as picture:
            shape, spacing = picture.size, (1.0, 1.0)
    elif suffix in itk.READERS:
        shape, spacing = itk.claimed_grid(record.path)
    elif record.modality:
        return _dicom_voxels(record)
    else:
        return None
    if config.spacing_mm == "native":
        return float(math.prod(shape))
    if not spacing:
        return None
    ratio = math.prod(spacing) / math.prod(config.spacing_mm)
    return float(math.prod(shape) * ratio)


def _dicom_voxels(record: Record) -> float:
    """Of a series as it is: the distance of its slices is not known from one header."""
    from foveate.data.readers.dicom.reading import read_header

    header = read_header(record.path)
    return float(header.rows * header.columns * header.frames * max(1, len(record.files)))


def check_disk(needed: int, folder: Path) -> None:
    """Refuse a cache that cannot fit on the disk of `folder`, with the numbers.

    Raises:
        FoveateError: saying what is needed, what is free and what helps.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FoveateError(
            f"The cache needs about {gib(needed)}, and the disk of {folder} has {gib(free)} free. Choose "
            "another disk (--out), a coarser --prepare.spacing_mm, --prepare.foreground crop or "
            "--prepare.format blosc2, or make room."
        )


def gib(count: float) -> str:
    """Bytes as text in GiB.

    >>> gib(3 * 2**30), gib(5 * 2**20)
    ('3.0 GiB', '5 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{math.ceil(count / 2**20)} MiB"
