"""The numbers of a DICOM file: decompressed, cut to their stored bits, rescaled to what they measure.

pydicom decodes what it can; the rest (lossless JPEG, JPEG-LS) goes through the GDCM inside SimpleITK, as a
file that holds the pixels and nothing that tells whose they are.
"""

from __future__ import annotations

import math
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from foveate.core.types import Array
from foveate.data.readers import jpeg
from foveate.data.readers.dicom.encapsulated import Promise, checked_frames
from foveate.data.readers.dicom.silence import silence
from foveate.data.readers.dicom.tags import DataSet
from foveate.data.readers.refusals import LARGEST_VOXELS, RefusalError, native

PIXEL_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RLE_EXCESS = re.compile(r"decoded RLE segment.*?(\d+) vs. (\d+) bytes")
GREY_CAPTURES = {8: f"{CAPTURE}.2", 16: f"{CAPTURE}.3"}  # of several frames


def check_size(rows: int, columns: int, slices: int, samples: int = 1) -> None:
    """Refuses a header that promises more than an image has."""
    voxels = math.prod((rows, columns, slices, samples))
    if not 0 < voxels <= LARGEST_VOXELS:
        raise RefusalError(f"its header claims {voxels:.2e} voxels; at most {LARGEST_VOXELS:.2e} are read")


def stored(data: DataSet) -> Array:
    """The numbers in the file, one per pixel: (rows, columns), or frames first where there are several."""
    check_size(data.Rows, data.Columns, int(data.get("NumberOfFrames") or 1), data.get("SamplesPerPixel", 1))
    if data.get("BitsStored", 0) and data.get("HighBit", data.BitsStored - 1) != data.BitsStored - 1:
        raise RefusalError("its values do not start at the lowest bit, as in files before DICOM")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        values = _decoded(data, _promise(data))
    for warning in said:
        _check_segment(str(warning.message))
    return _luminance(data, native(values))


def _promise(data: DataSet) -> Promise:
    frames, samples = int(data.get("NumberOfFrames") or 1), int(data.get("SamplesPerPixel") or 1)
    return Promise(int(data.Rows), int(data.Columns), frames, samples, int(data.BitsAllocated))


