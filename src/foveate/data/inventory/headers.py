"""What the header of one file says, without a pixel; salted before it leaves this file.

Of a header's text only words of our own lists are kept, and of a name only what marks labels and modalities.
"""

from __future__ import annotations

import gzip
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from foveate.core.types import FoveateError, Record
from foveate.data.cache.index import salted_id
from foveate.data.readers.dicom.header import (
    CLASS_CAPTURES,
    NOT_IMAGES,
    PROJECTED,
    SET_ASIDE_TYPES,
    STACKED,
    STRUCTURES,
    Header,
    is_dicom,
    read_header,
)
from foveate.data.readers.dicom.listing import is_slice, records_of
from foveate.data.readers.dicom.stacks import step_of
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.suffixes import PICTURES, SUFFIXES, suffix_of
from foveate.data.roles.names import label_evidence, named_modality

MODALITIES = STACKED | PROJECTED | STRUCTURES | set(NOT_IMAGES)
OFTEN_BURNED_IN = frozenset({"US", "ES", "XC", "GM", "OP"})
NIFTI_BYTES = {348: 348, 540: 540}
DATA_PARTS = (".raw", ".zraw", ".img")
TEXTS = (
    ".txt",
    ".csv",
    ".tsv",
    ".json",
    ".md",
    ".xml",
    ".pdf",
    ".html",
    ".yaml",
    ".yml",
    ".py",
    ".xls",
    ".xlsx",
)
ARCHIVES = (".zip", ".tar", ".gz", ".bz2", ".7z", ".rar", ".xz", ".zst")
OTHER_MODES = {"I": 32, "F": 32, "1": 1}  # Pillow's modes whose pixels have not 8 bits

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One file to look at."""

    number: int
    path: bytes
    relative: bytes
    size: int
    problem: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found: an image of its own, or a slice that waits for its series."""

    number: int
    image: Row | None = None
    series: str = ""
    header: str = ""


def facts_of(tasks: Sequence[Task], salt: bytes, root_name: str) -> list[Facts]:
    """What the headers of some files say."""
    return [_facts(task, salt, root_name) for task in tasks]


def unforeseen(error: Exception) -> str:
    """Why an image is left out on which a reader stumbled: the error's kind alone, its text may hold a name.

    Raises:
        Exception: the error itself, where it is the machine's and not the file's.
    """
    if isinstance(error, OSError | MemoryError | FoveateError):  # the last: no image can be decoded at all
        raise error
    return f"a reader stumbled over it ({type(error).__name__}); please report this"


def _facts(task: Task, salt: bytes, root_name: str) -> Facts:
    relative = os.fsdecode(task.relative)
    row: Row = {"id": salted_id(salt, relative), "files": 1, "bytes": task.size}
    try:
        return _read(task, row, salt, root_name)
    except Exception as error:
        return Facts(task.number, row | {"role": "other", "format": "none", "reason": unforeseen(error)})


def _read(task: Task, row: Row, salt: bytes, root_name: str) -> Facts:
    relative = os.fsdecode(task.relative)
    if task.problem:
        return Facts(task.number, row | {"role": "other", "format": "none", "reason": task.problem})
    path = Path(os.fsdecode(task.path))
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return Facts(task.number, row | _by_suffix(path, relative, suffix, root_name))
    if not is_dicom(path):
        return Facts(
            task.number, row | {"role": "other", "format": "other", "reason": _why_not(path, suffix)}
        )
    try:
        header = salted(read_header(path), relative, salt)
    except RefusalError as refusal:
        return Facts(task.number, row | {"role": "other", "format": "DICOM", "reason": str(refusal)})
    if is_slice(header):
        return Facts(task.number, None, header.series, packed(header))
    (record,) = records_of([header], {path: relative})
    return Facts(task.number, row | dicom_row(record, [header]))


