"""What the standard asks of a binary segmentation and of a structure set, checked without dciodvfy."""

import shutil
import subprocess

import pydicom
import pytest
from pydicom.config import RAISE
from pydicom.valuerep import validate_value

PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
ALWAYS = (
    *PATIENT,
    *STUDY,
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SOPClassUID",
    "SOPInstanceUID",
    "Manufacturer",
)
FILLED = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "Modality",
    "FrameOfReferenceUID",
)
SEG = (
    *("InstanceNumber", "ContentLabel", "ContentDate", "ContentTime", "SegmentationType", "SegmentSequence"),
    *(
        "ImageType",
        "LossyImageCompression",
        "NumberOfFrames",
        "SharedFunctionalGroupsSequence",
        "FrameOfReferenceUID",
    ),
    *(
        "PerFrameFunctionalGroupsSequence",
        "DimensionOrganizationSequence",
        "DimensionIndexSequence",
        "PixelData",
    ),
    *("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "ReferencedSeriesSequence"),
)
SEGMENT = ("SegmentNumber", "SegmentLabel", "SegmentAlgorithmType", "SegmentAlgorithmName")
CODED = ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence")
FRAME = (
    "FrameContentSequence",
    "PlanePositionSequence",
    "SegmentIdentificationSequence",
    "DerivationImageSequence",
)


def elements(data):
    for element in data:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def check_object(data):
    """Patient, study, series; every value as its type allows; no sequence without items."""
    assert [name for name in ALWAYS if name not in data] == []
    assert [name for name in FILLED if not data.get(name)] == []
    assert data.file_meta.MediaStorageSOPClassUID == data.SOPClassUID
    assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
    for element in elements(data):
        assert element.VR != "SQ" or len(element.value) > 0, element
        if element.VR not in ("SQ", "OB", "PN", "US", "UL", "AT", "FD"):
            values = element.value if element.VM > 1 else [element.value]
            for value in values:
                validate_value(element.VR, str(value), RAISE)


def check_segmentation(path):
    """A binary segmentation; returns its data set."""
    data = pydicom.dcmread(path)
    check_object(data)
    assert [name for name in SEG if not data.get(name)] == []
    assert (data.SegmentationType, data.BitsAllocated, data.BitsStored, data.HighBit) == ("BINARY", 1, 1, 0)
    assert (data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation) == (
        1,
        "MONOCHROME2",
        0,
    )
    bits = data.Rows * data.Columns * data.NumberOfFrames
    assert len(data.PixelData) == -(-bits // 16) * 2
    assert [each.SegmentNumber for each in data.SegmentSequence] == list(
        range(1, len(data.SegmentSequence) + 1)
    )
    for segment in data.SegmentSequence:
        assert [name for name in SEGMENT if not segment.get(name)] == []
        for name in CODED:
            (code,) = segment[name].value
            assert all((code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning))
    (shared,) = data.SharedFunctionalGroupsSequence
    assert len(shared.PixelMeasuresSequence) == len(shared.PlaneOrientationSequence) == 1
    frames = data.PerFrameFunctionalGroupsSequence
    assert len(frames) == data.NumberOfFrames
    indices = [tuple(frame.FrameContentSequence[0].DimensionIndexValues) for frame in frames]
    assert indices == sorted(set(indices))
    assert all(len(index) == len(data.DimensionIndexSequence) for index in indices)
    (series,) = data.ReferencedSeriesSequence
    known = {each.ReferencedSOPInstanceUID for each in series.ReferencedInstanceSequence}
    for frame, (number, _) in zip(frames, indices, strict=True):
        assert [name for name in FRAME if len(frame.get(name, ())) != 1] == []
        assert frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID in known
    return data


def check_structure_set(path):
    """A structure set; returns its data set."""
    data = pydicom.dcmread(path)
    check_object(data)
    assert all(
        data.get(name) for name in ("StructureSetLabel", "StructureSetROISequence", "ROIContourSequence")
    )
    (frame,) = data.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == data.FrameOfReferenceUID
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    known = {each.ReferencedSOPInstanceUID for each in series.ContourImageSequence}
    numbers = [roi.ROINumber for roi in data.StructureSetROISequence]
    assert numbers == [roi.ReferencedROINumber for roi in data.ROIContourSequence]
    assert numbers == [roi.ReferencedROINumber for roi in data.RTROIObservationsSequence]
    for roi in data.ROIContourSequence:
        for contour in roi.get("ContourSequence", ()):
            assert len(contour.ContourData) == 3 * contour.NumberOfContourPoints >= 12
            assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID in known
    return data


def dciodvfy(path):
    """Errors that dciodvfy finds."""
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not here: Debian package dicom3tools")
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert said.stderr.strip()  # it names the kind of object at least
    return [line for line in said.stderr.splitlines() if line.startswith("Error")]
