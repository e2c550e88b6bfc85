"""The tags that are read of a DICOM data set, each with the type that the standard gives it.

pydicom looks tags up by name and says of no value what it is; here it is said once. A damaged file may hold
something else, which fails where the value is used and is refused there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, overload

Value = str | float | Sequence[float] | None  # one number or several; "" and None: nothing

Word = Literal[
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceUID",
    "Modality",
    "PatientID",
    "BurnedInAnnotation",
    "ROIName",
    "SegmentLabel",
    "SegmentationType",
    "ContourGeometricType",
]
Words = Literal["ImageType"]
Count = Literal[
    "Rows",
    "Columns",
    "NumberOfFrames",
    "AcquisitionNumber",
    "InstanceNumber",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "ROINumber",
    "ReferencedROINumber",
    "SegmentNumber",
    "ReferencedSegmentNumber",
    "MaximumFractionalValue",
]
Number = Literal["RescaleSlope", "RescaleIntercept", "SliceThickness"]
Numbers = Literal[
    "PixelSpacing",
    "ImagerPixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "WindowCenter",
    "WindowWidth",
    "ContourData",
]
Group = Literal[
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "SegmentIdentificationSequence",
    "SegmentSequence",
    "ReferencedSeriesSequence",
    "StructureSetROISequence",
    "ROIContourSequence",
    "ContourSequence",
    "ReferencedFrameOfReferenceSequence",
    "RTReferencedStudySequence",
    "RTReferencedSeriesSequence",
]
Pixels = Literal["PixelData"]


class Syntax(Protocol):
    """The name of a transfer syntax, and what it stands for."""

    @property
    def is_encapsulated(self) -> bool:
        """Whether the pixels are compressed."""
        ...


class Meta(Protocol):
    """What stands before a data set."""

    TransferSyntaxUID: Syntax

    def __contains__(self, name: str, /) -> bool:
        """Whether a tag is there."""
        ...


class Element(Protocol):
    """A tag with its value."""

    is_undefined_length: bool
    length: int  # as the file says, of one that is not interpreted yet
    value: bytes | None


class DataSet(Protocol):
    """What is used of `pydicom.Dataset`; attributes are tags without which there are no pixels."""

    file_meta: Meta
    original_encoding: tuple[bool, bool]  # implicit, little-endian
    Rows: int
    Columns: int
    BitsAllocated: int
    BitsStored: int
    PhotometricInterpretation: str
    PixelData: bytes
    PerFrameFunctionalGroupsSequence: Sequence[DataSet]

    def __contains__(self, name: str, /) -> bool:
        """Whether a tag is there."""
        ...

    def __getitem__(self, name: str, /) -> Element:
        """The whole tag."""
        ...

    def get_item(self, name: str, /) -> Element:
        """The whole tag, not interpreted where it was not before."""
        ...

    @overload
    def get(self, name: Word, /) -> str | None: ...
    @overload
    def get(self, name: Words, /) -> str | Sequence[str] | None: ...
    @overload
    def get(self, name: Count, /) -> int | None: ...
    @overload
    def get(self, name: Count, default: int, /) -> int: ...
    @overload
    def get(self, name: Number, /) -> str | float | None: ...
    @overload
    def get(self, name: Numbers, /) -> Value: ...
    @overload
    def get(self, name: Group, /) -> Sequence[DataSet] | None: ...
    @overload
    def get(self, name: Pixels, /) -> bytes | None: ...
