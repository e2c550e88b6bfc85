"""Files as channels: their order, their grid, their changes."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest

from foveate.core.types import Record
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.readers.channels import read_image
from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError


def write(path, seed, shape=(6, 7, 8), shift=0.0):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 3] = shift
    values = np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path, values


def read(record, _reading):
    return read_volume(record.path)


@pytest.fixture
def record(tmp_path):
    paths = tuple(write(tmp_path / f"c{i}.nii.gz", i)[0] for i in (2, 0, 1))
    return Record(path=paths[0], relative="c2.nii.gz", channels=paths)


def test_channels_come_in_their_order(record):
    volume = read_image(record, read)
    expected = [np.asarray(nib.load(path).dataobj) for path in record.channels]
    np.testing.assert_array_equal(volume.array, np.stack(expected))
    assert volume.spacing_mm == (1.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("change", "words"), [({"shape": (6, 7, 9)}, r"\(6, 7, 9\)"), ({"shift": 0.01}, "0.01 mm away")]
)
def test_a_channel_on_another_grid_is_refused_with_its_number(record, change, words):
    write(record.channels[2], 1, **change)
    with pytest.raises(UnreadableImageError, match=rf"its channel 2 .*{words}"):
        read_image(record, read)


def test_noise_in_a_header_is_no_other_grid(record):
    write(record.channels[2], 1, shift=1e-5)
    assert len(read_image(record, read).array) == 3


def test_a_changed_channel_is_prepared_again(record, tmp_path):
    def prepared():
        return prepare([record], tmp_path / "cache", PrepareConfig(), lambda *_: None)[0]

    first = prepared()
    assert first.channels == 3
    assert prepared().entry == first.entry
    path, values = write(record.channels[1], 7)
    os.utime(path, ns=(path.stat().st_mtime_ns + 10**9,) * 2)
    again = prepared()
    window = again.read((0, 0, 0), again.shape)[1]
    assert np.corrcoef(window.ravel(), values.ravel())[0, 1] > 0.99
    assert again.entry.voxel_hash != first.entry.voxel_hash
