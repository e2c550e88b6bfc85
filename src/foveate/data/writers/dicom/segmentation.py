"""Masks as a DICOM segmentation (SEG): binary, a segment per class, frames that hold nothing left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from foveate.core.types import Array
from foveate.data.writers.dicom.modules import (
    as_file,
    code,
    decimal,
    fill,
    item,
    label,
    new_object,
    reference,
    references,
)
from foveate.data.writers.dicom.origin import Origin

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
ONE_BIT = {
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 1,
    "BitsStored": 1,
    "HighBit": 0,
    "PixelRepresentation": 0,
}
BYTE = 8  # frames follow each other bit by bit: this many end with a whole byte, whatever their size
TISSUE = ("85756007", "SCT", "Tissue")  # a class has a name, and no code is known for it
DERIVED = ("113076", "DCM", "Segmentation")
PURPOSE = ("121322", "DCM", "Source image for image processing operation")


def segmentation(
    origin: Origin, names: Sequence[str], mask_of: Callable[[int], Array], version: str
) -> bytes:
    """The file.

    Args:
        origin: The image that was segmented.
        names: Of the segments.
        mask_of: The mask of a segment, counted from 0, in the canonical order of the image.
        version: Of foveate.
    """
    shown: list[tuple[int, int]] = []  # segment and slice of each frame
    bits = packed(_frames(origin, len(names), mask_of, shown))
    data = new_object(origin, STORAGE, "SEG", "Segmentation", version)
    fill(
        data,
        ImageType=["DERIVED", "PRIMARY"],
        ContentDate=data.InstanceCreationDate,
        ContentTime=data.InstanceCreationTime,
        ContentLabel="SEGMENTATION",
        ContentDescription="",
        ContentCreatorName="",
        SegmentationType="BINARY",
        LossyImageCompression="00",
        SegmentSequence=[_segment(k, name, version) for k, name in enumerate(names, 1)],
        **_dimensions(),
        SharedFunctionalGroupsSequence=[_shared(origin)],
        PerFrameFunctionalGroupsSequence=[_frame(origin, number, k) for number, k in shown],
        ReferencedSeriesSequence=[_series(origin)],
        NumberOfFrames=len(shown),
        Rows=origin.shape[1],
        Columns=origin.shape[0],
        **ONE_BIT,
    )
    data.add_new("PixelData", "OB", bits + bytes(len(bits) % 2))
    return as_file(data)


def _frames(
    origin: Origin, count: int, mask_of: Callable[[int], Array], shown: list[tuple[int, int]]
) -> Iterator[Array]:
    """Slices (rows, columns) of masks that hold something; notes each in `shown`."""
    for number in range(count):
        mask = origin.in_file_order(mask_of(number))
        for k in np.flatnonzero(mask.any((0, 1))).tolist():
            shown.append((number, k))
            yield mask[..., k].T
    if not shown:  # an object has at least one frame
        shown.append((0, 0))
        yield np.zeros((origin.shape[1], origin.shape[0]), dtype=bool)


def packed(frames: Iterator[Array]) -> bytes:
    """Frames one after the other, a bit per pixel, the first in the lowest bit."""
    parts, waiting = [], list[Array]()
    for frame in frames:
        waiting.append(frame.ravel())
        if len(waiting) == BYTE:
            parts.append(np.packbits(np.concatenate(waiting), bitorder="little").tobytes())
            waiting.clear()
    if waiting:
        parts.append(np.packbits(np.concatenate(waiting), bitorder="little").tobytes())
    return b"".join(parts)


def _segment(number: int, name: str, version: str) -> Dataset:
    return item(
        SegmentNumber=number,
        SegmentLabel=label(name),
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName=f"foveate {version}",
        SegmentedPropertyCategoryCodeSequence=[code(*TISSUE)],
        SegmentedPropertyTypeCodeSequence=[code(*TISSUE)],
    )


def _dimensions() -> dict[str, list[Dataset]]:
    """By what frames are ordered: the segment, then the place."""
    from pydicom.tag import Tag
    from pydicom.uid import generate_uid

    organisation = generate_uid(prefix=None)
    pairs = (
        ("ReferencedSegmentNumber", "SegmentIdentificationSequence"),
        ("ImagePositionPatient", "PlanePositionSequence"),
    )
    indices = [
        item(
            DimensionOrganizationUID=organisation,
            DimensionIndexPointer=Tag(index),
            FunctionalGroupPointer=Tag(group),
            DimensionDescriptionLabel=index,
        )
        for index, group in pairs
    ]
    owner = item(DimensionOrganizationUID=organisation)
    return {"DimensionOrganizationSequence": [owner], "DimensionIndexSequence": indices}


def _shared(origin: Origin) -> Dataset:
    step = decimal(origin.step_mm)
    measures = item(
        PixelSpacing=[decimal(each) for each in origin.spacing],
        SliceThickness=step,
        SpacingBetweenSlices=step,
    )
    turn = item(ImageOrientationPatient=[decimal(each) for each in origin.orientation])
    return item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[turn])


def _frame(origin: Origin, number: int, k: int) -> Dataset:
    one = origin.slices[k]
    said = {"PurposeOfReferenceCodeSequence": [code(*PURPOSE)], "SpatialLocationsPreserved": "YES"}
    source = fill(reference(one), **said)
    derived = item(SourceImageSequence=[source], DerivationCodeSequence=[code(*DERIVED)])
    return item(
        FrameContentSequence=[item(DimensionIndexValues=[number + 1, k + 1])],
        PlanePositionSequence=[item(ImagePositionPatient=[decimal(each) for each in one.position])],
        SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number + 1)],
        DerivationImageSequence=[derived],
    )


def _series(origin: Origin) -> Dataset:
    return item(
        SeriesInstanceUID=origin.about.SeriesInstanceUID, ReferencedInstanceSequence=references(origin.slices)
    )
