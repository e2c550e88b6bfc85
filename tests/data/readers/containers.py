"""Headers and files written byte by byte, as programs in the field write them, and SimpleITK's reading."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813

from foveate.data.readers.canonical import LPS_TO_RAS, canonical_volume

SHAPE = (4, 5, 6)
VALUES = np.random.default_rng(3).permutation(np.arange(120, dtype=np.int16) * 7 - 300).reshape(SHAPE)
STORED = VALUES.astype("<i2").tobytes(order="F")
LIBRARIES = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO"}

META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "DimSize": "4 5 6",
    "ElementType": "MET_SHORT",
}
NRRD = {"type": "short", "dimension": "3", "sizes": "4 5 6", "encoding": "raw", "endian": "little"}


def meta(path, data=STORED, end="\n", file="LOCAL", **fields):
    """A MetaImage; a field that is None is excluded, and `ElementDataFile` comes last."""
    kept = {key: value for key, value in {**META, **fields}.items() if value is not None}
    lines = [f"{key} = {value}" for key, value in {**kept, "ElementDataFile": file}.items()]
    path.write_bytes("".join(line + end for line in lines).encode() + data)
    return path


def nrrd(path, data=STORED, end="\n", magic="NRRD0004", more=(), **fields):
    """An NRRD; underscores in a field's name stand for blanks, `more` are lines as they are."""
    kept = {k.replace("_", " "): v for k, v in {**NRRD, **fields}.items() if v is not None}
    lines = [magic, *(f"{key}: {value}" for key, value in kept.items()), *more, ""]
    path.write_bytes("".join(line + end for line in lines).encode() + data)
    return path


def by_itk(path):
    """SimpleITK's values and affine of a file, in canonical order."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(LIBRARIES[path.suffix])
    reader.SetFileName(str(path))
    image = reader.Execute()
    size = len(reader.GetSize())
    affine = np.eye(4)
    direction = np.reshape(reader.GetDirection(), (size, size))[:3, :3]
    affine[:3, :3] = direction * np.asarray(reader.GetSpacing())[:3]
    affine[:3, 3] = np.asarray(reader.GetOrigin())[:3]
    array = sitk.GetArrayFromImage(image).T.reshape(reader.GetSize()[:3])
    return canonical_volume(array, LPS_TO_RAS @ affine)


def assert_same(volume, expected):
    """Two volumes are equal, bit by bit, and lie in the same place."""
    assert volume.array.dtype == expected.array.dtype
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_allclose(volume.affine, expected.affine, rtol=1e-12, atol=1e-12)
