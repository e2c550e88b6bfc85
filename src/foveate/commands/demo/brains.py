"""A cohort of virtual brains for the demo, made from the MNI152 atlas that nilearn carries: no download.

Every brain is the atlas bent by a smooth random deformation, its tissues given random contrasts between
T1-like and inverted, with a coil's bias field and noise. Its tissue labels are bent along with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from foveate.core.rng import stream
from foveate.core.types import FoveateError

VERSION = 1  # of the bytes that a seed stands for
RESOLUTION_MM = 2
MARGIN_VOXELS = 8  # room for the deformation
BRAIN_THRESHOLD = 0.05  # of the template's range
BACKGROUND, GREY, WHITE, OTHER = 0, 1, 2, 3
DEFORMATIONS = ((5, 3.0), (10, 0.9))  # control points per axis, standard deviation in mm

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Atlas:
    """Maps on one grid, cropped to the brain."""

    template: Floats  # (x, y, z) in [0, 1], T1-weighted
    grey: Floats  # share of grey matter
    white: Floats  # share of white matter
    affine: NDArray[np.float64]


def build_cohort(folder: Path, count: int, seed: int, on_progress: Callable[[int, int], None]) -> None:
    """Writes `images/brain_000.nii.gz`, `labels/brain_000.nii.gz` and so on; what is there is kept.

    Labels are 0 background, 1 grey matter, 2 white matter, 3 the rest of the brain (mostly fluid).

    Raises:
        FoveateError: nilearn is missing, or the folder holds something else.
    """
    if not folder.exists():
        load_atlas()  # without nilearn it says so, before anything is written
    _claim(folder, count, seed)
    for index in range(count):
        on_progress(index, count)
        files = [folder / kind / f"brain_{index:03d}.nii.gz" for kind in ("images", "labels")]
        if not all(file.exists() for file in files):
            image, labels = draw_brain(load_atlas(), seed, index)
            _write_nifti(files[0], image, load_atlas().affine)
            _write_nifti(files[1], labels, load_atlas().affine)
    on_progress(count, count)


def _claim(folder: Path, count: int, seed: int) -> None:
    """Marks the folder as this cohort's, or refuses one that holds another or anything else."""
    marker = folder / "cohort.json"
    wanted = json.dumps({"version": VERSION, "count": count, "seed": seed})
    folder.mkdir(parents=True, exist_ok=True)
    found = marker.read_text() if marker.exists() else ""
    if found == wanted:
        return
    if any(folder.iterdir()):
        raise FoveateError(
            f"{folder} holds {found or 'other files'}, not the virtual cohort {wanted}; "
            "give an empty or new folder, or delete this one."
        )
    for name in ("images", "labels"):
        (folder / name).mkdir()
    marker.write_text(wanted)


