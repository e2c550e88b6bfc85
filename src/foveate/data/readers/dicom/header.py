"""What a listing must know of a DICOM file: a few tags, never a pixel; and the role that they imply.

A DICOM file is known by its magic or, for files written without one, by a first element of a group that
starts every data set. Evidence is made of our own words: no text of a header is repeated in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Role = Literal["image", "structure", "other"]

MAGIC_AT, MAGIC = 128, b"DICM"
UNIT_TOLERANCE = 1e-2  # of the squared length and the product of direction cosines
SHORTEST_BYTES, LONGEST_FIRST_VALUE = 64, 64
STACKED = frozenset({"CT", "MR", "PT", "NM"})  # files of these are slices of a volume
PROJECTED = frozenset({"CR", "DX", "MG", "US", "XA", "RF", "IO", "PX", "XC", "OP", "ES", "GM"})  # pictures
STRUCTURES = frozenset({"RTSTRUCT", "SEG"})
NOT_IMAGES = {
    "RTDOSE": "a computed dose",
    "RTPLAN": "a treatment plan",
    "RTIMAGE": "an image of a treatment beam",
    "REG": "a registration",
    "SR": "a report",
    "PR": "a presentation state",
    "KO": "a selection of key images",
    "DOC": "a document",
    "ECG": "a waveform",
    "OT": "of an unknown kind",
}
STORAGE = "1.2.840.10008.5.1.4.1.1."
CLASS_MODALITY = {"2": "CT", "4": "MR", "128": "PT", "20": "NM", "1": "CR", "6.1": "US", "12.1": "XA"}
CLASS_STRUCTURES = ("66.4", "66.5", "481.3")  # segmentation, surface segmentation, RT structure set
CLASS_DERIVED = {"481.2": "a computed dose", "30": "a parametric map", "66": "raw data", "4.2": "spectra"}
CLASS_CAPTURES = ("7", "7.1", "7.2", "7.3", "7.4")
CLASS_VOLUMES = (  # enhanced CT, MR, PET and their legacy conversions, rotational X-ray, tomosynthesis
    *("2.1", "2.2", "4.1", "4.3", "4.4", "130", "128.1", "13.1.1", "13.1.2", "13.1.3"),
)
SET_ASIDE_TYPES = {
    **dict.fromkeys(("LOCALIZER", "SCOUT"), "a localizer"),
    **dict.fromkeys(("SCREEN SAVE", "SCREENSAVE", "REPORT", "COLLAGE", "OVERLAY"), "a picture of a screen"),
    **dict.fromkeys(("DOSE", "DOSE_INFO", "PROTOCOL"), "a page of text"),
    **dict.fromkeys(("PROJECTION IMAGE", "MIP", "MINIP", "MAX_IP", "MIN_IP"), "a projection of a volume"),
    **dict.fromkeys(("VOLUME_RENDERED", "3D RENDERING", "RENDERED", "VRT", "SSD"), "a rendering"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The tags of one file that decide where it belongs."""

    path: Path
    modality: str
    storage: str  # the SOP class, without the prefix that storage classes share
    image_type: tuple[str, ...]
    instance: str
    series: str
    patient: str
    rows: int
    columns: int
    frames: int
    spacing: tuple[float, ...]  # between rows, between columns
    orientation: tuple[float, ...]  # cosines along a row, along a column
    position: tuple[float, ...]
    order: tuple[int, int]  # acquisition, instance
    bits: int = 0  # stored per pixel; 0: not said
    burned_in: str = ""  # YES or NO where the file says whether text is drawn into its pixels
    file_bytes: int = 0
    thickness: float = 0.0  # of a slice in mm; 0: not said

    @property
    def has_place(self) -> bool:
        """Whether position, orientation and spacing are there and make sense."""
        if not (self.position and self.orientation and self.spacing) or min(self.spacing) <= 0:
            return False
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        products = [float(row @ row), float(column @ column), 1 + float(row @ column)]
        return bool(np.allclose(products, 1, atol=UNIT_TOLERANCE))


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does; reads 132 bytes."""
    try:
        with path.open("rb") as stream:
            head = stream.read(MAGIC_AT + len(MAGIC))
    except OSError:
        return False
    return head[MAGIC_AT:] == MAGIC or _starts_a_data_set(head)


def _starts_a_data_set(head: bytes) -> bool:
    """A first element of group 0002 or 0008, with a type or a short length, in either byte order."""
    if len(head) < SHORTEST_BYTES:
        return False
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[at : at + 2], order) for at in (0, 2))
        length = int.from_bytes(head[4:8], order)
        if group in {2, 8} and element < 256 and (head[4:6].isupper() or length <= LONGEST_FIRST_VALUE):
            return True
    return False


def role_of(header: Header) -> tuple[Role, str]:
    """What a file may be used for, and why."""
    word = header.modality
    if word in STRUCTURES or header.storage in CLASS_STRUCTURES:
        return "structure", f"DICOM {word if word in STRUCTURES else 'segmentation'}"
    if word in NOT_IMAGES:
        return "other", f"DICOM {word}: {NOT_IMAGES[word]}"
    if header.storage in CLASS_DERIVED:
        return "other", f"DICOM, {CLASS_DERIVED[header.storage]}"
    if not header.rows or not header.columns:
        return "other", "DICOM without an image"
    if word not in STACKED | PROJECTED:
        return "other", "DICOM of a kind that is not read"
    why = _why_aside(header)
    return ("other", f"DICOM {word}: {why}") if why else ("image", f"DICOM {word}")


def _why_aside(header: Header) -> str:
    if header.modality in STACKED:
        if header.storage in CLASS_CAPTURES:
            return "a secondary capture"
        types = (SET_ASIDE_TYPES[word] for word in header.image_type if word in SET_ASIDE_TYPES)
        if found := next(types, ""):
            return found
    if header.frames > 1 and header.storage not in CLASS_VOLUMES:
        return f"{header.frames} frames that are not slices of a volume"
    return ""


def is_volume_by_itself(header: Header) -> bool:
    """Whether one file holds a whole volume."""
    return header.storage in CLASS_VOLUMES and header.frames > 1
