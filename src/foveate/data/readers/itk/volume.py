"""MetaImage (MHA, MHD with RAW) and NRRD: their headers and voxels are read here, without a library.

ITK's own readers return a buffer that they did not fill when a compressed stream is cut, and find the file
with the voxels by rules of their own, so a check beside them can be passed by.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.readers import inflate
from foveate.data.readers.canonical import LPS_TO_RAS, canonical_volume
from foveate.data.readers.itk import metaimage, nrrd
from foveate.data.readers.itk.header_text import Packing, Promise
from foveate.data.readers.refusals import (
    BZIP2_RATIO,
    DEFLATE_RATIO,
    RefusalError,
    check_claim,
    native,
    spatial_shape,
)
from foveate.data.readers.regular import beside, open_beside, open_regular, size_of
from foveate.data.readers.suffixes import SUFFIXES

READERS = {".mha": metaimage, ".mhd": metaimage, ".nrrd": nrrd, ".nhdr": nrrd}
WIDEST_NUMBER = 8  # bytes that one digit of text can stand for
RATIOS: dict[Packing, int] = {
    **{"raw": 1, "hex": 1, "text": WIDEST_NUMBER},
    **{"zlib": DEFLATE_RATIO, "gzip": DEFLATE_RATIO, "bzip2": BZIP2_RATIO},
}
STREAMS: dict[Packing, Callable[[BufferedReader], inflate.Source]] = {
    "raw": inflate.Plain,
    "zlib": inflate.zlib_stream,
    "gzip": inflate.gzip_streams,
    "bzip2": inflate.bzip2_streams,
}


def read_itk(path: Path, root: Path | None = None) -> Volume:
    """One volume, with the direction, origin and spacing of its header (LPS in the file, RAS+ here).

    Args:
        path: The file, or the header of one.
        root: The folder of the data; a link to the file with the voxels may not lead out of it.
    """
    with open_regular(path) as file:
        promise = READERS[path.suffix.lower()].promise_of(file)
        if not promise.file:
            return _volume(promise, file)
        with open_beside(path, _only_data(promise.file), root) as data:
            return _volume(promise, data)


def claimed_grid(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and spacing as the header has them, without a voxel being read.

    Raises:
        RefusalError: the header is damaged.
    """
    promise = _promise(path)
    return promise.shape, tuple(map(float, np.linalg.norm(promise.affine[:3, :3], axis=0)))


def data_file(path: Path, root: Path | None = None) -> Path | None:
    """The file beside a header that holds its voxels; None where there is none that may be read."""
    if path.suffix.lower() not in READERS:
        return None
    try:
        name = _promise(path).file
        return path.parent / name if name and beside(path, _only_data(name), root).is_file() else None
    except (OSError, RefusalError):  # whoever reads it will say so
        return None


def _only_data(name: str) -> str:
    """The name of a file that is nothing but voxels: another image's would be of another patient."""
    if name.lower().endswith(tuple(SUFFIXES)):
        raise RefusalError("its header says that its data are in a file that is an image of its own")
    return name


def _promise(path: Path) -> Promise:
    with open_regular(path) as file:
        return READERS[path.suffix.lower()].promise_of(file)


def _volume(promise: Promise, data: BufferedReader) -> Volume:
    """The volume whose voxels follow in an open file."""
    if promise.components != 1:
        raise RefusalError("its voxels are colours or vectors; save one number per voxel")
    _go_to_voxels(promise, data)
    left = size_of(data) - data.tell()
    check_claim(promise.shape, promise.dtype.itemsize, left, RATIOS[promise.packing])
    shape = spatial_shape(promise.shape)
    array = native(_stored(promise, data, left)).reshape(shape, order="F")  # the first axis varies fastest
    return canonical_volume(array, LPS_TO_RAS @ promise.affine)


def _go_to_voxels(promise: Promise, data: BufferedReader) -> None:
    """Moves to the first byte of the voxels; of compressed ones `byte_skip` counts unpacked bytes."""
    for _ in range(promise.line_skip):
        if not _passed_line(data):
            raise RefusalError("its header passes over more lines than its data have")
    start, size = data.tell(), size_of(data)
    if promise.at_end and size - promise.nbytes >= start:
        data.seek(size - promise.nbytes)
    elif promise.byte_skip and RATIOS[promise.packing] == 1:
        data.seek(min(size, start + promise.byte_skip))


def _passed_line(data: BufferedReader) -> bool:
    """Reads over one line, in parts: binary data may have none."""
    while part := data.readline(inflate.CHUNK):
        if part.endswith(b"\n"):
            return True
    return False


def _stored(promise: Promise, data: BufferedReader, left: int) -> Array:
    """All numbers in the order of the file."""
    if promise.packing == "text":
        data.seek(promise.byte_skip, 1)
        return _numbers(data.read(), promise)
    if promise.packing == "hex":
        return np.frombuffer(_from_hex(data.read(), promise.nbytes), promise.dtype)
    source = STREAMS[promise.packing](data)
    if promise.packing == "raw" and left > promise.nbytes:  # no checksum: its length is all there is
        raise RefusalError(
            f"its data are {left} bytes, more than the {promise.nbytes} that its header promises"
        )
    if promise.packing != "raw" and inflate.skip(source, promise.byte_skip) < promise.byte_skip:
        raise RefusalError("its header passes over more bytes than its data have")
    values = inflate.filled(source, promise.nbytes)
    inflate.check_end(source, promise.nbytes)
    return values.view(promise.dtype)


def _numbers(text: bytes, promise: Promise) -> Array:
    if b"_" in text:  # NumPy would take 1_0 as 10
        raise RefusalError("its data are not numbers")
    words = text.replace(b",", b" ").split()
    expected = promise.nbytes // promise.dtype.itemsize
    if len(words) != expected:
        raise RefusalError(f"its data are {len(words)} numbers where its header promises {expected}")
    return np.array(words).astype(promise.dtype.newbyteorder("="))


def _from_hex(text: bytes, promised: int) -> bytes:
    found = bytes.fromhex(text.decode("ascii"))
    if len(found) != promised:
        raise RefusalError(f"its data are {len(found)} bytes where its header promises {promised}")
    return found
