"""Slices of a cached volume against a loop over the whole array."""

from __future__ import annotations

import pickle

import nibabel as nib
import numpy as np
import pytest
from tests.data.conftest import prepared

from foveate.core.contracts import DerivedSpec
from foveate.core.types import FoveateError, Record
from foveate.data.cache.derived import with_derived
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.superpixels import SuperpixelConfig, superpixels

SHAPE = (9, 8, 7)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Two volumes of two channels each with a label map, cached."""
    root = tmp_path_factory.mktemp("slices")
    rng, records = np.random.default_rng(0), []
    for name in "ab":
        image, labels = rng.integers(0, 900, (*SHAPE, 2)), rng.integers(0, 3, SHAPE)
        files = []
        for c in range(2):
            files.append(root / f"{name}_{c}.nii.gz")
            nib.save(nib.Nifti1Image(image[..., c].astype(np.int16), np.diag([1, 2, 3, 1])), files[-1])
        truth = root / f"{name}_map.nii.gz"
        nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.diag([1, 2, 3, 1])), truth)
        records.append(Record(path=files[0], relative=name, channels=tuple(files), maps={"labels": truth}))
    return prepare(records, root / "cache", PrepareConfig(), lambda _done, _total: None)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("neighbours", [0, 2])
def test_a_slice_is_that_of_the_array(labelled, axis, neighbours):
    volume = labelled.sliced(SlicesConfig(axis=axis, neighbours=neighbours))[1]
    whole, at = volume.read([0] * 3, SHAPE), "xyz".index(axis)
    truth = volume.read_map("labels", [0] * 3, SHAPE)
    low, high = [1, 2], [6, 7]
    assert len(volume.planes) == SHAPE[at]
    assert volume.channels == 2 * (2 * neighbours + 1)
    for i in range(SHAPE[at]):
        plane = volume.planes[i]
        assert plane.shape == volume.view_shape == tuple(n for a, n in enumerate(SHAPE) if a != at)
        assert plane.spacing_mm == tuple(mm for a, mm in enumerate((1.0, 2.0, 3.0)) if a != at)
        wanted = [
            np.take(whole[c], min(max(i + j, 0), SHAPE[at] - 1), axis=at)[1:6, 2:7]
            for c in range(2)
            for j in range(-neighbours, neighbours + 1)
        ]
        np.testing.assert_array_equal(plane.read(low, high), np.stack(wanted))
        np.testing.assert_array_equal(plane.read_map("labels", low, high), truth.take(i, at)[1:6, 2:7])
        for value, *voxel in plane.places("labels").tolist():
            assert truth.take(i, at)[tuple(voxel)] == value
    places = [len(volume.planes[i].places("labels")) for i in range(SHAPE[at])]
    assert sum(places) == len(volume.places("labels")) > 0
    with pytest.raises(IndexError):
        volume.planes[SHAPE[at]]


def test_auto_takes_the_longest_side_and_z_where_sides_are_alike(labelled):
    cut = [SlicesConfig().cut(mm).axis for mm in ((1, 1, 5), (5, 1, 1), (1, 4, 1), (1, 1, 1), (1.004, 1, 1))]
    assert cut == [2, 0, 1, 2, 2]
    assert [volume.cut.axis for volume in labelled.sliced(SlicesConfig())] == [2, 2]
    with pytest.raises(FoveateError, match=r"slices\.neighbours -1: accepted are 0 to"):
        SlicesConfig(neighbours=-1)


def test_a_cut_volume_stays_one_when_it_is_sent_and_relabelled(labelled):
    volume = labelled.sliced(SlicesConfig(axis="x", neighbours=1))[0]
    sent = pickle.loads(pickle.dumps(volume.replaced(labels={"age": 3.0})))
    assert (sent.cut, sent.labels) == (volume.cut, {"age": 3.0})
    np.testing.assert_array_equal(sent.planes[4].read([0, 0], [8, 7]), volume.planes[4].read([0, 0], [8, 7]))


def test_superpixels_of_slices_are_those_of_each_slice_and_share_no_number(tmp_path):
    image = np.zeros((24, 20, 5))
    image[2:20, 3:17] = 300 + 60 * np.arange(5)
    image[8:14, 6:12, 1:4] = 900
    image += np.random.default_rng(0).integers(0, 9, image.shape)
    nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([1, 1, 4, 1])), tmp_path / "a.nii.gz")
    cache = prepared(tmp_path, tmp_path / "cache").sliced(SlicesConfig())
    how = SuperpixelConfig.preset(2)
    spec = DerivedSpec(compute=superpixels, config=how, fewest=2)
    volume = with_derived(cache, {"s": spec}, lambda _done, _total: None)[0]
    assert volume.cut == cache[0].cut
    seen: set[int] = set()
    for i in range(5):
        plane = volume.planes[i]
        found = plane.read_map("s", [0, 0], plane.shape)
        alone = superpixels(plane.read([0, 0], plane.shape), plane.spacing_mm, how)
        numbers = set(found[found > 0].tolist())
        assert not numbers & seen
        seen |= numbers
        pairs = set(zip(found.ravel().tolist(), alone.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(found)) == len(np.unique(alone)) > 1  # the same regions
    across = cache.sliced(SlicesConfig(axis="x"))
    other = with_derived(across, {"s": spec}, lambda _done, _total: None)[0]
    assert other.entry.maps[0].file != volume.entry.maps[0].file
