"""Profiles: which values read as 0 and 1, by modality and by hand."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from tests.data.conftest import write_volume

from foveate.core.types import FoveateError
from foveate.data.cache.encoding import encode, histogram
from foveate.data.cache.index import INDEX
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import (
    WINDOWS,
    PrepareConfig,
    UnusableError,
    profile_of,
    window_values,
)
from foveate.data.sources.folder import FolderSource


@pytest.mark.parametrize(
    ("modality", "profile"),
    [("CT", "ct"), ("ct", "ct"), ("MR", "mr"), ("PT", "pet"), ("DX", "xray"), ("US", "us"), ("", "generic")],
)
def test_the_header_decides_unless_a_profile_is_given(modality, profile):
    assert profile_of(modality, PrepareConfig()) == profile
    assert profile_of(modality, PrepareConfig(profile="us")) == "us"


def test_unknown_modalities_are_generic_and_generic_is_the_old_default():
    assert profile_of("SC", PrepareConfig()) == "generic"
    assert (WINDOWS["generic"].kind, WINDOWS["generic"].ends) == ("percentiles", (0.5, 99.5))


def counts_of(values):
    return histogram(encode(np.asarray(values, np.int16).reshape(1, -1)))


def test_windows_of_the_profiles():
    values = np.arange(-1200, 2801)  # 4001 values: percentile p is value -1200 + 40 p
    config, counts = PrepareConfig(), counts_of(values)
    assert window_values(counts, "ct", config) == (-1000.0, 1000.0)
    assert window_values(counts, "mr", config) == (-1180.0, 2780.0)
    assert window_values(counts, "pet", config) == (-1200.0, 2796.0)
    by_hand = replace(config, window="percentiles", percentiles=(10.0, 90.0))
    assert window_values(counts, "ct", by_hand) == (-800.0, 2400.0)
    fixed = replace(config, window="range", intensity_range=(-200.0, 200.0))
    assert window_values(counts, "mr", fixed) == (-200.0, 200.0)
    with pytest.raises(UnusableError, match="outside the ct profile's window -1000 to 1000"):
        window_values(counts_of([1500, 1600]), "ct", config)
    with pytest.raises(UnusableError, match=r"0 to 1 take up less than 1% of the ct.*profile generic"):
        window_values(counts_of([0, 0, 1]), "ct", config)  # would read as constant
    assert window_values(counts_of([0, 80]), "ct", config) == (-1000.0, 1000.0)  # a brain without its skull


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"percentiles": (1.0, 99.0)}, "only `prepare.window: percentiles` reads"),
        ({"intensity_range": (0.0, 9.0)}, "only `prepare.window: range` reads"),
        ({"window": "percentiles", "intensity_range": (0.0, 9.0)}, "window is percentiles"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm"),
        ({"foreground_threshold": 1.0}, "foreground_threshold"),
    ],
)
def test_options_that_nothing_would_read_are_refused(keys, said):
    with pytest.raises(FoveateError, match=said):
        PrepareConfig(**keys)


def test_every_item_gets_its_own_profile_and_its_statistics(scans, tmp_path):
    records = list(FolderSource().records(scans))
    records = [replace(record, modality="CT" if i % 2 else "PT") for i, record in enumerate(records)]
    cache = prepare(records, tmp_path / "cache", PrepareConfig(), lambda *_: None)
    assert {volume.entry.profile for volume in cache} == {"ct", "pet"}
    for volume in cache:
        entry = volume.entry
        source = np.asarray(nib.load(scans / volume.relative).dataobj)
        assert (entry.low, entry.high) == (
            (-1000.0, 1000.0)
            if entry.profile == "ct"
            else (source.min(), np.percentile(source, 99.9, method="lower"))
        )
        assert entry.std == pytest.approx(source.std())  # stored, not baked in: the codes are the source's
        np.testing.assert_array_equal(volume.codes((0, 0, 0), volume.shape).array[0], source)
    lines = [json.loads(line) for line in (tmp_path / "cache" / INDEX).read_text().splitlines()]
    assert {line["profile"] for line in lines} == {"ct", "pet"}


def test_foreground_crop_keeps_the_place(tmp_path):
    values = np.zeros((40, 30, 20), np.int16)
    values[10:25, 8:20, 5:15] = np.random.default_rng(0).integers(400, 900, (15, 12, 10))
    values[2, 2, 2] = 800  # a single bright voxel is noise
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "in" / "a.nii.gz")
    config = PrepareConfig(foreground="crop", window="range", intensity_range=(0.0, 1000.0))
    volume = prepare(FolderSource().records(tmp_path / "in"), tmp_path / "cache", config, lambda *_: None)[0]
    assert volume.shape == (23, 20, 18)  # four voxels of margin
    assert np.array(volume.entry.affine)[:3, 3].tolist() == [6.0, 8.0, 3.0]
    np.testing.assert_array_equal(volume.codes((0, 0, 0), volume.shape).array[0], values[6:29, 4:24, 1:19])
    config = replace(config, foreground_threshold=0.95)
    with pytest.raises(FoveateError, match="nothing in it is foreground"):
        prepare(FolderSource().records(tmp_path / "in"), tmp_path / "other", config, lambda *_: None)


def test_spacing_of_another_number_of_axes_is_a_reject(tmp_path):
    write_volume(tmp_path / "in" / "a.nii.gz", 0)
    config = PrepareConfig(spacing_mm=(1.0, 1.0))
    with pytest.raises(FoveateError, match="spacing_mm has 2 numbers, and it has 3 axes"):
        prepare(FolderSource().records(tmp_path / "in"), tmp_path / "cache", config, lambda *_: None)