def _decoded(data: DataSet, promise: Promise) -> Array:
    """The numbers as they are in the file, after a look at whether they are all there."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        _check_length(data, promise)
        values = np.asarray(pixel_array(data, raw=False))
    else:
        frames = checked_frames(data.PixelData, promise, str(syntax))
        known = get_decoder(syntax).is_available
        values = np.asarray(pixel_array(data, raw=False)) if known else _through_gdcm(data, frames)
    wanted = (promise.frames,) * (promise.frames > 1) + (promise.rows, promise.columns)
    if values.shape[: len(wanted)] != wanted or values.size != math.prod(wanted) * promise.samples:
        raise RefusalError(f"its pixels are {values.shape} where its header promises {wanted}")
    return values


def _check_length(data: DataSet, promise: Promise) -> None:
    """Refuses pixels that are longer than promised; zeros of at most one row are padding of some writers."""
    stored_bytes = data.get("PixelData")
    if stored_bytes is None:  # floats, whose length pydicom compares
        return
    halved = 2 if data.PhotometricInterpretation == "YBR_FULL_422" else promise.samples
    row = promise.columns * halved * promise.bits
    promised = -(-row * promise.rows * promise.frames // 8)
    rest = stored_bytes[promised + promised % 2 :]
    if len(stored_bytes) < promised:
        raise RefusalError(f"its data are truncated: {len(stored_bytes)} of the {promised} bytes promised")
    if len(rest) > -(-row // 8) or rest.strip(b"\0"):
        raise RefusalError(f"its data are {len(stored_bytes)} bytes where its header promises {promised}")


def _check_segment(warning: str) -> None:
    """Refuses a segment of RLE that holds more than promised, of which pydicom warns; one byte is padding."""
    found = RLE_EXCESS.search(warning)
    if found and int(found[1]) > int(found[2]) + 1:
        raise RefusalError(f"a compressed frame holds {found[1]} bytes where its header promises {found[2]}")


def _through_gdcm(data: DataSet, frames: list[bytes]) -> Array:
    """Decoded by GDCM; JPEG twice, with other bytes behind each scan: if the pixels differ, one was cut."""
    values = _by_gdcm(data, frames)
    if all(jpeg.frame_of(frame).process in jpeg.FRAMES for frame in frames):
        others = [jpeg.poisoned(frame, jpeg.frame_of(frame)) or frame for frame in frames]
        with silence():
            same = np.array_equal(values, _by_gdcm(data, others))
        if not same:
            raise RefusalError(jpeg.CUT)
    return values


def _by_gdcm(data: DataSet, streams: list[bytes]) -> Array:
    import SimpleITK as sitk  # noqa: N813
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import generate_uid

    bare, meta = Dataset(), FileMetaDataset()
    for tag in PIXEL_TAGS:
        if tag in data:
            bare[tag] = data[tag]
    frames = len(streams)
    bare.SOPClassUID = GREY_CAPTURES[8 if data.BitsAllocated <= 8 else 16] if frames > 1 else CAPTURE
    bare.SOPInstanceUID, bare.PixelData = generate_uid(), encapsulate(streams)
    bare["PixelData"].is_undefined_length = True
    meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = bare.SOPClassUID, bare.SOPInstanceUID
    bare.file_meta = meta
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pixels.dcm"
        bare.save_as(file, enforce_file_format=True)
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))
    return values if frames > 1 else values[0]


def in_colour(data: DataSet) -> bool:
    """Whether the file has colour, which `stored` turns to grey."""
    return bool(data.get("SamplesPerPixel", 1) > 1 or data.PhotometricInterpretation == "PALETTE COLOR")


def _luminance(data: DataSet, values: Array) -> Array:
    """Grey from colour (ITU-R 601, as for other pictures); palettes are looked up first."""
    if data.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        values = apply_color_lut(values, data)
        if values.dtype == np.uint16:
            values = (values >> 8).astype(np.uint8)
    elif data.get("SamplesPerPixel", 1) == 1:
        return values
    weighted = values[..., :3] @ np.array([0.299, 0.587, 0.114])
    return np.rint(weighted).astype(values.dtype)


def physical(data: DataSet, values: Array, rescale: DataSet) -> Array:
    """What the numbers measure: with slope and intercept (of a frame or a file) or a look-up table applied.

    Whole numbers stay whole where slope and intercept are, in the smallest type from int16 that holds them.
    """
    if rescale is data and "ModalityLUTSequence" in data:
        from pydicom.pixels import apply_modality_lut

        return native(apply_modality_lut(values, data))
    slope = number(rescale.get("RescaleSlope"), 1.0)
    intercept = number(rescale.get("RescaleIntercept"), 0.0)
    if (slope, intercept) == (1.0, 0.0):
        return values
    if values.dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return (values * slope + intercept).astype(np.float32)
    whole = values.astype(np.int64) * int(slope) + int(intercept)
    return whole.astype(_smallest_type(int(whole.min()), int(whole.max())))


def _smallest_type(low: int, high: int) -> np.dtype[np.signedinteger[Any]]:
    fitting = (
        kind for kind in (np.int16, np.int32) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
    )
    return np.dtype(next(fitting, np.int64))


def number(value: str | float | None, otherwise: float) -> float:
    """A finite number of a header, or what stands for its absence."""
    found = otherwise if value is None or value == "" else float(value)
    if not math.isfinite(found):
        raise RefusalError("its slope or intercept is not a number")
    return found


def stored_ends(data: DataSet, values: Array) -> tuple[int, int]:
    """The least and the greatest number that the stored bits can hold, or that is there."""
    bits = int(data.get("BitsStored") or 16)
    ends = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if data.get("PixelRepresentation") else (0, (1 << bits) - 1)
    )
    return min(ends[0], int(values.min())), max(ends[1], int(values.max()))
