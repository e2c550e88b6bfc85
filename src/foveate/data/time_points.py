"""The volumes of a 4D file as images of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from foveate.core.types import Record
from foveate.data.readers.nifti import volumes_in
from foveate.data.readers.suffixes import suffix_of

NIFTI = (".nii", ".nii.gz")


def by_time_point(images: Sequence[Record]) -> tuple[list[Record], str]:
    """The images, each volume of a 4D NIfTI being one, and a note; "" where there is no such file.

    Only headers are read. All images of a file have its patient.
    """
    counts = [1 if image.channels else _count(image) for image in images]
    found = [
        each
        for image, count in zip(images, counts, strict=True)
        for each in ([_of(image, point) for point in range(count)] if count > 1 else [image])
    ]
    files = sum(count > 1 for count in counts)
    volumes = len(found) - counts.count(1)
    note = f"--channels.fourth_axis images: {files} files of four axes are read as {volumes} images"
    return found, note if files else ""


def _count(image: Record) -> int:
    return volumes_in(image.path) if suffix_of(image.path) in NIFTI else 1


def _of(image: Record, point: int) -> Record:
    """One volume of a file, counted from 0."""
    name = PurePosixPath(image.relative)
    suffix = suffix_of(image.path)
    own = f"{name.name[: -len(suffix)]}#{point}{name.name[-len(suffix) :]}"
    return replace(image, relative=name.with_name(own).as_posix(), point=point)
