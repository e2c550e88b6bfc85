"""Where the frames of an enhanced DICOM file lie: its functional groups, a frame's own before the shared."""

from __future__ import annotations

from dataclasses import replace

from foveate.data.readers.dicom.header import Header
from foveate.data.readers.dicom.reading import numbers
from foveate.data.readers.dicom.tags import DataSet, Group
from foveate.data.readers.refusals import RefusalError


def frame_headers(data: DataSet, header: Header) -> list[Header]:
    """One header per frame; `order` holds the number of the frame in the file."""
    if len(data.get("PerFrameFunctionalGroupsSequence") or ()) != header.frames:
        raise RefusalError("its frames do not say where they lie")
    return [_frame_header(data, header, i) for i in range(header.frames)]


def _frame_header(data: DataSet, header: Header, i: int) -> Header:
    place = group_of(data, i, "PlanePositionSequence")
    turn = group_of(data, i, "PlaneOrientationSequence")
    size = group_of(data, i, "PixelMeasuresSequence")
    if place is None or turn is None or size is None:
        raise RefusalError("a frame has no position, orientation or spacing")
    found = replace(
        header,
        instance=str(i),
        position=numbers(place.get("ImagePositionPatient"), 3),
        orientation=numbers(turn.get("ImageOrientationPatient"), 6),
        spacing=numbers(size.get("PixelSpacing"), 2),
        order=(0, i),
    )
    if not found.has_place:
        raise RefusalError("a frame has no position, orientation or spacing")
    return found


def rescale_of(data: DataSet, i: int) -> DataSet:
    """What holds slope and intercept of frame `i`: its group, else the file."""
    group = group_of(data, i, "PixelValueTransformationSequence")
    return data if group is None else group


def group_of(data: DataSet, i: int, name: Group) -> DataSet | None:
    """The first item of a functional group of frame `i`, None where nobody has it."""
    shared = data.get("SharedFunctionalGroupsSequence")
    own = data.PerFrameFunctionalGroupsSequence[i]
    for groups in (own, shared[0]) if shared else (own,):
        found = groups.get(name)
        if found:
            return found[0]
    return None
