"""Writes small DICOM files for tests: a tilted CT by default, any tag of it changed or excluded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, DX, CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.7"
ENHANCED_MR, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.481.3"
NAME = "Doe^Jane"
ROW, COLUMN = np.array([0.96, 0.28, 0.0]), np.array([-0.28, 0.96, 0.0])  # in plane by 16 degrees
NORMAL = np.cross(ROW, COLUMN)
SERIES = generate_uid()


def dataset(pixels: np.ndarray | None, **tags: object) -> Dataset:
    """One file's data set; a tag given as None is excluded."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    known = {
        "SOPClassUID": CT,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": SERIES,
        "StudyInstanceUID": generate_uid(),
        "Modality": "CT",
        "PatientID": NAME,
        "PatientName": NAME,
        "SeriesDescription": NAME,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceNumber": 1,
        "PixelSpacing": [0.5, 0.75],
        "ImageOrientationPatient": [*ROW, *COLUMN],
        "ImagePositionPatient": [-20.0, 30.0, 40.0],
    }
    if pixels is not None:
        known |= _pixel_tags(pixels)
    for tag, value in {**known, **tags}.items():
        if value is not None:
            setattr(data, tag, value)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return data


def _pixel_tags(pixels: np.ndarray) -> dict[str, object]:
    bits = 8 * pixels.dtype.itemsize
    return {
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
    }


def write(path: Path, pixels: np.ndarray | None, **tags: object) -> Path:
    """One file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset(pixels, **tags).save_as(path, enforce_file_format=True)
    return path


def place(k: float, step_mm: float = 2.5) -> list[float]:
    """Where slice `k` lies."""
    return [round(float(x), 6) for x in np.array([-20.0, 30.0, 40.0]) + k * step_mm * NORMAL]


def noise(slices: int, rows: int = 6, columns: int = 5) -> np.ndarray:
    """Stored values (slices, rows, columns), int16, all different from those of their neighbours."""
    return np.random.default_rng(7).integers(-1000, 2000, (slices, rows, columns)).astype(np.int16)


def write_series(folder: Path, stored: np.ndarray, names: list[str] | None = None, **tags: object) -> Path:
    """Slices `2.5` mm apart, written in an order that is not theirs."""
    for k in np.random.default_rng(1).permutation(len(stored)):
        name = names[k] if names else f"{500 * (k % 2) + k:03d}"
        own = {"InstanceNumber": int(k) + 1, "ImagePositionPatient": place(k), **tags}
        own = {tag: value(k) if callable(value) else value for tag, value in own.items()}
        write(folder / name, stored[k], **own)
    return folder


def enhanced(path: Path, stored: np.ndarray, order: list[int], **tags: object) -> Path:
    """An enhanced MR whose frame `i` holds slice `order[i]`, with a slope of its own."""
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[*ROW, *COLUMN])]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[0.5, 0.75], SliceThickness=2.5)]
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence = [_item(ImagePositionPatient=place(k))]
        slope = _item(RescaleSlope=k + 1, RescaleIntercept=0, RescaleType="US")
        frame.PixelValueTransformationSequence = [slope]
        frames.append(frame)
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    own = {"SOPClassUID": ENHANCED_MR, "Modality": "MR", "NumberOfFrames": len(order)}
    absent = {"PixelSpacing": None, "ImageOrientationPatient": None, "ImagePositionPatient": None}
    return write(path, stored[order], **{**own, **absent, **groups, **tags})


def _item(**tags: object) -> Dataset:
    data = Dataset()
    for tag, value in tags.items():
        setattr(data, tag, value)
    return data
