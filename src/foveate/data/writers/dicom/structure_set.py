"""Masks as a DICOM RT structure set (RTSTRUCT): an ROI per class, contours on the slices of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from foveate.core.types import Array, FoveateError
from foveate.data.writers.dicom.modules import as_file, fill, item, label, new_object, reference, references
from foveate.data.writers.dicom.origin import Origin
from foveate.data.writers.dicom.outlines import outlines

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY = "1.2.840.10008.3.1.2.3.1"  # what a structure set calls a study
DIGITS = 4  # of a millimetre
MOST_POINTS = 1_000_000  # of all contours of a file: about 30 MB
LONGEST_EXPLICIT = 0xFFFE  # bytes of a contour that an explicit VR has room for
COLOURS = ((255, 85, 85), (85, 170, 255), (85, 255, 85), (255, 255, 85), (255, 85, 255), (85, 255, 255))


def structure_set(
    origin: Origin, names: Sequence[str], mask_of: Callable[[int], Array], version: str
) -> bytes:
    """The file; arguments as those of `segmentation`."""
    frame = origin.about.FrameOfReferenceUID
    room = Room()
    contoured = [_contoured(origin, k, mask_of, room) for k in range(len(names))]
    data = new_object(origin, STORAGE, "RTSTRUCT", "Structures", version)
    series = item(
        SeriesInstanceUID=origin.about.SeriesInstanceUID, ContourImageSequence=references(origin.slices)
    )
    study = item(
        ReferencedSOPClassUID=STUDY,
        ReferencedSOPInstanceUID=origin.about.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    fill(
        data,
        OperatorsName="",
        StructureSetLabel="foveate",
        StructureSetDate=data.InstanceCreationDate,
        StructureSetTime=data.InstanceCreationTime,
        ReferencedFrameOfReferenceSequence=[
            item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])
        ],
        StructureSetROISequence=[_roi(k, name, frame) for k, name in enumerate(names, 1)],
        ROIContourSequence=contoured,
        RTROIObservationsSequence=[
            item(ObservationNumber=k, ReferencedROINumber=k, RTROIInterpretedType="", ROIInterpreter="")
            for k in range(1, len(names) + 1)
        ],
        ApprovalStatus="UNAPPROVED",
    )
    return as_file(data, implicit=room.longest > LONGEST_EXPLICIT)


@final
@dataclass(slots=True)
class Room:
    """How much of a file its contours take."""

    points: int = 0
    longest: int = 0  # bytes of a contour

    def add(self, polygon: Array) -> None:
        """Refuse more than any program that reads contours can work with."""
        self.points += len(polygon)
        if self.points > MOST_POINTS:
            raise FoveateError(
                f"its contours have more than {MOST_POINTS:,} points, as masks of scattered voxels have; use "
                "--format dicom-seg or nifti, or train for longer"
            )


def _contoured(origin: Origin, k: int, mask_of: Callable[[int], Array], room: Room) -> Dataset:
    contours = _contours(origin, origin.in_file_order(mask_of(k)), room)
    drawn = {"ContourSequence": contours} if contours else {}  # a sequence without items is not allowed
    return item(ROIDisplayColor=list(COLOURS[k % len(COLOURS)]), ReferencedROINumber=k + 1, **drawn)


def _roi(number: int, name: str, frame: str) -> Dataset:
    return item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=frame,
        ROIName=label(name),
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def _contours(origin: Origin, mask: Array, room: Room) -> list[Dataset]:
    """Contours (column, row, slice) of a mask, slice by slice."""
    found = []
    for k in np.flatnonzero(mask.any((0, 1))).tolist():
        for polygon in outlines(mask[..., k]):
            room.add(polygon)
            values = origin.corners(polygon, k)
            data = [f"{value:.{DIGITS}f}" for value in values.ravel().tolist()]
            room.longest = max(room.longest, len(data) + sum(map(len, data)))
            found.append(
                item(
                    ContourImageSequence=[reference(origin.slices[k])],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(values),
                    ContourData=data,
                )
            )
    return found
