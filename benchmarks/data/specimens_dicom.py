"""Small valid DICOM files in every transfer syntax: pictures, volumes of several frames, a series."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

from specimens import Specimen, Values

DX, CT, ENHANCED_MR = (f"1.2.840.10008.5.1.4.1.1.{last}" for last in ("1.1.1", "2", "4.1"))


def dicom_specimens(values: Values) -> dict[str, Specimen]:
    """Pictures with a slope and an intercept; volumes whose axes are those of DICOM."""
    rows, dim = values.picture, values.dim
    syntaxes = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian}
    files = {name: _written(_picture(rows), syntax) for name, syntax in syntaxes.items()}
    rle = _picture(rows)
    rle.compress(RLELossless, generate_instance_uid=False)
    files["rle"] = _written(rle, RLELossless)
    files["jpeg-lossless"] = _packed(rows, _lossless_jpeg(rows), JPEGLosslessSV1)
    files["jpeg2000"] = _packed(rows, _codestream(rows), JPEG2000Lossless)
    kinds = {name: Specimen({".dcm": data}, 2 * rows.T[None].astype(int) - 5) for name, data in files.items()}
    deflated = _written(_picture(rows), DeflatedExplicitVRLittleEndian)
    kinds["deflated"] = Specimen({".dcm": deflated}, kinds["rle"].voxels, must_be_read=False)
    kinds["jpeg"] = _baseline(dim)
    kinds |= {
        "frames": _frames(values.volume, packed=False),
        "frames-rle": _frames(values.volume, packed=True),
    }
    kinds["series"] = _series(values.volume)
    return {f"dicom-{name}": specimen for name, specimen in kinds.items()} | _jpeg_ls()


def _jpeg_ls() -> dict[str, Specimen]:
    """One that comes with pydicom; nothing that is installed writes another."""
    packed, plain = (get_testdata_file(f"MR_small{name}.dcm") for name in ("_jpeg_ls_lossless", ""))
    rows = pydicom.dcmread(plain).pixel_array
    data = pydicom.dcmread(packed)
    taken = _picture(rows)
    taken.BitsStored, taken.HighBit, taken.PixelRepresentation = data.BitsStored, data.HighBit, 1
    taken.PixelData = data.PixelData
    file = _written(taken, data.file_meta.TransferSyntaxUID)
    return {"dicom-jpeg-ls": Specimen({".dcm": file}, 2 * rows.T[None].astype(int) - 5)}


def _data_set(pixels: NDArray[np.generic], kind: str, modality: str) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = kind, _uid("instance")
    data.SeriesInstanceUID, data.StudyInstanceUID = _uid("series"), _uid("study")
    data.Modality, data.PatientID, data.PatientName = modality, "secret", "Doe^Jane"
    data.Rows, data.Columns, data.SamplesPerPixel = *pixels.shape[-2:], 1
    bits = 8 * pixels.dtype.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelRepresentation, data.PixelData = int(pixels.dtype.kind == "i"), pixels.tobytes()
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data["PixelData"].VR = "OW"
    return data


def _uid(name: str) -> str:
    return generate_uid(entropy_srcs=[name])


def _picture(rows: NDArray[np.generic]) -> Dataset:
    data = _data_set(rows, DX, "DX")
    data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 2, -5, 900, 500
    data.PixelSpacing = [0.1, 0.2]
    return data


def _written(data: Dataset, syntax: str) -> bytes:
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _packed(rows: NDArray[np.generic], frame: bytes, syntax: str) -> bytes:
    data = _picture(rows)
    data.PixelData = encapsulate([frame])
    data["PixelData"].is_undefined_length = True
    data["PixelData"].VR = "OB"
    return _written(data, syntax)


def _codestream(rows: NDArray[np.uint16]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rows).save(file, "JPEG2000", no_jp2=True, irreversible=False)
    return file.getvalue()


def _lossless_jpeg(rows: NDArray[np.uint16]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(path))
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor("JPEG")
        writer.Execute(sitk.GetImageFromArray(rows[None]))
        data = pydicom.dcmread(path)
        return next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))


def _baseline(dim: NDArray[np.uint8]) -> Specimen:
    file = io.BytesIO()
    Image.fromarray(dim).save(file, "JPEG")
    rows = np.asarray(Image.open(file)).astype(int)
    return Specimen({".dcm": _packed(dim, file.getvalue(), JPEGBaseline8Bit)}, 2 * rows.T[None] - 5)


def _canonical(volume: NDArray[np.int16]) -> NDArray[np.int16]:
    """What a volume of DICOM's axes is in RAS."""
    return volume[None, ::-1, ::-1]


def _frames(volume: NDArray[np.int16], *, packed: bool) -> Specimen:
    data = _data_set(volume.T, ENHANCED_MR, "MR")
    data.NumberOfFrames = volume.shape[2]
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[1, 1], SliceThickness=2)]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = [
        _item(PlanePositionSequence=[_item(ImagePositionPatient=[0, 0, 2 * k])])
        for k in range(volume.shape[2])
    ]
    if packed:
        data.compress(RLELossless, generate_instance_uid=False)
    return Specimen(
        {".dcm": _written(data, RLELossless if packed else ExplicitVRLittleEndian)}, _canonical(volume)
    )


def _series(volume: NDArray[np.int16]) -> Specimen:
    files = {}
    for k in range(volume.shape[2]):
        data = _data_set(volume[..., k].T, CT, "CT")
        data.SOPInstanceUID, data.InstanceNumber = _uid(f"slice {k}"), k + 1
        data.PixelSpacing, data.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [0, 0, 2 * k]
        files[f"{k}.dcm"] = _written(data, ExplicitVRLittleEndian)
    return Specimen(files, _canonical(volume), is_series=True)


def _item(**tags: object) -> Dataset:
    data = Dataset()
    for tag, value in tags.items():
        setattr(data, tag, value)
    return data
