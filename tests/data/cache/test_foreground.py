"""The window of the foreground: every channel's own mean and deviation, against slow NumPy."""

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.data.conftest import prepared

from foveate.core.types import FoveateError
from foveate.data.cache.index import as_line, parse
from foveate.data.cache.profiles import PrepareConfig
from foveate.views.pipeline import normalise

FOREGROUND = PrepareConfig(window="foreground", fourth_axis="channels")


def otsu(values):
    """By trying every threshold."""
    best, found = -1.0, values.min()
    for threshold in np.unique(values)[:-1]:
        low, high = values[values <= threshold], values[values > threshold]
        between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if between > best * (1 + 1e-12):
            best, found = between, threshold
    return found


def z_scores(array):
    """By the foreground of every channel (C, *S), 7 deviations below to 3 above."""
    rows = []
    for channel in array.astype(np.float64):
        bright = channel[channel > otsu(channel.ravel())]
        rows.append(((channel - bright.mean()) / bright.std()).clip(-7, 3))
    return np.stack(rows)


def scan(folder, channels, shape=(24, 20, 16)):
    """Noise of few values with a bright box; each channel has other units. The values (C, *S)."""
    rng = np.random.default_rng(channels)
    found = []
    for k in range(channels):
        values = rng.integers(0, 12, shape)
        values[4:12, 4:12, 4:12] += rng.integers(60, 90, (8, 8, 8))
        found.append(values * 10**k + 5 * k)
    array = np.stack(found)
    folder.mkdir()
    nib.save(
        nib.Nifti1Image(np.moveaxis(array, 0, -1).astype(np.int16).squeeze(), np.eye(4)), folder / "a.nii"
    )
    return array


@pytest.mark.parametrize("channels", [1, 3])
def test_every_channel_is_standardised_by_its_own_foreground(tmp_path, channels):
    array = scan(tmp_path / "scans", channels)
    (volume,) = prepared(tmp_path / "scans", tmp_path / "cache", FOREGROUND)
    whole = volume.read((0, 0, 0), volume.shape)
    seen = normalise(torch.from_numpy(whole)[None], "image")[0].numpy()
    np.testing.assert_allclose(seen, z_scores(array), atol=2e-4)
    assert parse(as_line(volume.entry)) == volume.entry


@pytest.mark.parametrize("channels", [1, 3])
def test_windows_read_as_the_whole_does_also_where_they_are_mostly_background(tmp_path, channels):
    scan(tmp_path / "scans", channels)
    (volume,) = prepared(tmp_path / "scans", tmp_path / "cache", FOREGROUND)
    whole = volume.read((0, 0, 0), volume.shape)
    low, high = (11, 11, 11), (24, 20, 16)  # one voxel of the box in its corner
    window = volume.read(low, high)
    np.testing.assert_array_equal(window, whole[(slice(None), *map(slice, low, high))])
    apart = [normalise(torch.from_numpy(x)[None], "image")[0] for x in (whole, window)]
    assert float(apart[1].median()) < -2  # background stays background
    by_window = normalise(torch.from_numpy(window)[None], "zscore")
    assert abs(float(by_window.median())) < 1  # which a z-score of the window forgets


def test_a_channel_of_one_value_reads_as_the_mean(tmp_path):
    array = np.zeros((8, 8, 8, 2), np.int16)
    array[..., 1] = np.random.default_rng(0).normal(100, 30, (8, 8, 8))
    (tmp_path / "some").mkdir()
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "some" / "a.nii")
    (volume,) = prepared(tmp_path / "some", tmp_path / "cache", FOREGROUND)
    values = normalise(torch.from_numpy(volume.read((0, 0, 0), volume.shape))[None], "image")[0]
    assert values[0].abs().max() < 1e-5


def test_the_window_of_a_data_set_needs_labels(tmp_path):
    scan(tmp_path / "scans", 1)
    with pytest.raises(FoveateError, match=r"prepare\.window dataset: accepted in `finetune`"):
        prepared(tmp_path / "scans", tmp_path / "cache", PrepareConfig(window="dataset"))
