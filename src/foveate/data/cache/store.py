"""Arrays of a cache as files: `.npy`, memory-mapped, or `.b2nd`, compressed with blosc2 (LZ4).

A file appears whole or not at all. The suffix alone says how it is read, so that both may lie in one folder.
"""

from __future__ import annotations

import errno
import io
import mmap
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b, file_digest
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Literal, NamedTuple, Protocol

import numpy as np

from foveate.core.files import replace_file
from foveate.core.types import Array, FoveateError

Format = Literal["npy", "blosc2"]
SUFFIXES: dict[Format, str] = {"npy": ".npy", "blosc2": ".b2nd"}
OPEN_FILES = 64  # per process; far below any limit on open files
PIECE_VOXELS = 1 << 22  # of an array in another order that are copied at once to be written
CHUNK = 64  # voxels along each axis of what is compressed together: a window touches few of them
ANNOUNCED = 1 << 16  # bytes of a contiguous window that the system is told of before it is read
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


class Written(NamedTuple):
    """What is known of a file that was written."""

    file_bytes: int
    checksum: str


def plane_first(spacing_mm: Sequence[float], kind: Format = "npy") -> tuple[int, ...]:
    """The order in which the axes of an image are stored: a plane across the coarsest one is contiguous.

    Of equal ones the last counts. Compressed cubes are read alike from all sides: their order stays.

    >>> plane_first((0.7, 0.7, 5.0)), plane_first((1.0, 1.0, 1.0)), plane_first((4.0, 1.0, 1.0))
    ((2, 0, 1), (2, 0, 1), (0, 1, 2))
    """
    axes = range(len(spacing_mm))
    if len(spacing_mm) < 3 or kind == "blosc2":
        return tuple(axes)
    coarsest = max(axes, key=lambda axis: (round(spacing_mm[axis], 3), axis))
    return (coarsest, *(axis for axis in axes if axis != coarsest))


def write_array(path: Path, array: Array, axes: Sequence[int] = ()) -> Written:
    """Writes an array in the format of the suffix, its last axes in the order `axes`.

    Works piece by piece: an array in memory of another order is never copied as a whole.
    """
    lead = array.ndim - len(axes)
    stored = array.transpose(*range(lead), *(lead + axis for axis in axes))
    digest = blake2b(digest_size=16)

    def write(stream: BinaryIO) -> None:
        compress = path.suffix == SUFFIXES["blosc2"]
        for piece in [_compressed(np.ascontiguousarray(stored))] if compress else _npy_pieces(stored):
            digest.update(piece)
            stream.write(piece)

    replace_file(path, write)
    return Written(path.stat().st_size, digest.hexdigest())


def _npy_pieces(array: Array) -> Iterator[bytes | memoryview]:
    header = io.BytesIO()
    facts = {**np.lib.format.header_data_from_array_1_0(array), "fortran_order": False}
    np.lib.format.write_array_header_1_0(header, facts)
    yield header.getvalue()
    if array.flags.c_contiguous:
        yield array.data
        return
    for part in array if array.ndim == 4 else [array]:
        step = max(1, PIECE_VOXELS * len(part) // part.size)
        for start in range(0, len(part), step):
            yield np.ascontiguousarray(part[start : start + step]).data


def checksum_of(path: Path) -> str:
    """The checksum of a file as it is now."""
    with path.open("rb") as stream:
        return file_digest(stream, lambda: blake2b(digest_size=16)).hexdigest()


def read_window(
    stored: Windows, axes: Sequence[int], low: Sequence[int], high: Sequence[int], *, channels: bool
) -> Array:
    """The window [low, high) of an array that is stored in the order `axes`, in the image's own order.

    What is mapped stays so: it is a view, transposed.
    """
    lead = (slice(None),) if channels else ()
    order = axes or range(len(low))
    window = np.asarray(stored[(*lead, *(slice(low[axis], high[axis]) for axis in order))])
    if window.flags.c_contiguous and window.nbytes >= ANNOUNCED:
        _announce(window)
    places = [len(lead) + list(order).index(axis) for axis in range(len(low))]
    return window.transpose(*range(len(lead)), *places)


def _announce(window: Array) -> None:
    """Ask for one piece of a mapped file at once: met page by page, it comes from the disk in small parts."""
    if found := pages_of(window):
        mapped, start, length = found
        with suppress(OSError):  # it is a wish: the window is read all the same
            mapped.madvise(mmap.MADV_WILLNEED, start, length)


def pages_of(window: Array) -> tuple[mmap.mmap, int, int] | None:
    """The map that a contiguous window lies in, and where: first byte of a page, and length."""
    mapped = window.base
    while isinstance(mapped, np.ndarray) and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    if not isinstance(mapped, np.memmap) or not isinstance(mapped.base, mmap.mmap):
        return None
    begin = [each.__array_interface__["data"][0] for each in (mapped, window)]
    first = mapped.offset % mmap.ALLOCATIONGRANULARITY + begin[1] - begin[0]
    start = first // mmap.PAGESIZE * mmap.PAGESIZE
    return mapped.base, start, first + window.nbytes - start


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
