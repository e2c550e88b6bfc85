"""What a file of structures says of itself: their names, and the series and the space that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from foveate.data.readers.dicom.deflated import readable
from foveate.data.readers.dicom.silence import unquoted
from foveate.data.readers.dicom.tags import DataSet, Group
from foveate.data.readers.refusals import RefusalError

PLANAR = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")  # contours that enclose something
TAGS = [
    *("SeriesInstanceUID", "FrameOfReferenceUID", "ReferencedSeriesSequence", "SegmentSequence"),
    *("StructureSetROISequence", "ROIContourSequence", "ReferencedFrameOfReferenceSequence"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The structures of one file; `empty` are named in it and enclose nothing."""

    path: Path
    series: frozenset[str]  # that the file refers to
    frames: frozenset[str]  # of reference
    names: Mapping[int, str]
    empty: tuple[str, ...] = ()


def contents_of(path: Path) -> Contents:
    """The structures of an RTSTRUCT or a SEG.

    Raises:
        RefusalError: when it cannot be read; nothing of the file is quoted.
    """
    try:
        with unquoted():
            return _contents(path, few_tags(path, TAGS))
    except RefusalError:
        raise
    except Exception as error:  # a damaged header fails in many ways
        raise RefusalError(f"its DICOM header is damaged ({type(error).__name__})") from error


def few_tags(path: Path, names: list[str]) -> DataSet:
    """Some tags of a file, without its pixels; pydicom takes a sequence that is cut off for a shorter one."""
    import pydicom
    from pydicom.dataelem import RawDataElement

    tags: DataSet = pydicom.dcmread(readable(path), force=True, stop_before_pixels=True, specific_tags=names)
    for name in names:
        raw = tags.get_item(name) if name in tags else None
        if isinstance(raw, RawDataElement) and raw.length != len(raw.value or b""):
            raise RefusalError("it is truncated")
    return tags


def place_of(path: Path) -> tuple[str, str]:
    """The series and the frame of reference of an image's file."""
    with unquoted():
        tags = few_tags(path, ["SeriesInstanceUID", "FrameOfReferenceUID"])
        return str(tags.get("SeriesInstanceUID") or ""), str(tags.get("FrameOfReferenceUID") or "")


def _contents(path: Path, tags: DataSet) -> Contents:
    if segments := tags.get("SegmentSequence"):
        return Contents(
            path=path,
            series=_uids(item.get("SeriesInstanceUID") for item in items(tags, "ReferencedSeriesSequence")),
            frames=_uids([tags.get("FrameOfReferenceUID")]),
            names={
                number: _name(item.get("SegmentLabel"))
                for item in segments
                if (number := int(item.get("SegmentNumber", 0)))  # 0 is the background of a label map
            },
        )
    frames = items(tags, "ReferencedFrameOfReferenceSequence")
    studies = [study for frame in frames for study in items(frame, "RTReferencedStudySequence")]
    series = [one for study in studies for one in items(study, "RTReferencedSeriesSequence")]
    rois = items(tags, "StructureSetROISequence")
    own = [roi.get("ReferencedFrameOfReferenceUID") for roi in rois]
    closed = closed_contours(tags)
    if rois and not closed:
        raise RefusalError("it names structures and has no contours")
    named = {int(roi.get("ROINumber", 0)): _name(roi.get("ROIName")) for roi in rois}
    return Contents(
        path=path,
        series=_uids(one.get("SeriesInstanceUID") for one in series),
        frames=_uids([*own, *(frame.get("FrameOfReferenceUID") for frame in frames)]),
        names={number: name for number, name in named.items() if closed.get(number)},
        empty=tuple(name for number, name in named.items() if not closed.get(number)),
    )


def closed_contours(tags: DataSet) -> dict[int, list[DataSet]]:
    """The contours of every ROI that enclose something."""
    return {
        int(roi.get("ReferencedROINumber", 0)): [
            contour
            for contour in items(roi, "ContourSequence")
            if str(contour.get("ContourGeometricType") or "").upper() in PLANAR
        ]
        for roi in items(tags, "ROIContourSequence")
    }


def items(data: DataSet, name: Group) -> list[DataSet]:
    """The items of a sequence, none where it is absent."""
    return list(data.get(name) or ())


def _uids(values: Iterable[str | None]) -> frozenset[str]:
    return frozenset(_words(values))


def _words(values: Iterable[str | None]) -> Iterator[str]:
    yield from (str(value) for value in values if value)


def _name(value: str | None) -> str:
    return str(value or "").strip()