def _write_nifti(file: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    temporary = file.with_name(f".{file.name}")  # hidden from every source until it is whole
    nib.save(image, temporary)
    temporary.replace(file)


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """The MNI152 template and tissue maps from inside the nilearn package."""
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ImportError as error:
        raise FoveateError(
            "The virtual brains need nilearn, which is not installed: pip install 'foveate[demo]'."
        ) from error
    images = [
        load(resolution=RESOLUTION_MM)
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    ]
    maps = [image.get_fdata(dtype=np.float32) for image in images]
    box, low = _brain_box(maps[0])
    template, grey, white = (np.ascontiguousarray(values[box]).clip(0, 1) for values in maps)
    affine = images[0].affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    return Atlas(template=template, grey=grey, white=white, affine=affine)


def _brain_box(template: Floats) -> tuple[tuple[slice, ...], NDArray[np.int64]]:
    """The box of the brain with a margin for its deformation, and its lowest corner."""
    inside = np.argwhere(template > BRAIN_THRESHOLD)
    low = np.maximum(inside.min(axis=0) - MARGIN_VOXELS, 0)
    high = inside.max(axis=0) + 1 + MARGIN_VOXELS  # a slice may end outside
    return tuple(map(slice, low, high)), low


def draw_brain(atlas: Atlas, seed: int, index: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """The image (0 to about 1000) and the labels of brain `index`; a function of its arguments alone."""
    coordinates = _deformation(stream(seed, "brain shape", index), atlas.template.shape)
    template, grey, white = (
        _sample(values, coordinates) for values in (atlas.template, atlas.grey, atlas.white)
    )
    labels = _labels(template, grey, white)
    draws = stream(seed, "brain contrast", index)
    values = _contrast(draws, template, grey, white) * (labels != BACKGROUND)
    values *= _bias_field(draws, values.shape)
    return _noisy(draws, values), labels


def _sample(values: Floats, coordinates: Floats) -> Floats:
    from scipy.ndimage import map_coordinates

    sampled: Floats = map_coordinates(values, coordinates, order=1, mode="constant", cval=0.0)
    return sampled


def _smooth_field(draws: Generator, shape: Sequence[int], points: int) -> Floats:
    """Random control points (standard deviation 1) joined by a cubic spline."""
    from scipy.ndimage import zoom

    control = draws.standard_normal((points,) * len(shape)).astype(np.float32)
    field: Floats = zoom(control, [size / points for size in shape], order=3, mode="nearest", grid_mode=True)
    return field


def _deformation(draws: Generator, shape: Sequence[int]) -> Floats:
    """Where each voxel of the new brain lies in the atlas: (3, x, y, z) in voxels."""
    centre = (np.asarray(shape) - 1) / 2
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")).astype(np.float32)
    offsets = grid - centre.astype(np.float32)[:, None, None, None]  # (3, x, y, z)
    coordinates = np.tensordot(_affine_draw(draws), offsets, axes=1).astype(np.float32)
    coordinates += centre.astype(np.float32)[:, None, None, None]
    for points, deviation_mm in DEFORMATIONS:
        for axis in range(len(shape)):
            coordinates[axis] += _smooth_field(draws, shape, points) * (deviation_mm / RESOLUTION_MM)
    return coordinates


def _affine_draw(draws: Generator) -> Floats:
    """A small rotation, shear and scaling, about the centre."""
    scale = np.diag(draws.uniform(0.94, 1.06, 3) * draws.uniform(0.97, 1.06))
    mixing = draws.normal(0, 0.05, (3, 3))  # its antisymmetric part rotates by about 4 degrees
    np.fill_diagonal(mixing, 0)
    matrix: Floats = (scale + mixing).astype(np.float32)
    return matrix


def _labels(template: Floats, grey: Floats, white: Floats) -> NDArray[np.uint8]:
    rest = np.clip(1 - grey - white, 0, 1)
    tissue = np.argmax([grey, white, rest], axis=0) + GREY
    brain = np.maximum(template, grey + white) > BRAIN_THRESHOLD
    return np.where(brain, tissue, BACKGROUND).astype(np.uint8)


def _contrast(draws: Generator, template: Floats, grey: Floats, white: Floats) -> Floats:
    """The T1 template through a random monotone curve, mixed with a flat random value per tissue."""
    steps = draws.dirichlet(np.full(5, 5.0))
    curve = np.concatenate([[0.0], np.cumsum(steps)])
    inverted = draws.random() < 0.4
    through = np.interp(template, np.linspace(0, 1, curve.size), curve[::-1] if inverted else curve)
    order = np.cumsum(draws.uniform(0.15, 0.4, 3))  # at least 0.15 apart, so that tissues stay visible
    fluid, middle, bright = order[::-1] if inverted else order
    flat = middle * grey + bright * white + fluid * np.clip(1 - grey - white, 0, 1)
    share = draws.uniform(0.3, 0.7)
    mixed: Floats = (share * through + (1 - share) * flat).astype(np.float32)
    return mixed


def _bias_field(draws: Generator, shape: Sequence[int]) -> Floats:
    field: Floats = np.exp(_smooth_field(draws, shape, 3) * np.float32(draws.uniform(0.02, 0.15)))
    return field


def _noisy(draws: Generator, values: Floats) -> NDArray[np.int16]:
    """Rician noise, as in a magnitude image, on a scale of about 1000."""
    deviation = np.float32(draws.uniform(0.01, 0.05))
    real = values + deviation * draws.standard_normal(values.shape, dtype=np.float32)
    imaginary = deviation * draws.standard_normal(values.shape, dtype=np.float32)
    return np.rint(1000 * np.hypot(real, imaginary)).astype(np.int16)
