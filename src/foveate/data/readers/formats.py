"""Reads the image files of one record into a `Volume`; the table of formats is here, the readers beside it.

Volumes come back in the closest canonical RAS+ order (x, y, z), flipped and transposed but never resampled;
pictures as [c, x, y] with x to the right and y down. `data.decoding` does the
same in a process that may die.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from foveate.core.types import Reading, Region, Volume
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.suffixes import SUFFIXES, suffix_of
from foveate.data.readers.unreadable import UnreadableImageError

SINGLE = Reading()  # one number per voxel
Reader = Callable[[Path], Volume]


def read_volume(path: Path, *, as_map: bool = False, root: Path | None = None) -> Volume:
    """Decodes one file; values are the source's own, with the slope and intercept of its header applied.

    A map of labels may hold one value only; an image with one value is refused, and so are labels.

    Raises:
        UnreadableImageError: with a reason, for anything that pre-training could not learn from.
    """
    return read_files((path,), as_map=as_map, root=root)


def read_files(
    files: tuple[Path, ...],
    *,
    as_map: bool = False,
    flat: bool = False,
    root: Path | None = None,
    reading: Reading = SINGLE,
) -> Volume:
    """Decodes one file, or the slices of one series in order; `flat`: what looks like labels is an image.

    A header whose voxels are in a file beside it may not lead out of `root` (unknown: out of its own folder).

    Raises:
        UnreadableImageError: with a reason; it names the first file.
    """
    from foveate.data.readers.values import check_values

    with _refusing(files):
        volume = _read(files, root, reading)
        check_values(volume.array, as_map=as_map, flat=flat)
    return volume


def read_regions(
    files: tuple[Path, ...],
    regions: Sequence[Region],
    *,
    shape: Sequence[int],
    affine: Sequence[Sequence[float]],
    orientation: Sequence[tuple[int, int]],
) -> Volume:
    """A label map that is painted from structures in their order, on the grid of a decoded image.

    Raises:
        UnreadableImageError: with a reason; it names the first file.
    """
    from foveate.data.readers.dicom.structures.painting import painted

    with _refusing(files):
        turned = tuple((int(axis), int(flip)) for axis, flip in orientation)
        return painted(regions, tuple(shape), np.asarray(affine, dtype=np.float64), turned)


@contextmanager
def _refusing(files: tuple[Path, ...]) -> Iterator[None]:
    """Turns whatever a reader raises into a reason that quotes nothing of the file."""
    try:
        if min(path.stat().st_size for path in files) == 0:
            raise RefusalError("the file is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they may quote the file
            yield
    except RefusalError as refusal:
        raise UnreadableImageError(files[0], str(refusal)) from None
    except (ImportError, NameError):
        raise  # ours, not the file's
    except Exception as error:  # decoders raise almost anything on a damaged file
        raise UnreadableImageError(files[0], _reason(error)) from error


def _read(files: tuple[Path, ...], root: Path | None, reading: Reading) -> Volume:
    if len(files) > 1:
        from foveate.data.readers.dicom.volume import read_series

        return read_series(files)
    return _reader(files[0], root, reading)(files[0])


def _reader(path: Path, root: Path | None, reading: Reading) -> Reader:
    suffix = suffix_of(path)
    if suffix in {".mha", ".mhd", ".nrrd", ".nhdr"}:
        from foveate.data.readers.itk.volume import read_itk

        return partial(read_itk, root=root)
    if suffix in {".nii", ".nii.gz"}:
        from foveate.data.readers.nifti import read_nifti

        return partial(read_nifti, several=reading.fourth_axis, point=reading.point)
    if suffix == ".npz":
        from foveate.data.readers.arrays import read_archive as read
    elif suffix in SUFFIXES:
        from foveate.data.readers.pictures import read_picture

        return partial(read_picture, colour=reading.colour)
    else:
        from foveate.data.readers.dicom.header import is_dicom
        from foveate.data.readers.dicom.volume import read_dicom as read

        if not is_dicom(path):
            raise RefusalError(
                f"it is not DICOM, and its suffix is not read (accepted: {', '.join(SUFFIXES)})"
            )
    return read


def _reason(error: Exception) -> str:
    """Says what went wrong without the library's message, which may quote the path or the header."""
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, OSError) and error.errno:
        return f"the system could not read it ({error.strerror})"
    return f"it is truncated, damaged or not what its suffix says ({type(error).__name__})"
