"""Windows of a cached volume."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.data.conftest import prepared, write_volume

from foveate.core.types import FoveateError
from foveate.data.cache.store import OPEN_FILES, open_array
from foveate.data.cache.volumes import Cache, CachedVolume


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_window_is_the_slice_of_a_full_read(cache, data):
    volume = cache[data.draw(st.integers(0, 4))]
    full = volume.read((0, 0, 0), volume.shape)
    low = [data.draw(st.integers(0, size - 1)) for size in volume.shape]
    high = [data.draw(st.integers(start + 1, size)) for start, size in zip(low, volume.shape, strict=True)]
    window = volume.read(low, high)
    np.testing.assert_array_equal(window, full[(slice(None), *map(slice, low, high))])
    assert window.dtype == np.float32


def test_full_read_spans_zero_to_one(cache):
    full = cache[0].read((0, 0, 0), cache[0].shape)
    assert (full.min(), full.max()) == (0.0, 1.0)
    assert full.shape == (1, 9, 10, 11)
    full[:] = 0.5  # a copy: the map is read-only and shared


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((-1, 0, 0), (3, 3, 3)),
        ((0, 0, 0), (3, 3, 12)),
        ((3, 0, 0), (3, 3, 3)),
        ((0, 0), (3, 3)),
        ((0, 0, 0), (3, 3)),
    ],
)
def test_window_outside_is_an_error(cache, low, high):
    with pytest.raises(ValueError, match="leaves the volume"):
        cache[0].read(low, high)


def test_pickled_volume_reads_the_same_and_carries_no_voxels(cache):
    before = cache[0].read((0, 0, 0), (4, 4, 4))
    sent = pickle.dumps(cache[0])
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent).read((0, 0, 0), (4, 4, 4)), before)


def test_open_maps_are_limited(cache):
    open_array.cache_clear()
    for number in range(OPEN_FILES + 20):
        open_array(cache[0].folder / cache[0].entry.file, str(number))
    assert open_array.cache_info().currsize == OPEN_FILES == 64


def test_lost_file_is_named(cache):
    path = cache[1].folder / cache[1].entry.file
    path.unlink()
    with pytest.raises(FoveateError, match=path.name):
        cache[1].read((0, 0, 0), (1, 1, 1))


def test_mixed_axes_are_refused(cache, tmp_path):
    from dataclasses import replace

    flat = CachedVolume(cache[0].folder, replace(cache[0].entry, shape=(2, 9, 10, 11)), "two.nii")
    with pytest.raises(FoveateError, match=r"two\.nii"):
        Cache([cache[0], flat])


def test_float_sources_are_within_half_a_level(tmp_path):
    import nibabel as nib

    write_volume(tmp_path / "a.nii.gz", 5, np.float32)
    volume = prepared(tmp_path, tmp_path / "cache")[0]
    entry = volume.entry
    source = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj, dtype=np.float64)
    wanted = np.clip((source - entry.low) / (entry.high - entry.low), 0, 1)
    got = volume.read((0, 0, 0), volume.shape)[0]
    assert np.abs(got - wanted).max() <= 0.52 * entry.scale / (entry.high - entry.low) + 1e-6
    assert entry.scale < 0.05  # of a range of about 2000
