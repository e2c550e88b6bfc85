"""What every DICOM object says beside its content: patient, study, series, equipment, what it refers to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING

from foveate.data.writers.dicom.origin import Origin, Slice

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from foveate.core.types import Json

COPIED = (  # of patient, study and space: what the standard wants of every object, and no more
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator"),
)
# Of these, values that are not valid are left empty: archives refuse objects with them.
CHECKED = ("PatientBirthDate", "StudyDate", "StudyTime", "StudyID", "AccessionNumber")
ALSO = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")  # if there
UTF8 = "ISO_IR 192"
LONGEST = 64  # characters of a label
SERIES_AFTER = 1000  # the number of the result's series, after that of the image


def item(**tags: Json | Dataset | Sequence[Dataset]) -> Dataset:
    """An item of a sequence."""
    from pydicom.dataset import Dataset

    return fill(Dataset(), **tags)


def fill(data: Dataset, **tags: Json | Dataset | Sequence[Dataset]) -> Dataset:
    """Give an object more tags."""
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def decimal(value: float) -> str:
    """A number in the 16 characters that DICOM has for one."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(float(value)))


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item that says what something is."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def label(text: str) -> str:
    """A name as DICOM allows it: a backslash would begin another value."""
    return text.replace("\\", "/")[:LONGEST]


def new_object(origin: Origin, storage: str, modality: str, described: str, version: str) -> Dataset:
    """An object of the patient and the study of an image, in a series of its own."""
    from pydicom.uid import generate_uid

    about, now = origin.about, datetime.now()
    about.decode()  # its texts, from whatever character set they are in
    data = item(SpecificCharacterSet=UTF8)
    fill(data, **{name: about.get(name, "") for name in COPIED if name not in CHECKED or valid(about, name)})
    fill(data, **{name: "" for name in CHECKED if name not in data})
    for name in ALSO:
        if name in about:
            data[name] = about[name]
    return fill(
        data,
        SOPClassUID=storage,
        SOPInstanceUID=generate_uid(prefix=None),
        SeriesInstanceUID=generate_uid(prefix=None),
        SeriesNumber=int(about.get("SeriesNumber") or 0) + SERIES_AFTER,
        SeriesDescription=described,
        Modality=modality,
        InstanceNumber=1,
        Manufacturer="foveate",
        ManufacturerModelName="foveate",
        DeviceSerialNumber="none",
        SoftwareVersions=version,
        InstanceCreationDate=now.strftime("%Y%m%d"),
        InstanceCreationTime=now.strftime("%H%M%S"),
    )


def valid(about: Dataset, name: str) -> bool:
    """Whether a value is what the standard allows: objects with others are refused by archives."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    if name not in about:
        return True
    try:
        validate_value(about[name].VR, str(about[name].value), RAISE)
    except ValueError:
        return False
    return True


def reference(of: Slice) -> Dataset:
    """Where one slice is."""
    frame = {"ReferencedFrameNumber": of.frame} if of.frame else {}
    return item(ReferencedSOPClassUID=of.storage, ReferencedSOPInstanceUID=of.instance, **frame)


def references(slices: Iterable[Slice]) -> list[Dataset]:
    """The objects that hold slices, each once."""
    objects = {(each.storage, each.instance) for each in slices}
    return [
        item(ReferencedSOPClassUID=storage, ReferencedSOPInstanceUID=instance)
        for storage, instance in sorted(objects)
    ]


def as_file(data: Dataset, *, implicit: bool = False) -> bytes:
    """The file of an object; with implicit value representations, which have room for long values."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
