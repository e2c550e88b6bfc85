"""The header of a DICOM file, read from a few of its tags."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from pathlib import Path

from foveate.data.readers.dicom.deflated import readable
from foveate.data.readers.dicom.header import CLASS_MODALITY, STORAGE, Header
from foveate.data.readers.dicom.silence import unquoted
from foveate.data.readers.dicom.tags import DataSet, Value
from foveate.data.readers.refusals import RefusalError

TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "PatientID"),
    *("Rows", "Columns", "NumberOfFrames", "PixelSpacing", "ImagerPixelSpacing"),
    *("ImageOrientationPatient", "ImagePositionPatient", "AcquisitionNumber", "InstanceNumber"),
    *("BitsStored", "BurnedInAnnotation", "SliceThickness"),
]


def read_header(path: Path) -> Header:
    """The tags of one file.

    Raises:
        RefusalError: when they cannot be read.
    """
    try:
        with unquoted():
            return _header(path, _few_tags(path))
    except RefusalError:
        raise
    except Exception as error:  # a damaged header fails in many ways
        raise RefusalError(f"its DICOM header is damaged ({type(error).__name__})") from error


def _few_tags(path: Path) -> DataSet:
    import pydicom

    tags: DataSet = pydicom.dcmread(readable(path), force=True, stop_before_pixels=True, specific_tags=TAGS)
    return tags


def _header(path: Path, tags: DataSet) -> Header:
    storage = str(tags.get("SOPClassUID") or "").removeprefix(STORAGE)
    modality = str(tags.get("Modality") or "").upper()
    return Header(
        path=path,
        modality=modality or CLASS_MODALITY.get(storage.split(".")[0], CLASS_MODALITY.get(storage, "")),
        storage=storage,
        image_type=tuple(str(word).upper() for word in _many(tags.get("ImageType"))),
        instance=str(tags.get("SOPInstanceUID") or ""),
        series=str(tags.get("SeriesInstanceUID") or ""),
        patient=str(tags.get("PatientID") or ""),
        rows=int(tags.get("Rows") or 0),
        columns=int(tags.get("Columns") or 0),
        frames=int(tags.get("NumberOfFrames") or 1),
        spacing=numbers(tags.get("PixelSpacing") or tags.get("ImagerPixelSpacing"), 2),
        orientation=numbers(tags.get("ImageOrientationPatient"), 6),
        position=numbers(tags.get("ImagePositionPatient"), 3),
        order=(int(tags.get("AcquisitionNumber") or 0), int(tags.get("InstanceNumber") or 0)),
        bits=int(tags.get("BitsStored") or 0),
        burned_in=str(tags.get("BurnedInAnnotation") or "").upper(),
        file_bytes=path.stat().st_size,
        thickness=thickness_of(tags.get("SliceThickness")),
    )


def thickness_of(value: str | float | None) -> float:
    """In mm; 0 where it is not said."""
    try:
        found = float(value or 0)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def _many(value: str | Sequence[str] | None) -> Sequence[str]:
    if value is None:
        return ()
    return [value] if isinstance(value, str) else list(value)


def numbers(value: Value, count: int) -> tuple[float, ...]:
    """That many numbers, or none where there are others."""
    if isinstance(value, str) or not isinstance(value, Sized) or len(value) != count:
        return ()
    found = tuple(float(number) for number in value)
    return found if all(map(math.isfinite, found)) else ()
