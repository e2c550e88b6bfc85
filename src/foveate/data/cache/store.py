"""Arrays of a cache as files: `.npy`, memory-mapped, or `.b2nd`, compressed with blosc2 (LZ4).

A file appears whole or not at all. The suffix alone says how it is read, so that both may lie in one folder.
"""

from __future__ import annotations

import errno
import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol

import numpy as np

from foveate.core.files import replace_file
from foveate.core.types import Array, FoveateError

Format = Literal["npy", "blosc2"]
SUFFIXES: dict[Format, str] = {"npy": ".npy", "blosc2": ".b2nd"}
OPEN_FILES = 64  # per process; far below any limit on open files
CHUNK = 64  # voxels along each axis of what is compressed together: a window touches few of them
BLOCK_VOXELS = 4096  # of a chunk that are decompressed on their own: 16 along three axes, 64 along two


@contextmanager
def disk_errors(cache: Path) -> Iterator[None]:
    """Turns a full or read-only disk into a paragraph; what was finished before stays usable."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            mib = shutil.disk_usage(cache).free >> 20
            raise FoveateError(
                f"The disk of the cache {cache} is full ({mib} MiB left, or your quota is used up); "
                "make room and start again: the volumes that are done are kept."
            ) from error
        if error.errno == errno.EFBIG:
            raise FoveateError(
                f"A volume exceeds the limit on the size of a file in {cache} (ulimit -f); raise it and "
                "start again: the volumes that are done are kept."
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise FoveateError(f"The cache {cache} cannot be written ({error.strerror}).") from error
        raise


def check_format(kind: Format) -> None:
    """Refuse a format whose package is missing."""
    if kind == "blosc2":
        _blosc2()


def write_array(path: Path, array: Array) -> int:
    """Writes a C-ordered array in the format of the suffix; the size of the file."""
    compress = path.suffix == SUFFIXES["blosc2"]
    pieces: list[bytes | memoryview] = [_compressed(array)] if compress else [_npy_header(array), array.data]
    replace_file(path, lambda stream: [stream.write(piece) for piece in pieces])
    return path.stat().st_size


def _npy_header(array: Array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue()


def _compressed(array: Array) -> bytes:
    blosc2 = _blosc2()
    chunks = [min(CHUNK, size) for size in array.shape]
    settings = {"codec": blosc2.Codec.LZ4, "nthreads": 1}
    blocks = block_shape(array.shape)
    return bytes(blosc2.asarray(array, chunks=chunks, blocks=blocks, cparams=settings).to_cframe())


def block_shape(shape: Sequence[int]) -> list[int]:
    """The shape of what is decompressed on its own; channels and other short axes are not divided.

    >>> block_shape((1, 300, 300, 300)), block_shape((3, 1024, 1024)), block_shape((2, 9, 9))
    ([1, 16, 16, 16], [3, 64, 64], [2, 9, 9])
    """
    long = sum(size**3 > BLOCK_VOXELS for size in shape)
    edge = round(BLOCK_VOXELS ** (1 / max(1, long)))
    return [min(edge, CHUNK, size) for size in shape]


class Windows(Protocol):
    """An array of a cache: whole windows of it are read as NumPy arrays, whatever holds it."""

    def __getitem__(self, window: tuple[slice, ...], /) -> Array:
        """One window."""
        ...


@lru_cache(maxsize=OPEN_FILES)
def open_array(path: Path, content_hash: str) -> Windows:  # noqa: ARG001 - a rewritten file is another one
    """A read-only array whose windows are NumPy arrays; a closed map stays valid while a window is held."""
    try:
        if path.suffix == SUFFIXES["blosc2"]:
            compressed: Windows = _blosc2().open(str(path), mode="r", dparams={"nthreads": 1})
            return compressed
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, RuntimeError) as error:
        raise FoveateError(
            f"The cached volume {path} cannot be opened ({type(error).__name__}); "
            "delete that file and start again, and it will be prepared anew."
        ) from error


def _blosc2() -> ModuleType:
    try:
        import blosc2
    except ImportError:
        raise FoveateError(
            "prepare.format blosc2 needs a package that is not installed: pip install 'foveate[blosc2]', "
            "or choose prepare.format npy."
        ) from None
    library: ModuleType = blosc2
    return library
