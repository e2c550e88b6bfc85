"""NumPy archives (.npz): one 3D array, named or alone, in the order in which it was saved."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from foveate.core.types import Volume
from foveate.data.readers.canonical import canonical_volume
from foveate.data.readers.refusals import RefusalError, check_claim, check_voxel_type, native, spatial_shape

KEYS = ("image", "voxel", "voxels", "volume", "img", "vol", "data", "x", "arr_0")  # in order of preference


def read_archive(path: Path) -> Volume:
    """The image array, taken as RAS+ with voxels of 1 mm: the format has no header."""
    with zipfile.ZipFile(path) as archive:
        sizes = {Path(info.filename).stem: info.file_size for info in archive.infolist()}
        key = _image_key(sizes)
        with archive.open(f"{key}.npy") as stream:
            shape, dtype = _npy_header(stream)
    check_voxel_type(dtype)
    check_claim(shape, dtype.itemsize, sizes[key])
    spatial = spatial_shape(shape)
    with np.load(path, allow_pickle=False) as arrays:
        return canonical_volume(native(arrays[key]).reshape(spatial), np.eye(4))


def _image_key(sizes: dict[str, int]) -> str:
    named = [key for key in KEYS if key in sizes]
    if not named and len(sizes) != 1:
        raise RefusalError(f"none of its {len(sizes)} arrays is called {', '.join(KEYS)}")
    return named[0] if named else next(iter(sizes))


def _npy_header(stream: np.lib.format.BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:  # type: ignore[name-defined]
    """Shape and type, without a voxel being read."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype
