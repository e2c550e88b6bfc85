"""MetaImage (MHA, MHD with RAW) and NRRD, read by SimpleITK once their header has been looked at."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.readers.canonical import LPS_TO_RAS, canonical_volume
from foveate.data.readers.refusals import DEFLATE_RATIO, RefusalError, check_claim, native, spatial_shape

HEADER_BYTES = 1 << 16
READERS = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO"}
DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(.*?)\s*$", re.MULTILINE | re.IGNORECASE)
SIZES = re.compile(rb"^(?:DimSize\s*=|sizes:)\s*([\d ]+?)\s*$", re.MULTILINE | re.IGNORECASE)
SPACINGS = re.compile(
    rb"^(?:ElementSpacing\s*=|spacings:)\s*([-+.\deE ]+?)\s*$", re.MULTILINE | re.IGNORECASE
)
COMPRESSED = re.compile(
    rb"^(?:CompressedData\s*=\s*true|encoding:\s*(?:gz|bz|hex|te?xt|ascii)).*$", re.MULTILINE | re.IGNORECASE
)
TEXT_RATIO = 1  # a number written as text takes at least a byte


def read_itk(path: Path) -> Volume:
    """One volume, with the direction, origin and spacing of its header (LPS in the file, RAS+ here)."""
    import SimpleITK as sitk  # noqa: N813 - the name its own examples use

    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(READERS[path.suffix.lower()])
    reader.SetFileName(str(path))
    file_bytes = path.stat().st_size + _beside(path, head)
    reader.ReadImageInformation()
    shape = tuple(reader.GetSize())
    if reader.GetNumberOfComponents() != 1:
        raise RefusalError("its voxels are colours or vectors; save one number per voxel")
    ratio = max(DEFLATE_RATIO, TEXT_RATIO) if COMPRESSED.search(head) else 1
    check_claim(shape, _voxel_bytes(reader.GetPixelID()), file_bytes, ratio)
    spatial_shape(shape)
    image = reader.Execute()
    values = native(sitk.GetArrayFromImage(image)).T  # ITK's arrays are [z, y, x]
    return canonical_volume(values.reshape(spatial_shape(shape)), LPS_TO_RAS @ _affine(reader))


def claimed_grid(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and spacing as the text of a header has them, without a library that a bad one could crash.

    The spacing is empty where it is not said in a line of its own, as in NRRD with directions.
    """
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    size, spacing = SIZES.search(head), SPACINGS.search(head)
    if not size:
        raise ValueError(path.suffix)
    return tuple(map(int, size[1].split())), tuple(map(float, spacing[1].split())) if spacing else ()


def _beside(path: Path, head: bytes) -> int:
    """Size of a data file of its own, which must lie beside the header: a header may not point elsewhere."""
    name = _data_name(head)
    if not name:
        return 0
    if not _is_plain(name):
        raise RefusalError("its data are not in one file beside it; convert it to one file (.mha or .nrrd)")
    if not (path.parent / name).is_file():
        raise RefusalError("the file with its data is not beside it")
    return (path.parent / name).stat().st_size


def data_file(path: Path) -> Path | None:
    """The file beside a header that holds its voxels; None where there is none."""
    if path.suffix.lower() not in READERS:
        return None
    try:
        with path.open("rb") as stream:
            name = _data_name(stream.read(HEADER_BYTES))
        found = path.parent / name
        return found if name and _is_plain(name) and found.is_file() else None
    except OSError:  # whoever reads it will say so
        return None


def _data_name(head: bytes) -> str:
    match = DATA_FILE.search(head)
    name = match[1].decode("utf-8", "surrogateescape") if match else ""
    return "" if name.upper() == "LOCAL" else name


def _is_plain(name: str) -> bool:
    listed = "%" in name or name.upper().startswith("LIST")
    return PurePath(name).name == name and "\\" not in name and not listed


def _voxel_bytes(pixel_id: int) -> int:
    import SimpleITK as sitk  # noqa: N813

    scalar = {
        **dict.fromkeys((sitk.sitkUInt8, sitk.sitkInt8), 1),
        **dict.fromkeys((sitk.sitkUInt16, sitk.sitkInt16), 2),
        **dict.fromkeys((sitk.sitkUInt32, sitk.sitkInt32, sitk.sitkFloat32), 4),
        **dict.fromkeys((sitk.sitkUInt64, sitk.sitkInt64, sitk.sitkFloat64), 8),
    }
    if pixel_id not in scalar:
        raise RefusalError("its voxels are complex or not numbers; save one real number per voxel")
    return scalar[pixel_id]


def _affine(reader: object) -> Array:
    """From array index to LPS millimetres; axes beyond the third, of one element, carry nothing."""
    size = len(reader.GetSize())  # type: ignore[attr-defined]
    direction = np.reshape(reader.GetDirection(), (size, size))[:3, :3]  # type: ignore[attr-defined]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.asarray(reader.GetSpacing())[:3]  # type: ignore[attr-defined]
    affine[:3, 3] = np.asarray(reader.GetOrigin())[:3]  # type: ignore[attr-defined]
    return affine
