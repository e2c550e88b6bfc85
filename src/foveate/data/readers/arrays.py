"""NumPy archives (.npz): one 3D array, named or alone, in the order in which it was saved."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, final

import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.readers import inflate
from foveate.data.readers.canonical import canonical_volume
from foveate.data.readers.refusals import RefusalError, check_claim, check_voxel_type, native, spatial_shape
from foveate.data.readers.regular import open_regular

KEYS = ("image", "voxel", "voxels", "volume", "img", "vol", "data", "x", "arr_0")  # in order of preference
SUFFIX = ".npy"


def read_archive(path: Path) -> Volume:
    """The image array, taken as RAS+ with voxels of 1 mm: the format has no header."""
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        member = _image_member(archive.infolist())
        with archive.open(member) as stream:
            array = _array(stream, member.file_size)
    return canonical_volume(array, np.eye(4))


@final
class _Member:
    """The bytes of one file in an archive; `zipfile` compares its checksum where its length says it ends."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._why = stream, ""

    def fill(self, out: memoryview) -> int:
        """Fills `out` from where the file is."""
        done = 0
        while done < len(out) and (piece := self._piece(min(inflate.PIECE, len(out) - done))):
            out[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def why(self) -> str:
        """Whether the data are damaged."""
        return self._why

    def _piece(self, most: int) -> bytes:
        try:
            return self._stream.read(most)
        except (zipfile.BadZipFile, EOFError, zlib.error):
            self._why = "damaged"
            return b""


def _image_member(members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The file of the archive that holds the image."""
    names = [member.filename.removesuffix(SUFFIX) for member in members]
    named = [key for key in KEYS if key in names]
    if not named and len(names) != 1:
        raise RefusalError(f"none of its {len(names)} arrays is called {', '.join(KEYS)}")
    wanted = named[0] if named else names[0]
    found = [member for member, name in zip(members, names, strict=True) if name == wanted]
    if len(found) != 1:  # two readers could take two of them
        raise RefusalError(f"{len(found)} of its arrays have the same name")
    return found[0]


def _array(stream: IO[bytes], size: int) -> Array:
    """All numbers of a member of `size` bytes, which must be its header and they."""
    shape, fortran, dtype = _npy_header(stream)
    check_voxel_type(dtype)
    check_claim(shape, dtype.itemsize, size)
    spatial = spatial_shape(shape)
    source, promised = _Member(stream), math.prod(shape) * dtype.itemsize
    values = inflate.filled(source, promised)
    inflate.check_end(source, promised)
    return native(values.view(dtype)).reshape(spatial, order="F" if fortran else "C")


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, order and type, without a voxel being read."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)
