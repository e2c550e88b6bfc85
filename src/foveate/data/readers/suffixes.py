"""Suffixes that decide a format, and what they stand for. DICOM is known by content, whatever its name."""

from __future__ import annotations

from pathlib import Path

from foveate.core.types import Dimension, Record

# Suffixes that decide the format, and what they stand for. DICOM is known by content, whatever its name.
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


SUFFIXES: dict[str, Dimension] = {
    **dict.fromkeys((".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".npz"), 3),
    **dict.fromkeys(PICTURES, 2),
}


ACCEPTED = f"DICOM, {', '.join(SUFFIXES)}"


def suffix_of(path: Path) -> str:
    """The lower-case suffix that decides the format, with `.nii.gz` as one.

    >>> suffix_of(Path("a.b.NII.GZ")), suffix_of(Path("a.b.PNG")), suffix_of(Path("LICENSE"))
    ('.nii.gz', '.png', '')
    """
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), path.suffix.lower())


def dimension_of(record: Record) -> Dimension:
    """Whether a record is a picture or a volume, as far as its source or its suffix says."""
    return record.dimension or SUFFIXES.get(suffix_of(record.path), 3)
