"""A plain folder (or a single file): images wherever they are, DICOM series put together, labels excluded.

Hidden files and folders are ignored, and so are foveate's own runs and caches below the folder. A folder
reached twice through links is listed once, so links that form a loop end. Why a record has its role is said
in `Record.evidence`: the names of file and folder, or what the header of a DICOM file says. A file with a
suffix of another format is never opened here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, final

from foveate.core.types import Dimension, FoveateError, Record
from foveate.data.cache.index import PROFILE, VOLUMES
from foveate.data.readers.suffixes import ACCEPTED, PICTURES, SUFFIXES, dimension_of, suffix_of
from foveate.data.roles.channels import joined_channels
from foveate.data.roles.names import LABEL_FOLDER, label_evidence, named_modality

Channels = Literal["auto", "separate"]  # files named _0000, _0001: one image, or an image each
OWN = (  # what lies in a run folder, in a cache, beside predictions, in an evaluation
    {"run.yaml", "environment.json"},
    {PROFILE, VOLUMES},
    {"predict.json"},
    {"summary.json", "cases.csv"},
)


@final
@dataclass(frozen=True)
class FolderSource:
    """Every file below a folder, sorted by its relative path; `channels`: see `Config`."""

    channels: Channels = "auto"
    expected: int = 0  # channels that images are known to have

    def dimension(self, root: Path) -> Dimension:
        """2 or 3, from the suffixes and DICOM headers of the files that would be pre-trained on."""
        records = list(self.records(root))
        images = [record for record in records if record.role == "image"]
        if not images:
            _refuse_without_images(root, records)
        dimensions = {dimension_of(record) for record in images}
        if len(dimensions) > 1:
            _refuse_mixture(root, images)
        return dimensions.pop()

    def records(self, root: Path) -> Iterator[Record]:
        """Images, labels and the rest ("other"), each with the evidence for its role.

        Raises:
            FoveateError: when `root` does not exist or a folder below it may not be listed.
        """
        if root.is_file():
            relatives = {root: root.name}
        elif root.is_dir():
            names = sorted(path.relative_to(root).as_posix() for path in _files(root, set()))
            relatives = {root / name: name for name in names}
        else:
            raise FoveateError(f"{root} does not exist; give an existing folder or image file (--data).")
        found = sorted(_records(relatives, root), key=lambda record: record.relative)
        yield from joined_channels(found, root.name, self.expected) if self.channels == "auto" else found


def _records(relatives: Mapping[Path, str], root: Path) -> Iterator[Record]:
    from foveate.data.readers.dicom.header import is_dicom
    from foveate.data.readers.dicom.listing import dicom_records

    unnamed = {path: name for path, name in relatives.items() if suffix_of(path) not in SUFFIXES}
    dicom = {path: name for path, name in unnamed.items() if is_dicom(path)}
    yield from dicom_records(dicom)
    yield from (_record(path, name, root) for path, name in relatives.items() if path not in dicom)


def _files(folder: Path, visited: set[str]) -> Iterator[Path]:
    """Files below `folder` that foveate did not make; `visited`: real paths of folders already listed."""
    real = os.path.realpath(folder)
    if real in visited:
        return
    children = _children(folder)
    labels = LABEL_FOLDER.fullmatch(folder.name.lower())  # predictions that became labels stay labels
    if visited and not labels and any(marks <= {path.name for path in children} for marks in OWN):
        return  # below the data: a preview or a prediction is no scan
    visited.add(real)
    for path in children:
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


def _record(path: Path, relative: str, root: Path) -> Record:
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        evidence = f"suffix {suffix!r} is not an image that can be read"
        return Record(path=path, relative=relative, role="other", evidence=evidence)
    evidence = label_evidence(relative)
    if evidence:
        return Record(path=path, relative=relative, role="label", evidence=evidence)
    modality = named_modality(relative, root.name, picture=suffix in PICTURES)
    return Record(path=path, relative=relative, role="image", evidence=f"suffix {suffix}", modality=modality)


def _suffix_counts(records: Iterable[Record]) -> str:
    counts = Counter(suffix_of(record.path) or "(no suffix)" for record in records)
    return ", ".join(f"{count} x {suffix}" for suffix, count in counts.most_common(8))


def _refuse_without_images(root: Path, records: list[Record]) -> NoReturn:
    labels = [record for record in records if record.role == "label"]
    if labels:
        first = labels[0]
        found = f"only labels ({len(labels)} files; {first.relative}: {first.evidence})"
        raise FoveateError(f"{root} holds {found}; point --data at a folder with the images.")
    if not records:
        raise FoveateError(f"{root} holds no file that is not hidden; accepted are {ACCEPTED}.")
    dicom = [record for record in records if "DICOM" in record.evidence]
    hint = f" For instance {dicom[0].relative}: {dicom[0].evidence}." if dicom else ""
    found = _suffix_counts(records)
    raise FoveateError(
        f"{root} holds nothing that can be pre-trained on: found {found}; accepted are {ACCEPTED}.{hint}"
    )


def _refuse_mixture(root: Path, images: list[Record]) -> NoReturn:
    groups = {
        dimension: [record for record in images if dimension_of(record) == dimension] for dimension in (2, 3)
    }
    found = " and ".join(
        f"{len(group)} {dimension}D images ({group[0].relative})" for dimension, group in groups.items()
    )
    raise FoveateError(
        f"{root} mixes {found}, and one run trains on one dimension; "
        "say --dimension 2 or 3, or point --data at a folder that holds only one of them."
    )


TREE = """
any folders and files        images by suffix; labels by folder (labels/, masks/ ...) or name (a_seg.nii.gz);
                             a_0000.nii.gz a_0001.nii.gz ... of all cases of a folder: channels of one image
"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Any folder of images.

    Attributes:
        name: folder.
        channels: Files `case_0000`, `case_0001` ...: `auto` takes them for the channels of one image where
            all cases of a folder have the same numbers; `separate` reads every file as an image.
    """

    name: Literal["folder"] = "folder"
    channels: Channels = "auto"


def build(config: Config) -> FolderSource:
    """The source."""
    return FolderSource(channels=config.channels)
