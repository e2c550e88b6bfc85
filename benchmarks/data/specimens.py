"""Small valid images of every format and compression, of given values, with the voxels they must give.

Values of different files come from different seeds, so that a voxel says which file it is from.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

VOLUME, PICTURE = (6, 7, 8), (24, 32)


@dataclass(frozen=True, slots=True)
class Specimen:
    """One image: its files by what follows the stem of their names, the one to read first."""

    files: dict[str, bytes]
    voxels: NDArray[np.generic]  # canonical, channels first
    is_series: bool = False
    must_be_read: bool = True  # else it may be refused while it is valid

    @property
    def ending(self) -> str:
        """What follows the stem of the file that is read."""
        return next(iter(self.files))


@dataclass(frozen=True, slots=True)
class Values:
    """The numbers that the images of one owner are made of."""

    volume: NDArray[np.int16]
    picture: NDArray[np.uint16]

    @property
    def dim(self) -> NDArray[np.uint8]:
        """The picture in 8 bits."""
        return (self.picture >> 4).astype(np.uint8)


def drawn(seed: int) -> Values:
    """Noise of 12 bits."""
    rng = np.random.default_rng(seed)
    volume = rng.integers(-1000, 3096, VOLUME).astype(np.int16)
    return Values(volume, rng.integers(0, 4096, PICTURE).astype(np.uint16))


def specimens(stem: str, values: Values) -> dict[str, Specimen]:
    """One of every kind but DICOM; a file is called `stem`, its kind, and its ending."""
    turned = values.picture.T[None]
    pictures = {
        "png8": Specimen({".png": _picture(values.dim, "PNG")}, values.dim.T[None]),
        "png16": Specimen({".png": _picture(values.picture, "PNG")}, turned),
        "jpeg": _jpeg(values.dim),
        **{f"tiff-{name}": Specimen({".tif": data}, turned) for name, data in _tiffs(values.picture).items()},
    }
    return {**_itk(stem, values.volume), **_nifti(values.volume), **_npz(values.volume), **pictures}


def _itk(stem: str, volume: NDArray[np.int16]) -> dict[str, Specimen]:
    raw, voxels = volume.tobytes("F"), volume[None]
    packed = zlib.compress(raw)
    kinds = {
        "mha": {".mha": metaimage(volume.shape) + raw},
        "mha-zlib": {".mha": metaimage(volume.shape, packed=len(packed)) + packed},
        "mha-zlib-unsized": {".mha": unsized(metaimage(volume.shape, packed=1)) + packed},
        "mhd": {".mhd": metaimage(volume.shape, f"{stem}mhd.raw"), ".raw": raw},
        "mhd-zlib": {
            ".mhd": metaimage(volume.shape, f"{stem}mhd-zlib.zraw", packed=len(packed)),
            ".zraw": packed,
        },
        "nhdr": {".nhdr": nrrd(volume.shape, "raw", f"{stem}nhdr.raw"), ".raw": raw},
        "nhdr-gzip": {
            ".nhdr": nrrd(volume.shape, "gzip", f"{stem}nhdr-gzip.raw.gz"),
            ".raw.gz": gzip.compress(raw, mtime=0),
        },
    }
    for encoding, data in encoded(raw).items():
        kinds[f"nrrd-{encoding}"] = {".nrrd": nrrd(volume.shape, encoding) + data}
    return {kind: Specimen(files, voxels) for kind, files in kinds.items()}


def encoded(raw: bytes) -> dict[str, bytes]:
    """Voxels in every encoding of NRRD."""
    numbers = np.frombuffer(raw[: len(raw) // 2 * 2], "<i2")
    return {
        "raw": raw,
        "gzip": gzip.compress(raw, mtime=0),
        "bzip2": bz2.compress(raw),
        "hex": raw.hex().encode(),
        "text": " ".join(map(str, numbers.tolist())).encode(),
    }


def metaimage(shape: tuple[int, ...], file: str = "LOCAL", packed: int = 0) -> bytes:
    """A header whose axes are those of RAS."""
    size = f"CompressedData = True\nCompressedDataSize = {packed}\n" if packed else "CompressedData = False\n"
    return (
        f"ObjectType = Image\nNDims = {len(shape)}\nBinaryData = True\nBinaryDataByteOrderMSB = False\n{size}"
        "TransformMatrix = -1 0 0 0 -1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 2 3\n"
        f"DimSize = {' '.join(map(str, shape))}\nElementType = MET_SHORT\nElementDataFile = {file}\n"
    ).encode()


def unsized(header: bytes) -> bytes:
    """The header without the size of its stream, which many writers leave out."""
    return b"".join(
        line for line in header.splitlines(keepends=True) if not line.startswith(b"CompressedDataSize")
    )


def nrrd(shape: tuple[int, ...], encoding: str, file: str = "") -> bytes:
    """A header whose axes are those of RAS."""
    pointer = f"data file: {file}\n" if file else ""
    return (
        f"NRRD0004\ntype: short\ndimension: {len(shape)}\nspace: right-anterior-superior\n"
        f"sizes: {' '.join(map(str, shape))}\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nendian: little\n"
        f"encoding: {encoding}\n{pointer}\n"
    ).encode()


def _nifti(volume: NDArray[np.int16]) -> dict[str, Specimen]:
    kinds = {}
    for name, kind in (("nii", nib.Nifti1Image), ("nii2", nib.Nifti2Image)):
        data = kind(volume, np.diag([1.0, 2, 3, 1])).to_bytes()
        kinds[name] = Specimen({".nii": data}, volume[None])
        kinds[f"{name}-gzip"] = Specimen({".nii.gz": gzip.compress(data, mtime=0)}, volume[None])
    return kinds


def _npz(volume: NDArray[np.int16]) -> dict[str, Specimen]:
    kinds = {}
    for name, write in (("stored", np.savez), ("deflate", np.savez_compressed)):
        file = io.BytesIO()
        write(file, image=volume)
        kinds[f"npz-{name}"] = Specimen({".npz": file.getvalue()}, volume[None])
    return kinds


def _picture(rows: NDArray[np.generic], kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rows).save(file, kind)
    return file.getvalue()


def _jpeg(rows: NDArray[np.uint8]) -> Specimen:
    data = _picture(rows, "JPEG")
    return Specimen({".jpg": data}, np.asarray(Image.open(io.BytesIO(data))).T[None])


def _tiffs(rows: NDArray[np.uint16]) -> dict[str, bytes]:
    """In strips, of eight rows each, or tiles."""
    names = {"raw": "raw", "lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "packbits": "packbits"}
    found = {}
    for name, compression in names.items():
        file = io.BytesIO()
        Image.fromarray(rows).save(file, "TIFF", compression=compression, tiffinfo={278: 8})
        found[f"{name}-strips"] = file.getvalue()
    for name, compression in (("raw", None), ("deflate", "zlib")):
        file = io.BytesIO()
        tifffile.imwrite(file, rows, tile=(16, 16), compression=compression, photometric="minisblack")
        found[f"{name}-tiles"] = file.getvalue()
    return found
