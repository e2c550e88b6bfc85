"""DICOM: a picture, a series of slices, or the frames of an enhanced file, as one `Volume`."""

from __future__ import annotations

import math
from collections.abc import Sized
from dataclasses import replace
from pathlib import Path

import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.readers.canonical import LPS_TO_RAS, canonical_volume
from foveate.data.readers.dicom.deflated import readable
from foveate.data.readers.dicom.frames import frame_headers, rescale_of
from foveate.data.readers.dicom.header import (
    PROJECTED,
    Header,
    is_dicom,
    is_volume_by_itself,
    role_of,
)
from foveate.data.readers.dicom.pixels import check_size, in_colour, number, physical, stored, stored_ends
from foveate.data.readers.dicom.reading import read_header
from foveate.data.readers.dicom.stacks import affine_of, stacks
from foveate.data.readers.dicom.tags import DataSet, Value
from foveate.data.readers.pictures import picture
from foveate.data.readers.refusals import RefusalError


def read_dicom(path: Path) -> Volume:
    """One file: a picture, or the volume of a file with several frames."""
    header = checked_header(path)
    data = _data_set(header)
    return _read_frames(data, header) if is_volume_by_itself(header) else _read_picture(data, header)


def _read_picture(data: DataSet, header: Header) -> Volume:
    numbers = stored(data)
    values = physical(data, numbers, data)
    stated = len(header.spacing) == 2 and min(header.spacing) > 0  # some radiographs say 0
    spacing = (header.spacing[1], header.spacing[0]) if stated else (1.0, 1.0)
    if header.modality not in PROJECTED:
        return replace(picture(values, spacing, header.modality), colour=in_colour(data))
    window = _window(data)
    if data.PhotometricInterpretation == "MONOCHROME1":
        total = _ends_total(data, numbers, values)
        values = (total - values.astype(np.float64)).astype(values.dtype)
        window = window and (total - window[1], total - window[0])
    return replace(picture(values, spacing, header.modality), window=window, colour=in_colour(data))


def _ends_total(data: DataSet, numbers: Array, values: Array) -> float:
    """The sum of the values that mean black and white: what a negative is subtracted from."""
    if numbers.dtype.kind == "f" or "ModalityLUTSequence" in data:
        return float(values.min()) + float(values.max())
    slope, intercept = number(data.get("RescaleSlope"), 1.0), number(data.get("RescaleIntercept"), 0.0)
    return sum(end * slope + intercept for end in stored_ends(data, numbers))


def _window(data: DataSet) -> tuple[float, float] | None:
    """The first of the windows that the header offers, as (black, white)."""
    try:
        centre, width = (_first(data.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    except (TypeError, ValueError):
        return None
    if centre is None or width is None or not (math.isfinite(centre) and 0 < width < math.inf):
        return None
    return centre - width / 2, centre + width / 2


def _first(value: Value) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, Sized) and not isinstance(value, str) else value)


def read_series(paths: tuple[Path, ...]) -> Volume:
    """Slices in the order in which `dicom_stacks` put them when the folder was listed."""
    headers = [checked_header(path) for path in paths]
    _check_one_stack(headers)
    check_size(headers[0].rows, headers[0].columns, len(headers))
    slices = [_slice(header) for header in headers]
    first = headers[0]
    affine = affine_of(first.orientation, first.spacing, [header.position for header in headers])
    array = np.stack([values.T for values in slices], axis=-1)  # [column, row, slice]
    return canonical_volume(array, LPS_TO_RAS @ affine, first.modality)


def checked_header(path: Path) -> Header:
    """The header of a file that holds an image."""
    if not is_dicom(path):
        raise RefusalError("it is not a DICOM file")
    header = read_header(path)
    role, why = role_of(header)
    if role != "image":
        raise RefusalError(f"it is no image to learn from ({why})")
    return header


def _check_one_stack(headers: list[Header]) -> None:
    """Refuses slices that no longer are what the listing found."""
    if not all(header.has_place for header in headers):
        raise RefusalError("a slice has no position, orientation or spacing")
    found = stacks(headers)
    if len(found) != 1 or len(found[0].headers) != len(headers):
        raise RefusalError("its slices do not lie one constant step apart")


def _slice(header: Header) -> Array:
    data = _data_set(header)
    return physical(data, stored(data), data)


def _data_set(header: Header) -> DataSet:
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    check_size(header.rows, header.columns, header.frames)
    pixels = header.rows * header.columns * header.frames
    data: DataSet = pydicom.dcmread(readable(header.path, pixels), force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data


def _read_frames(data: DataSet, header: Header) -> Volume:
    """The volume of an enhanced file: frames sorted by place, each with its own slope and intercept."""
    frames = frame_headers(data, header)
    found = stacks(frames)
    if len(found) != 1:
        sizes = ", ".join(str(len(stack.headers)) for stack in found[:5])
        raise RefusalError(
            f"its {len(frames)} frames form {len(found)} stacks (frames: {sizes}); save one file per volume"
        )
    order = [frame.order[1] for frame in found[0].headers]
    values = stored(data)
    slices = [physical(data, values[i], rescale_of(data, i)) for i in order]
    first = found[0].headers[0]
    affine = affine_of(first.orientation, first.spacing, [frame.position for frame in found[0].headers])
    array = np.stack([each.T for each in slices], axis=-1)
    return canonical_volume(array, LPS_TO_RAS @ affine, header.modality)
