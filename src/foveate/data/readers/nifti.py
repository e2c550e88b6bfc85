"""NIfTI-1 and -2, read by nibabel, which takes sheared affines that ITK refuses and is plain Python."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.readers.canonical import canonical_volume
from foveate.data.readers.refusals import (
    DEFLATE_RATIO,
    RefusalError,
    check_claim,
    check_voxel_type,
    native,
    spatial_shape,
)

MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path) -> Volume:
    """One volume, slope and intercept applied; without a spatial transform, the one its voxel sizes imply."""
    with _no_reports():
        image = nib.load(path, mmap=False)
        if not isinstance(image, nib.Nifti1Image):
            raise RefusalError("its content is not NIfTI")
        dtype = image.get_data_dtype()
        check_voxel_type(dtype)
        shape = spatial_shape(image.shape)
        ratio = DEFLATE_RATIO if path.name.lower().endswith(".gz") else 1
        check_claim(shape, dtype.itemsize, path.stat().st_size, ratio)
        return canonical_volume(_values(image).reshape(shape), _millimetres(image) @ image.affine)


@contextmanager
def _no_reports() -> Iterator[None]:
    """Keeps nibabel's header reports, which may quote the file, off the terminal."""
    reports = logging.getLogger("nibabel.global")
    level = reports.level
    reports.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        reports.setLevel(level)


def _values(image: Any) -> Array:  # noqa: ANN401 - nibabel has no types
    """Stored values where slope and intercept change nothing (integers stay integers), else scaled."""
    proxy = image.dataobj
    unscaled = (proxy.slope, proxy.inter) == (1.0, 0.0)
    return native(proxy.get_unscaled() if unscaled else np.asarray(proxy, dtype=np.float32))


def _millimetres(image: Any) -> Array:  # noqa: ANN401 - nibabel has no types
    factor = MM_PER_UNIT[image.header.get_xyzt_units()[0]]
    return np.diag([factor, factor, factor, 1.0])
