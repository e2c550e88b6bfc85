"""Resampling against SciPy, and the way back to the source's own voxels."""

from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from foveate.core.types import Record, Volume
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.resample import to_spacing

NATIVE = (0.8, 1.1, 2.5)


def volume_of(array, spacing):
    affine = np.diag([*spacing, *[1.0] * (4 - len(spacing))])
    return Volume(array=array, affine=affine, spacing_mm=spacing, bits=16)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_resampling_is_low_pass_then_affine_transform(data):
    n = data.draw(st.sampled_from([2, 3]))
    shape = data.draw(st.tuples(*[st.integers(3, 16)] * n))
    old, new = (data.draw(st.tuples(*[st.floats(0.5, 4)] * n)) for _ in range(2))
    array = np.random.default_rng(sum(shape)).random((2, *shape)).astype(np.float32)
    labels = (array[0] * 5).astype(np.uint8)
    moved, maps = to_spacing(volume_of(array, old), {"labels": labels}, new)
    scale = np.array(new) / old
    if np.allclose(scale, 1, rtol=1e-3):
        assert moved.array is array
        return
    grid = moved.array.shape[1:]
    assert grid == tuple(max(1, round(s / x)) for s, x in zip(shape, scale, strict=True))
    offset = (np.array(shape) - 1) / 2 - scale * (np.array(grid) - 1) / 2  # about the same centre
    kwargs = {"matrix": scale, "offset": offset, "output_shape": grid, "mode": "nearest"}
    sigmas = np.maximum(0, (scale - 1) / 2)
    for channel in range(2):
        filtered = ndimage.gaussian_filter(array[channel].astype(float), sigmas, mode="nearest")
        expected = ndimage.affine_transform(filtered, order=1, **kwargs)
        assert np.abs(moved.array[channel] - expected).max() < 1e-5
    np.testing.assert_allclose(moved.affine @ [*[0] * 3, 1], [*(offset * old), *[0] * (3 - n), 1], atol=1e-9)
    np.testing.assert_allclose(np.diag(moved.affine)[:n], new)
    assert maps["labels"].shape == grid
    positions = [np.floor(o + x * np.arange(g) + 0.5) for o, x, g in zip(offset, scale, grid, strict=True)]
    cells = [p.astype(int).clip(0, s - 1) for p, s in zip(positions, shape, strict=True)]
    np.testing.assert_array_equal(maps["labels"], labels[np.ix_(*cells)])


def test_eight_bits_stay_eight_bits():
    array = np.random.default_rng(0).integers(0, 256, (1, 20, 30)).astype(np.uint8)
    moved, _ = to_spacing(volume_of(array, (1.0, 1.0)), {}, (2.0, 3.0))
    assert (moved.array.dtype, moved.array.shape) == (np.uint8, (1, 10, 10))


def oblique(flips, degrees):
    """An affine with anisotropic voxels, flips and a rotation."""
    radians = np.deg2rad(degrees)
    turn = np.eye(3)
    for i, j in ((0, 1), (1, 2)):
        plane = np.eye(3)
        plane[[i, j, i, j], [i, j, j, i]] = (
            np.cos(radians),
            np.cos(radians),
            -np.sin(radians),
            np.sin(radians),
        )
        turn = turn @ plane
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(np.multiply(NATIVE, flips))
    affine[:3, 3] = [31.0, -12.5, 7.25]
    return affine


def ellipsoids(shape):
    """Two labels in an image that shows them."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    labels = np.zeros(shape, np.uint8)
    labels[sum((a - c) ** 2 for a, c in zip(axes, (-0.3, 0.1, 0.0), strict=True)) < 0.25] = 1
    labels[sum((a - c) ** 2 for a, c in zip(axes, (0.5, -0.3, 0.3), strict=True)) < 0.09] = 2
    return labels


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def seen_from_source(prepared, affine, source_affine, shape):
    """The prepared array at the centres of the source's voxels, nearest, through both affines alone."""
    to_index = np.linalg.inv(affine) @ source_affine
    points = np.moveaxis(np.indices(shape), 0, -1) @ to_index[:3, :3].T + to_index[:3, 3]
    return ndimage.map_coordinates(prepared, np.moveaxis(points, -1, 0), order=0, mode="nearest")


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
@pytest.mark.parametrize("degrees", [0.0, 17.0, 50.0])
@pytest.mark.parametrize(
    ("spacing", "least"), [("native", 1.0), ((0.4, 0.4, 0.4), 0.98), ((1.0, 1.0, 1.0), 0.9)]
)
def test_mapped_back_the_prepared_volume_covers_the_source(tmp_path, flips, degrees, spacing, least):
    shape = (44, 36, 24)
    labels, affine = ellipsoids(shape), oblique(flips, degrees)
    image = (labels.astype(np.int16) * 400) + np.random.default_rng(0).integers(0, 50, shape).astype(np.int16)
    for name, array in (("image", image), ("labels", labels)):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    record = Record(path=tmp_path / "image.nii.gz", relative="image.nii.gz")
    record = replace(record, maps={"labels": tmp_path / "labels.nii.gz"})
    volume = prepare([record], tmp_path / "cache", PrepareConfig(spacing_mm=spacing), lambda *_: None)[0]
    stored = volume.codes((0, 0, 0), volume.shape).array[0] * volume.entry.scale + volume.entry.offset
    whole = volume.read_map("labels", (0, 0, 0), volume.shape)
    home = partial(seen_from_source, affine=np.array(volume.entry.affine), source_affine=affine, shape=shape)
    assert dice(home(stored) > 200, labels > 0) >= least
    for label in (1, 2):
        assert dice(home(whole) == label, labels == label) >= least
