"""Back to the file's own grid: exact where it can be, close where it was resampled."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from foveate.core.types import Record
from foveate.data.readers.formats import read_volume
from foveate.scoring.files import write_mask, write_probabilities
from foveate.scoring.grids import Grid, onto, source_grid

ORIENTATIONS = ["RAS", "LPS", "ASL", "SRP", "IPL", "PIR"]


def oblique(orientation, spacing, degrees=20.0):
    """An affine of an orientation, turned about two axes."""
    codes = nib.orientations.axcodes2ornt(orientation)
    a, b = np.radians(degrees), np.radians(degrees / 2)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    linear = np.zeros((3, 3))
    for axis, (to, sign) in enumerate(codes):
        linear[int(to), axis] = sign * spacing[axis]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ tilt @ linear, (-31.5, 12.25, 400)
    return affine


def ball(shape):
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    first = sum((a - c) ** 2 for a, c in zip(axes, (0.1, -0.2, 0.15), strict=True)) < 0.35
    return first.astype(np.uint8) + (first & (axes[0] > 0.1))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.integers(2, 9)] * 3),
    st.tuples(*[st.integers(0, 3)] * 6),
)
def test_property_flips_transpositions_and_cuts_are_undone_exactly(orientation, shape, cut):
    """The way of an image into the cache, and of its mask back."""
    source = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    affine = oblique(orientation, (0.8, 1.1, 3.0))
    turn = nib.orientations.io_orientation(affine)
    seen = nib.orientations.apply_orientation(source, turn)
    seen_affine = affine @ nib.orientations.inv_ornt_aff(turn, shape)
    low = [min(a, n - 1) for a, n in zip(cut[:3], seen.shape, strict=True)]
    high = [max(a + 1, n - b) for a, b, n in zip(low, cut[3:], seen.shape, strict=True)]
    kept = seen[tuple(map(slice, low, high))]
    step = np.eye(4)
    step[:3, 3] = low
    wanted = Grid(shape=shape, affine=affine)
    back = onto(kept, Grid(shape=kept.shape, affine=seen_affine @ step), wanted)
    expected = np.where(np.isin(source, kept), source, 0)
    assert np.array_equal(back, expected)


@pytest.mark.parametrize("classes", [0, 3])
def test_property_resampled_maps_cover_their_source(classes):
    shape, affine = (40, 36, 20), oblique("LPS", (1.0, 1.2, 2.5))
    truth = ball(shape)
    step = np.diag([0.9 / 1.0, 1.0 / 1.2, 2.0 / 2.5, 1])
    size = [round(n / s) for n, s in zip(shape, np.diag(step)[:3], strict=True)]
    for axis in range(3):
        step[axis, 3] = (shape[axis] - 1) / 2 - step[axis, axis] * (size[axis] - 1) / 2
    fine = Grid(shape=tuple(size), affine=affine @ step)
    whole = Grid(shape=shape, affine=affine)
    there = onto(truth.astype(np.uint8), whole, fine, classes=3)
    again = onto(there if classes else (there > 0) * np.float32(1), fine, whole, classes=classes)
    for value in (1, 2) if classes else (1,):
        a, b = (again == value, truth == value) if classes else (again > 0.5, truth > 0)
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.95


@pytest.mark.parametrize("units", ["mm", "meter", "unknown"])
def test_contract_a_nifti_keeps_its_geometry_to_the_last_bit(tmp_path, units):
    array = np.random.default_rng(0).integers(0, 100, (5, 7, 4)).astype(np.int16)
    image = nib.Nifti1Image(array, oblique("ASL", (0.7, 1.3, 4.0)))
    image.header.set_xyzt_units(units)
    image.header["descrip"] = b"Jane Doe"
    nib.save(image, tmp_path / "a.nii.gz")
    seen = read_volume(tmp_path / "a.nii.gz")
    grid = source_grid(
        Record(path=tmp_path / "a.nii.gz", relative="a"),
        Grid(shape=seen.array.shape[1:], affine=seen.affine),
        unchanged=True,
    )
    back = onto(seen.array[0], Grid(shape=seen.array.shape[1:], affine=seen.affine), grid)
    write_mask(tmp_path / "m.nii.gz", back, grid)
    found = nib.load(tmp_path / "m.nii.gz")
    assert np.array_equal(found.affine, nib.load(tmp_path / "a.nii.gz").affine)
    assert np.array_equal(np.asarray(found.dataobj), array)
    assert found.header.get_xyzt_units()[0] == units
    assert b"Jane" not in found.header.binaryblock


def test_contract_probabilities_read_back_as_probabilities(tmp_path):
    shares = np.random.default_rng(0).random((4, 5, 3, 2))
    grid = Grid(shape=(4, 5, 3), affine=np.diag([1.0, 2.0, 3.0, 1]))
    write_probabilities(tmp_path / "p.nii.gz", np.rint(shares * 65535).astype(np.uint16), grid)
    assert nib.load(tmp_path / "p.nii.gz").get_fdata() == pytest.approx(shares, abs=1e-5)
