"""Reads one image file into a `Volume`; everything that knows a file format is here.

Volumes (NIfTI) come back in the closest canonical RAS+ order (x, y, z), flipped and transposed but never
resampled. A NIfTI without a spatial transform gets the one its voxel sizes imply, as the format's standard
says. Pictures come back as [0, x, y] with x to the right and y down, colour reduced to luminance.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np

from foveate.core.types import Array, Dimension, FoveateError, Volume

SUFFIXES: dict[str, Dimension] = {".nii.gz": 3, ".nii": 3, ".png": 2, ".jpg": 2, ".jpeg": 2}
SMALLEST_SPAN, LARGEST_SPAN = 1e-30, 1e30  # beyond these, float32 arithmetic of a window breaks down
MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


@final
class UnreadableImageError(FoveateError):
    """An image that cannot be used; `reason` holds no name, path or header text."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be used: {reason}.")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


class _RefusalError(Exception):
    """A reason found inside a reader, before the file's name is attached."""


def suffix_of(path: Path) -> str:
    """The lower-case suffix that decides the format, with `.nii.gz` as one.

    >>> suffix_of(Path("a.b.NII.GZ")), suffix_of(Path("a.b.PNG")), suffix_of(Path("LICENSE"))
    ('.nii.gz', '.png', '')
    """
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), path.suffix.lower())


def read_volume(path: Path, *, as_map: bool = False) -> Volume:
    """Decodes one file; values are the source's own (for NIfTI with slope and intercept applied).

    A map of labels may hold one value only; an image with one value is refused.

    Raises:
        UnreadableImageError: with a reason, for anything that pre-training could not learn from.
    """
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        accepted = ", ".join(SUFFIXES)
        raise UnreadableImageError(path, f"the suffix {suffix!r} is not read (accepted: {accepted})")
    try:
        if path.stat().st_size == 0:
            raise _RefusalError("the file is empty")
        with _quiet_libraries():
            volume = _READERS[suffix](path)
        _check_values(volume.array, as_map=as_map)
    except _RefusalError as refusal:
        raise UnreadableImageError(path, str(refusal)) from None
    except (AttributeError, ImportError, NameError):
        raise  # ours, not the file's
    except Exception as error:  # decoders raise almost anything on a damaged file
        raise UnreadableImageError(path, _reason(error)) from error
    return volume


def _reason(error: Exception) -> str:
    """Says what went wrong without the library's message, which may quote the path or the header."""
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, OSError) and error.errno:
        return f"the system could not read it ({error.strerror})"
    return f"it is truncated, damaged or not what its suffix says ({type(error).__name__})"


def _check_values(array: Array, *, as_map: bool) -> None:
    if np.issubdtype(array.dtype, np.floating):
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            raise _RefusalError(f"{bad} of {array.size} voxels are NaN or infinite")
    if as_map:
        return
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise _RefusalError("the image is constant")
    if not SMALLEST_SPAN < high - low < LARGEST_SPAN:
        raise _RefusalError(f"its values span {high - low:.1e}, which is not an image's range")


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keeps warnings and nibabel's header reports, which may quote the file, off the terminal."""
    reports = logging.getLogger("nibabel.global")
    level = reports.level
    reports.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        reports.setLevel(level)


def _read_nifti(path: Path) -> Volume:
    import nibabel as nib
    from nibabel.affines import voxel_sizes

    image = nib.load(path, mmap=False)
    if not isinstance(image, nib.Nifti1Image):
        raise _RefusalError("its content is not NIfTI")
    shape = _spatial_shape(image.shape)
    _check_voxel_type(image.get_data_dtype())
    orientation = _orientation(image.affine)
    array = _nifti_values(image).reshape(shape)
    array = nib.orientations.apply_orientation(array, orientation)
    to_source = nib.orientations.inv_ornt_aff(orientation, shape)
    affine = _millimetres(image) @ image.affine @ to_source
    return Volume(
        array=array[np.newaxis],
        affine=affine,
        spacing_mm=tuple(float(size) for size in voxel_sizes(affine)),
        bits=8 if array.dtype == np.uint8 else 16,
    )


def _spatial_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The three spatial sizes; trailing axes of one element, which some writers add, are dropped."""
    if 0 in shape:
        raise _RefusalError(f"it has no voxels (shape {shape})")
    spatial, rest = shape[:3], shape[3:]
    if any(size != 1 for size in rest):
        raise _RefusalError(f"it is {len(shape)}D (shape {shape}); split it into one 3D file per volume")
    if len(spatial) < 3 or 1 in spatial:
        raise _RefusalError(f"it is a single slice (shape {shape}); save slices as PNG, or stack them")
    return spatial


def _check_voxel_type(dtype: np.dtype[Any]) -> None:
    if dtype.kind == "c":
        raise _RefusalError("its voxels are complex; save the magnitude")
    if dtype.kind not in "iuf":
        raise _RefusalError("its voxels are colours or records; save one number per voxel")


def _orientation(affine: Array) -> Array:
    import nibabel as nib

    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise _RefusalError("its affine cannot be inverted, so its orientation is unknown")
    orientation: Array = nib.orientations.io_orientation(affine)
    return orientation


def _nifti_values(image: Any) -> Array:  # noqa: ANN401 - nibabel has no types
    """Stored values where slope and intercept change nothing (integers stay integers), else scaled."""
    proxy = image.dataobj
    unscaled = (proxy.slope, proxy.inter) == (1.0, 0.0)
    values: Array = proxy.get_unscaled() if unscaled else np.asarray(proxy, dtype=np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _millimetres(image: Any) -> Array:  # noqa: ANN401 - nibabel has no types
    unit = image.header.get_xyzt_units()[0]
    factor = MM_PER_UNIT[unit]
    return np.diag([factor, factor, factor, 1.0])


def _read_picture(path: Path) -> Volume:
    from PIL import Image, ImageOps

    try:
        opened = Image.open(path, formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise _RefusalError("it has more pixels than Pillow agrees to decode") from None
    with opened as image:
        _check_picture(image)
        upright = ImageOps.exif_transpose(image)
        deep = upright.mode.startswith("I")
        grey = upright if deep else upright.convert("L")
        array = np.asarray(grey).T  # rows are y: the array becomes [x, y]
    return Volume(
        array=array.astype(np.uint16 if deep else np.uint8)[np.newaxis],
        affine=np.eye(4),
        spacing_mm=(1.0, 1.0),
        bits=16 if deep else 8,
    )


def _check_picture(image: Any) -> None:  # noqa: ANN401 - several Pillow classes
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise _RefusalError(f"it is an animation of {image.n_frames} frames; save one file per frame")
    raw_mode = str(image.tile[0][3]) if image.tile else ""
    if ";16" in raw_mode and not image.mode.startswith("I"):
        raise _RefusalError("it is 16-bit colour, of which Pillow keeps 8 bits; save it as 16-bit grey")


_READERS: dict[str, Callable[[Path], Volume]] = {
    ".nii.gz": _read_nifti,
    ".nii": _read_nifti,
    ".png": _read_picture,
    ".jpg": _read_picture,
    ".jpeg": _read_picture,
}
