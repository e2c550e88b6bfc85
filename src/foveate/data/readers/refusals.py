"""What every reader checks before it allocates; its reasons hold no name, path or header text."""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

LARGEST_VOXELS = 1 << 31  # 8 GiB as float32: five times a whole-body CT of 512 x 512 x 1500
DEFLATE_RATIO = 1032  # the most that one byte of a deflate stream expands to
BZIP2_RATIO = 1_300_000  # the same of bzip2: a block of 46 MB of one value takes about 40 bytes


@final
class RefusalError(Exception):
    """A reason found inside a reader, before the file's name is attached."""


def check_claim(shape: tuple[int, ...], voxel_bytes: int, file_bytes: int, ratio: int = 1) -> None:
    """Refuses a header that promises more than an image has or than its file can hold."""
    voxels = math.prod(shape)
    if voxels > LARGEST_VOXELS:
        raise RefusalError(f"its header claims {voxels:.2e} voxels; at most {LARGEST_VOXELS:.2e} are read")
    if voxels * voxel_bytes > file_bytes * ratio:
        raise RefusalError(f"its header claims {voxels} voxels, more than its {file_bytes} bytes can hold")


def fourth_axis(shape: tuple[int, ...]) -> int:
    """How many volumes a file of NIfTI holds; axes of one element count nothing."""
    return math.prod(shape[3:])


def spatial_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The three spatial sizes; trailing axes of one element, which some writers add, are dropped."""
    if 0 in shape:
        raise RefusalError(f"it has no voxels (shape {shape})")
    spatial, rest = shape[:3], shape[3:]
    if any(size != 1 for size in rest):
        raise RefusalError(f"it is {len(shape)}D (shape {shape}); split it into one 3D file per volume")
    if len(spatial) < 3 or 1 in spatial:
        raise RefusalError(f"it is a single slice (shape {shape}); save slices as PNG, or stack them")
    return spatial


def check_voxel_type(dtype: np.dtype[np.generic]) -> None:
    """Refuses what is not one number per voxel."""
    if dtype.kind == "c":
        raise RefusalError("its voxels are complex; save the magnitude")
    if dtype.kind not in "iufb":
        raise RefusalError("its voxels are colours or records; save one number per voxel")


def native(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's byte order, truth values as 0 and 1, half precision as float32."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


LOOKS_LIKE_LABELS = "its values look like labels"  # how `readers.values` begins to say so


def looks_like_labels(reason: str) -> bool:
    """Whether an image was refused because of what its values look like."""
    return reason.startswith(LOOKS_LIKE_LABELS)