def _why_not(path: Path, suffix: str) -> str:
    """Why a file is left alone; its suffix is not repeated, it may be part of a name."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        return f"the system could not read it ({error.strerror})"
    if suffix in DATA_PARTS:
        return "voxels without a header, or the data of a header beside it"
    if suffix in TEXTS:
        return "a text, a table or a program"
    return "an archive; unpack it" if suffix in ARCHIVES else "neither DICOM nor a suffix that is read"


def _by_suffix(path: Path, relative: str, suffix: str, root_name: str) -> Row:
    named = label_evidence(relative)
    row: Row = {
        "role": "label" if named else "image",
        "evidence": named or f"suffix {suffix}",
        "modality": named_modality(relative, root_name, picture=suffix in PICTURES),
        "format": suffix[1:],
        "dimension": SUFFIXES[suffix],
    }
    try:
        return row | _shape_facts(path, suffix)
    except OSError as error:
        if error.errno:
            return row | {"role": "other", "reason": f"the system could not read it ({error.strerror})"}
        return row | {"role": "other", "reason": _damaged(error)}
    except RefusalError as refusal:
        return row | {"role": "other", "reason": str(refusal)}
    except Exception as error:  # a damaged header fails in many ways
        return row | {"role": "other", "reason": _damaged(error)}


def _damaged(error: Exception) -> str:
    return f"its header is truncated, damaged or not what its suffix says ({type(error).__name__})"


def _shape_facts(path: Path, suffix: str) -> Row:
    """Shape, voxel size and bits; nothing of formats whose header a library in C reads."""
    if path.stat().st_size == 0:
        raise RefusalError("the file is empty")
    if suffix in {".nii", ".nii.gz"}:
        return _nifti(path)
    return _picture(path) if SUFFIXES[suffix] == SUFFIXES[".png"] else {}


def _nifti(path: Path) -> Row:
    """From the first bytes alone: extensions, which may be long, are not read."""
    import nibabel as nib

    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as stream:
        head = stream.read(max(NIFTI_BYTES))
    size = next((n for n in NIFTI_BYTES if n in (int.from_bytes(head[:4], o) for o in ("little", "big"))), 0)
    if not size or len(head) < size:
        raise RefusalError("its content is not NIfTI")
    kind = nib.Nifti1Header if size == min(NIFTI_BYTES) else nib.Nifti2Header
    header = kind(head[:size], check=False)
    return {
        "shape": crossed(header.get_data_shape()),
        "spacing_mm": crossed(round(float(each), 4) for each in header.get_zooms()[:3]),
        "bits": int(header.get_data_dtype().itemsize) * 8,
    }


def _picture(path: Path) -> Row:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
            bits = 16 if ";16" in image.mode else OTHER_MODES.get(image.mode, 8)
            return {"shape": crossed(image.size), "bits": bits}


def crossed(numbers: Iterable[float]) -> str:
    """Numbers with an x between them.

    >>> crossed((512, 512, 3)), crossed((0.5, 2.0))
    ('512x512x3', '0.5x2')
    """
    return "x".join(f"{number:g}" if isinstance(number, float) else str(int(number)) for number in numbers)


def salted(header: Header, relative: str, salt: bytes) -> Header:
    """The header with hashes for identities and without words that are not on our lists."""
    series = f"series {header.series}" if header.series else f"folder {os.path.dirname(relative)}"  # noqa: PTH120
    return replace(
        header,
        modality=header.modality if header.modality in MODALITIES else "",
        image_type=tuple(word for word in header.image_type if word in SET_ASIDE_TYPES),
        storage=header.storage if header.storage.replace(".", "").isdigit() else "",
        instance=salted_id(salt, f"instance {header.instance}") if header.instance else "",
        series=salted_id(salt, series),
        patient=salted_id(salt, f"patient {header.patient}") if header.patient else "",
        burned_in=header.burned_in if header.burned_in in {"YES", "NO"} else "",
    )


def packed(header: Header) -> str:
    """A header as text; it was salted before."""
    values = asdict(header)
    del values["path"]
    return json.dumps(values, separators=(",", ":"))


def unpacked(text: str, path: Path) -> Header:
    """The inverse of `packed`."""
    values: dict[str, Any] = json.loads(text)
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Header(path=path, **lists)


def dicom_row(record: Record, headers: Sequence[Header]) -> Row:
    """The columns of a DICOM image, from its headers in order."""
    first = headers[0]
    no_image = record.role == "other"
    shape, spacing = _grid(headers)
    return {
        "role": record.role,
        "modality": first.modality,
        "format": "DICOM",
        "dimension": record.dimension,
        "shape": crossed(shape) if first.rows else "",
        "spacing_mm": crossed(spacing),
        "bits": first.bits,
        "patient": first.patient,
        "series": first.series,
        "burned_in": max(burned_in(header) for header in headers),
        "evidence": "" if no_image else record.evidence,
        "reason": _index_of_files(record) or record.evidence if no_image else "",
    }


def _index_of_files(record: Record) -> str:
    named = record.path.name.upper() == "DICOMDIR"
    return "a DICOMDIR: an index of files, which are found without it" if named else ""


def _grid(headers: Sequence[Header]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Columns, rows and slices as in the file, with their distances; canonical once decoded."""
    first = headers[0]
    flat = (first.columns, first.rows)
    size = tuple(round(each, 4) for each in reversed(first.spacing))
    if len(headers) == 1:
        return (*flat, first.frames) if first.frames > 1 else flat, size
    step = float(np.linalg.norm(step_of([header.position for header in headers])))
    return (*flat, len(headers)), (*size, round(step, 4))


def burned_in(header: Header) -> str:
    """Whether text is drawn into the pixels: yes, possible (its kind often has it), or "".

    The words sort in the order of concern.
    """
    if header.burned_in == "YES":
        return "yes"
    often = header.modality in OFTEN_BURNED_IN or header.storage in CLASS_CAPTURES
    return "possible" if often and header.burned_in != "NO" else ""
