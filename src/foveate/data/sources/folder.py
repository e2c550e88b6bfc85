"""A plain folder (or a single file): images wherever they are, labels recognised by where they are.

Hidden files and folders are ignored. A folder reached twice through links is listed once, so links
that form a loop end. What counts as a label is decided by names alone and said in `Record.evidence`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NoReturn, final

from foveate.core.types import Dimension, FoveateError, Record
from foveate.data.formats import SUFFIXES, suffix_of

LABEL_FOLDER = re.compile(
    r"(labels?|masks?|segs?|segmentations?|annotations?|ground[-_ ]?truths?|gts?|rois?|contours?)"
    r"([-_ ]?(tr|ts|va))?"
)
LABEL_STEM = re.compile(
    r"(^|.*[-_. +])(a?seg|segmentations?|segs?|masks?|labels?|labelmap|gt|ground[-_ ]?truth|roi)\d*"
)


@final
class FolderSource:
    """Every file below a folder, sorted by its relative path."""

    def dimension(self, root: Path) -> Dimension:
        """2 or 3, from the suffixes of the files that would be pre-trained on."""
        records = list(self.records(root))
        images = [record for record in records if record.role == "image"]
        if not images:
            _refuse_without_images(root, records)
        dimensions = {SUFFIXES[suffix_of(record.path)] for record in images}
        if len(dimensions) > 1:
            _refuse_mixture(root, images)
        return dimensions.pop()

    def records(self, root: Path) -> Iterator[Record]:
        """Images, labels and the rest ("other"), each with the evidence for its role.

        Raises:
            FoveateError: when `root` does not exist or a folder below it may not be listed.
        """
        if root.is_file():
            yield _record(root, root.name)
            return
        if not root.is_dir():
            raise FoveateError(f"{root} does not exist; give an existing folder or image file (--data).")
        relatives = sorted(path.relative_to(root).as_posix() for path in _files(root, set()))
        yield from (_record(root / relative, relative) for relative in relatives)


def _files(folder: Path, visited: set[str]) -> Iterator[Path]:
    """Files below `folder`; `visited` holds the real paths of folders already listed."""
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    for path in _children(folder):
        if path.is_dir():
            yield from _files(path, visited)
        elif path.is_file():  # false for a link that leads nowhere
            yield path


def _children(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise FoveateError(
            f"{folder} cannot be listed ({error.strerror}); make it readable or move it out of the data."
        ) from error
    return [path for path in found if not path.name.startswith(".")]


def _record(path: Path, relative: str) -> Record:
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        evidence = f"suffix {suffix!r} is not an image that can be read"
        return Record(path=path, relative=relative, role="other", evidence=evidence)
    evidence = label_evidence(relative)
    if evidence:
        return Record(path=path, relative=relative, role="label", evidence=evidence)
    return Record(path=path, relative=relative, role="image", evidence=f"suffix {suffix}")


def label_evidence(relative: str) -> str:
    """Why a relative path names a label, or "" when nothing says so.

    >>> label_evidence("labelsTr/a.nii.gz"), label_evidence("p1/a_seg.nii.gz"), label_evidence("a.png")
    ('folder labelsTr', 'name ends in seg', '')
    """
    pure = PurePosixPath(relative)
    for folder in pure.parts[:-1]:
        if LABEL_FOLDER.fullmatch(folder.lower()):
            return f"folder {folder}"
    stem = pure.name[: len(pure.name) - len(suffix_of(Path(pure.name)))]
    match = LABEL_STEM.fullmatch(stem.lower())
    return f"name ends in {match[2]}" if match else ""


def _suffix_counts(records: Iterable[Record]) -> str:
    counts = Counter(suffix_of(record.path) or "(no suffix)" for record in records)
    return ", ".join(f"{count} x {suffix}" for suffix, count in counts.most_common(8))


def _refuse_without_images(root: Path, records: list[Record]) -> NoReturn:
    labels = [record for record in records if record.role == "label"]
    accepted = ", ".join(SUFFIXES)
    if labels:
        first = labels[0]
        found = f"only labels ({len(labels)} files; {first.relative}: {first.evidence})"
        raise FoveateError(f"{root} holds {found}; point --data at a folder with the images.")
    if not records:
        raise FoveateError(f"{root} holds no file that is not hidden; accepted are {accepted}.")
    found = _suffix_counts(records)
    dicom = any(suffix_of(record.path) in {".dcm", ".ima", ""} for record in records)
    hint = " DICOM series must first be converted, for instance with dcm2niix." if dicom else ""
    raise FoveateError(
        f"{root} holds nothing that can be read: found {found}; accepted are {accepted}.{hint}"
    )


def _refuse_mixture(root: Path, images: list[Record]) -> NoReturn:
    groups = {
        dimension: [record for record in images if SUFFIXES[suffix_of(record.path)] == dimension]
        for dimension in (2, 3)
    }
    found = " and ".join(
        f"{len(group)} {dimension}D images ({group[0].relative})" for dimension, group in groups.items()
    )
    raise FoveateError(
        f"{root} mixes {found}, and one run trains on one dimension; "
        "point --data at a folder that holds only one of them."
    )


TREE = """
any folders and files        images by suffix; labels by folder (labels/, masks/ ...) or name (a_seg.nii.gz)
"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Nothing to choose.

    Attributes:
        name: folder.
    """

    name: Literal["folder"] = "folder"


def build(config: Config) -> FolderSource:  # noqa: ARG001 - every source is built from its Config
    """The source."""
    return FolderSource()
