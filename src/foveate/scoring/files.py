"""Predictions as files: masks and probabilities as NIfTI or PNG, each whole or not at all."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO

import numpy as np

from foveate.core.dims import LAYERS
from foveate.core.files import replace_file
from foveate.core.types import Array
from foveate.scoring.grids import Grid
from foveate.scoring.members.shares import LEVELS


def mask_suffix(dimension: int) -> str:
    """Of a mask's file."""
    return ".nii.gz" if LAYERS[dimension].planes else ".png"


def write_mask(path: Path, mask: Array, grid: Grid) -> None:
    """A label map (*S) of whole numbers on the grid of its image."""
    if path.suffix == ".png":
        from PIL import Image

        picture = Image.fromarray(np.ascontiguousarray(mask.T))
        replace_file(path, lambda stream: picture.save(stream, format="PNG"))
        return
    replace_file(path, lambda stream: _write_nifti(stream, mask, grid, 1.0))


def write_probabilities(path: Path, levels: Array, grid: Grid) -> None:
    """Probabilities (*S, K) given as whole numbers from 0 to `LEVELS`, a class per step of the last axis."""
    replace_file(path, lambda stream: _write_nifti(stream, levels, grid, 1 / LEVELS))


def _write_nifti(stream: BinaryIO, array: Array, grid: Grid, slope: float) -> None:
    import nibabel as nib

    header = nib.Nifti1Header() if grid.header is None else grid.header.copy()
    header.set_data_dtype(array.dtype)
    image = nib.Nifti1Image(array, None if grid.header is not None else grid.affine, header)
    if grid.header is None:
        image.header.set_xyzt_units("mm")
        image.set_qform(grid.affine, 1)
        image.set_sform(grid.affine, 1)
    if slope != 1.0:
        image.header.set_slope_inter(slope, 0.0)
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=3, mtime=0, filename="") as packed:
        image.to_stream(packed)
