"""DICOM that promises more than it holds: sizes, frames, fragments, segments; or says another syntax."""

from __future__ import annotations

import io
import struct

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from hostile_text import Case, Craft
from mutations import broken, mutated, wrong_length
from specimens import drawn
from specimens_dicom import dicom_specimens

OWN = dicom_specimens(drawn(0))
LOST, CUTS = 2, (5, 6)  # ways to harm fragments that cannot be made good
ENCAPSULATED = ("rle", "rle", "jpeg", "jpeg-lossless", "jpeg2000", "jpeg-ls", "frames-rle")
SYNTAXES = (
    *(DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit),
    *(JPEGLosslessSV1, JPEGLSLossless, RLELossless, "1.2.3"),
)
LIES: dict[str, tuple[int, ...]] = {
    "Rows": (0, 1, 23, 25, 48, 65535),
    "Columns": (0, 1, 31, 33, 64, 65535),
    "NumberOfFrames": (0, 1, 2, 7, 9, 100, 2147483647, -1),
    "BitsAllocated": (1, 8, 12, 16, 24, 32, 64),
    "BitsStored": (0, 1, 8, 12, 16, 17),
    "SamplesPerPixel": (0, 2, 3, 4),
    "PixelRepresentation": (0, 1, 2),
}


def _opened(kind: str) -> Dataset:
    return pydicom.dcmread(io.BytesIO(OWN[f"dicom-{kind}"].files[".dcm"]))


def _saved(data: Dataset, *, hopeless: bool = False) -> Case:
    file = io.BytesIO()
    data.save_as(file)
    return Case({".dcm": file.getvalue()}, hopeless=hopeless)


def lies(rng: np.random.Generator) -> Case:
    """One tag that says what size or form the pixels have is wrong."""
    names = [name for name, specimen in OWN.items() if not specimen.is_series]
    name = names[int(rng.integers(len(names)))]
    if rng.random() < 0.1:
        return _of_another_syntax(OWN[name].files[".dcm"], SYNTAXES[int(rng.integers(len(SYNTAXES)))])
    data = _opened(name.removeprefix("dicom-"))
    tag = list(LIES)[int(rng.integers(len(LIES)))]
    lie = LIES[tag][int(rng.integers(len(LIES[tag])))]
    more = tag in {"Rows", "Columns", "NumberOfFrames"} and lie > int(data.get(tag) or 1)
    setattr(data, tag, lie)
    return _saved(data, hopeless=more)


def _of_another_syntax(file: bytes, syntax: str) -> Case:
    meta = pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True).file_meta
    start = 144 + meta.FileMetaInformationGroupLength
    meta.TransferSyntaxUID = syntax
    head = io.BytesIO()
    write_file_meta_info(head, meta, enforce_standard=False)
    return Case({".dcm": bytes(128) + b"DICM" + head.getvalue() + file[start:]})


def _short(data: Dataset, promised: int) -> Case:
    """The file as it is written, hopeless where bytes are missing: the writer pads an odd length by one."""
    case = _saved(data)
    written = pydicom.dcmread(io.BytesIO(case.files[".dcm"])).PixelData
    return Case(case.files, hopeless=len(written) < promised)


def short_pixels(rng: np.random.Generator) -> Case:
    """Fewer or more bytes of pixels than promised, or one frame too few."""
    data = _opened(("explicit", "implicit", "frames")[int(rng.integers(3))])
    pixels = bytes(data.PixelData)
    data.PixelData = pixels[:-84] if rng.random() < 0.3 else wrong_length(rng, pixels)
    return _short(data, len(pixels))


def fragments(rng: np.random.Generator) -> Case:
    """Fragments broken, lost, doubled or merged; in RLE, segments that begin elsewhere."""
    data = _opened(ENCAPSULATED[int(rng.integers(len(ENCAPSULATED)))])
    parts = list(generate_fragments(data.PixelData))
    which, way = int(rng.integers(1, len(parts))) if len(parts) > 1 else 0, int(rng.integers(7))
    if way < 2:
        parts[which] = broken(rng, parts[which])
    elif way in CUTS:
        cut = len(parts[which]) * int(rng.integers(1, 4)) // 4
        parts[which] = parts[which][:cut] + (b"\xff\xd9" if rng.random() < 0.5 else b"")
    elif way == LOST:
        del parts[which]
    elif way == 3:
        parts.insert(which, parts[which])
    elif data.file_meta.TransferSyntaxUID == RLELossless:
        segment = bytearray(parts[which].ljust(64, b"\0"))
        at = 4 * int(rng.integers(4))
        struct.pack_into("<I", segment, at, int(rng.choice([0, 1, 2, 15, 63, 64, 65, 900, 0xFFFFFFFF])))
        parts[which] = bytes(segment)
    else:
        half = len(parts[which]) // 2
        parts[which : which + 1] = [parts[which][:half], parts[which][half:]]
    data.PixelData = encapsulate([p or b"\0\0" for p in parts] or [b"\0\0"], has_bot=bool(rng.random() < 0.5))
    data["PixelData"].is_undefined_length = True
    return _saved(data, hopeless=way in {LOST, *CUTS})


def deflated(rng: np.random.Generator) -> Case:
    """The deflate stream behind the meta information is broken."""
    data = OWN["dicom-deflated"].files[".dcm"]
    start = 144 + struct.unpack_from("<I", data, 140)[0]
    return Case({".dcm": data[:start] + broken(rng, data[start:])})


def series(rng: np.random.Generator) -> Case:
    """One slice of a series is short, damaged, lost, or of another size."""
    files = dict(OWN["dicom-series"].files)
    which = list(files)[int(rng.integers(len(files)))]
    way, short = int(rng.integers(4)), False
    if way == 0:
        del files[which]
    elif way == 1:
        files[which] = mutated(rng, ".dcm", files[which])
    else:
        data = pydicom.dcmread(io.BytesIO(files[which]))
        if way == 2:
            pixels = bytes(data.PixelData)
            data.PixelData = wrong_length(rng, pixels)
            short = _short(data, len(pixels)).hopeless
        else:
            data.Rows = int(rng.choice([1, 6, 8, 700]))
        files[which] = _saved(data).files[".dcm"]
    return Case(files, hopeless=short)


DICOM: tuple[Craft, ...] = (lies, short_pixels, fragments, fragments, deflated)
