"""From DICOM files, in any nesting and under any name, to records: volumes, pictures, things set aside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from foveate.core.types import Record
from foveate.data.readers.dicom.header import (
    STACKED,
    Header,
    Role,
    is_volume_by_itself,
    read_header,
    role_of,
)
from foveate.data.readers.dicom.stacks import FEWEST_SLICES, Stack, stacks
from foveate.data.readers.refusals import RefusalError
from foveate.data.roles.names import label_evidence

Relatives = Mapping[Path, str]


def dicom_records(files: Relatives) -> Iterator[Record]:
    """Records of DICOM files, given their paths below the root; headers are read, pixels are not."""
    headers: list[Header] = []
    for path, relative in files.items():
        try:
            headers.append(read_header(path))
        except RefusalError as refusal:
            yield Record(path=path, relative=relative, role="other", evidence=str(refusal))
    yield from records_of(headers, files)


def records_of(headers: Iterable[Header], files: Relatives) -> Iterator[Record]:
    """Records of headers that were read already."""
    slices: list[Header] = []
    for header in headers:
        if is_slice(header):
            slices.append(header)
        else:
            yield _single(header, files[header.path], *role_of(header))
    yield from _series(slices, files)


def is_slice(header: Header) -> bool:
    """Whether a file is a part of a volume, if its neighbours are there."""
    return header.modality in STACKED and not is_volume_by_itself(header) and role_of(header)[0] == "image"


def _single(header: Header, relative: str, role: Role, why: str) -> Record:
    """A picture, a file that is a volume by itself, or one that is no image."""
    volume = is_volume_by_itself(header)
    record = Record(
        path=header.path,
        relative=relative,
        role=role,
        evidence=f"{why}, {header.frames} frames" if volume and role == "image" else why,
        modality=header.modality if role == "image" else "",
        patient=header.patient,
        dimension=3 if volume else 2,
    )
    return _checked_by_name(record)


def _checked_by_name(record: Record) -> Record:
    """An image that its folder or name calls a label is one."""
    named = label_evidence(record.relative) if record.role == "image" else ""
    return replace(record, role="label", evidence=named) if named else record


def _series(slices: Iterable[Header], files: Relatives) -> Iterator[Record]:
    series: dict[str, list[Header]] = {}
    for header in slices:
        series.setdefault(header.series or str(header.path.parent), []).append(header)
    for members in series.values():
        placed = [header for header in members if header.has_place]
        yield from (_without_place(header, files) for header in members if not header.has_place)
        found = stacks(placed)
        volumes = [stack for stack in found if len(stack.headers) >= FEWEST_SLICES]
        yield from (_stack(stack, files, len(volumes)) for stack in found)


def _without_place(header: Header, files: Relatives) -> Record:
    evidence = f"DICOM {header.modality}: a slice without position, orientation or spacing"
    return Record(path=header.path, relative=files[header.path], role="other", evidence=evidence)


def _stack(stack: Stack, files: Relatives, volumes: int) -> Record:
    first, count = stack.headers[0], len(stack.headers)
    enough = count >= FEWEST_SLICES
    note = f" ({stack.note})" if stack.note else ""
    part = f", one of {volumes} volumes of its series" if volumes > 1 else ""
    fragment = f": a localizer or a fragment, at least {FEWEST_SLICES} slices make a volume"
    record = Record(
        path=first.path,
        relative=files[first.path],
        files=tuple(header.path for header in stack.headers),
        role="image" if enough else "other",
        evidence=f"DICOM {first.modality}, slices: {count}{part if enough else fragment}{note}",
        modality=first.modality if enough else "",
        patient=first.patient,
        dimension=3,
    )
    return _checked_by_name(record)
