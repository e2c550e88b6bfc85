"""Files that are the channels of one image by their names: nnU-Net's `case_0000.nii.gz`, `case_0001.nii.gz`.

A number at the end may also count slices, visits or cases. So names count as channels only where all images
of a folder are named so, most cases have the numbers 0 to n - 1 with the same n, and no label map belongs to
one of the numbers alone. One case alone shows no pattern, and pictures are often numbered: for both the
folder must have nnU-Net's own name (`imagesTr`, `imagesTs`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from foveate.core.types import Record
from foveate.data.readers.suffixes import PICTURES, suffix_of

NUMBERED = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
OWN_FOLDER = re.compile(r"images(Tr|Ts|Va)")
MOST = 16  # channels of an image; longer series of numbers count something else
CLEAR_SHARE = 0.5  # of the cases of a folder, which must be complete before others count as incomplete

Cases = Mapping[str, Mapping[int, Record]]


def joined_channels(records: Iterable[Record], root: str = "", expected: int = 0) -> list[Record]:
    """Records in which the files of one case are one image with channels, of which some may be absent.

    Args:
        records: What is in a folder.
        root: The folder's own name.
        expected: Channels that images are known to have, as a trained model does: a single case with as many
            numbers is one image too, and with 1 every file is. 0: unknown.

    >>> names = ["a_0000.nii", "a_0001.nii", "b_0000.nii", "b_0001.nii"]
    >>> [len(r.channels) for r in joined_channels(Record(path=Path(n), relative=n) for n in names)]
    [2, 2]
    """
    listed = list(records)
    if expected == 1:
        return listed
    folders: dict[str, list[Record]] = defaultdict(list)
    for record in listed:
        if record.role == "image":
            folders[PurePosixPath(record.relative).parent.as_posix()].append(record)
    labelled = {_stem(record) for record in listed if record.role == "label"}
    answers: dict[str, Record | None] = {}
    for folder, images in folders.items():
        known = bool(OWN_FOLDER.fullmatch(PurePosixPath(folder).name or root))
        if cases := _cases(images, labelled, known=known, expected=expected):
            answers |= _answers(cases)
    return [kept for record in listed if (kept := answers.get(record.relative, record))]


def _cases(images: Sequence[Record], labelled: set[str], *, known: bool, expected: int) -> Cases:
    """The numbered files of a folder by case; empty where the numbers are no channels."""
    cases: dict[str, dict[int, Record]] = defaultdict(dict)
    suffixes = {suffix_of(record.path) for record in images}
    if len(suffixes) != 1 or (suffixes & set(PICTURES) and not (known or expected)):
        return {}
    for record in images:
        match = NUMBERED.fullmatch(_stem(record))
        if (
            not match
            or record.files
            or record.channels
            or (int(match["number"]) and _stem(record) in labelled)
        ):
            return {}
        cases[match["case"]][int(match["number"])] = record
    count = 1 + max(number for files in cases.values() for number in files)
    complete = sum(len(files) == count for files in cases.values())
    shown = known or len(cases) > 1 or expected == count
    fits = 2 <= count <= MOST and complete > CLEAR_SHARE * len(cases) and shown
    return cases if fits else {}


def _answers(cases: Cases) -> dict[str, Record | None]:
    """Relative path of every file -> the record that takes its place; None where another one holds it."""
    count = max(map(len, cases.values()))
    answers: dict[str, Record | None] = {}
    for files in cases.values():
        first, *others = (files[number] for number in sorted(files))
        answers |= {record.relative: None for record in others}
        answers[first.relative] = replace(
            first,
            channels=tuple(files[number].path for number in sorted(files)),
            absent=tuple(number for number in range(count) if number not in files),
            evidence=f"{count} channels by name, _0000 to _{count - 1:04d}",
        )
    return answers


def _stem(record: Record) -> str:
    name = PurePosixPath(record.relative).name
    return name[: len(name) - len(suffix_of(Path(name)))]


def channel_notes(records: Iterable[Record]) -> list[str]:
    """What the log says of images that consist of several files: how many there are, and how to undo it."""
    counts = Counter(
        len(record.channels) + len(record.absent)
        for record in records
        if "channels by name" in record.evidence
    )
    return [
        f"{_count(images)} {channels} channels, the files _0000 to _{channels - 1:04d}; "
        "--source.channels separate reads every file as an image of its own"
        for channels, images in sorted(counts.items())
    ]


def _count(images: int) -> str:
    return "1 image has" if images == 1 else f"{images} images have"
