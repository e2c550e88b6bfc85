"""Small valid images of every format, and damage done to them: what a disk, a network or an enemy may do."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

Mutation = Callable[[np.random.Generator, bytearray], bytearray]

NOISE = np.random.default_rng(0).integers(-1000, 2000, (6, 7, 8)).astype(np.int16)
PICTURE = np.random.default_rng(1).integers(0, 4096, (24, 32)).astype(np.uint16)
HEADER_BYTES = 400  # where most of what decoders believe is written
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def samples(folder: Path) -> dict[str, bytes]:
    """One valid file of every kind, by a name whose suffix decides its reader."""
    nib.save(nib.Nifti1Image(NOISE, np.diag([-1.0, 2, 3, 1])), folder / "a.nii")
    nib.save(nib.Nifti2Image(NOISE.astype(np.float32), np.eye(4)), folder / "b.nii")
    image = sitk.GetImageFromArray(NOISE.T)
    for name, packed in (
        ("raw.mha", False),
        ("packed.mha", True),
        ("raw.nrrd", False),
        ("packed.nrrd", True),
    ):
        sitk.WriteImage(image, str(folder / name), useCompression=packed)
    Image.fromarray((PICTURE >> 4).astype(np.uint8)).save(folder / "a.png")
    Image.fromarray(PICTURE).save(folder / "deep.png")
    Image.fromarray((PICTURE >> 4).astype(np.uint8)).save(folder / "a.jpg")
    Image.fromarray(PICTURE).save(folder / "a.tif", compression="tiff_lzw")
    Image.fromarray(PICTURE).save(folder / "raw.tif")
    np.savez_compressed(folder / "a.npz", image=NOISE)
    np.savez(folder / "raw.npz", image=NOISE)
    _dicom(folder / "explicit.dcm", ExplicitVRLittleEndian)
    _dicom(folder / "implicit.dcm", ImplicitVRLittleEndian)
    for compressor in ("JPEG", "JPEG2000"):
        _packed_dicom(folder / f"{compressor}.dcm", compressor)
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {**found, "a.nii.gz": gzip.compress(found["a.nii"], mtime=0)}


def _dicom(path: Path, syntax: str) -> None:
    data, data.file_meta = Dataset(), FileMetaDataset()  # type: ignore[misc]
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["fixed"])
    data.Modality, data.PatientID, data.PatientName = "DX", "secret", "Doe^Jane"
    data.Rows, data.Columns, data.SamplesPerPixel = *PICTURE.shape, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME1", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 2, -5, 900, 500
    data.PixelSpacing, data.PixelData = [0.1, 0.2], PICTURE.tobytes()
    data.save_as(path, enforce_file_format=True)


def _packed_dicom(path: Path, compressor: str) -> None:
    image = sitk.GetImageFromArray(PICTURE[None])
    for tag, value in (("0008|0060", "DX"), ("0008|0016", "1.2.840.10008.5.1.4.1.1.1.1")):
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(image)


def _flip_bits(rng: np.random.Generator, data: bytearray) -> bytearray:
    for at in rng.integers(0, len(data), rng.integers(1, 9)):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def _damage_header(rng: np.random.Generator, data: bytearray) -> bytearray:
    end = min(len(data), HEADER_BYTES)
    for at in rng.integers(0, end, rng.integers(1, 5)):
        data[at] = int(rng.integers(256))
    return data


def _extreme_number(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Sizes and offsets become 0, -1 or as large as they can be."""
    width = int(rng.choice((1, 2, 4)))
    value = int(rng.choice(EXTREMES)) & (1 << 8 * width) - 1
    at = int(rng.integers(0, max(1, min(len(data), 2 * HEADER_BYTES) - width)))
    data[at : at + width] = value.to_bytes(width, str(rng.choice(("little", "big"))))  # type: ignore[arg-type]
    return data


def _digits(rng: np.random.Generator, data: bytearray) -> bytearray:
    """A digit of a header in text becomes a sign, a point or many digits."""
    places = [at for at, byte in enumerate(data[:HEADER_BYTES]) if chr(byte).isdigit()]
    if places:
        at = int(rng.choice(places))
        data[at : at + 1] = bytes(rng.choice([b"-", b".", b"99999999", b"0", b"e99", b"nan"]))
    return data


def _cut(rng: np.random.Generator, data: bytearray) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def _lose_a_block(rng: np.random.Generator, data: bytearray) -> bytearray:
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
    del data[start : start + size]
    return data


def _repeat_a_block(rng: np.random.Generator, data: bytearray) -> bytearray:
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
    return data[:start] + data[start : start + size] * 2 + data[start + size :]


MUTATIONS: tuple[Mutation, ...] = (
    *(_flip_bits, _damage_header, _damage_header, _extreme_number, _extreme_number, _digits),
    *(_cut, _lose_a_block, _repeat_a_block),
)


def mutated(rng: np.random.Generator, name: str, data: bytes) -> bytes:
    """Damaged once or twice; half of the compressed files inside, so that the damage is reached."""
    inside = rng.random() < 0.5
    if inside and name.endswith(".gz"):
        return gzip.compress(_several(rng, gzip.decompress(data)), mtime=0)
    if inside and name.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.namelist()[0]
            damaged = _several(rng, archive.read(member))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, damaged)
        return packed.getvalue()
    return _several(rng, data)


def _several(rng: np.random.Generator, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 3))):
        if damaged:
            damaged = MUTATIONS[int(rng.integers(len(MUTATIONS)))](rng, damaged)
    return bytes(damaged)
