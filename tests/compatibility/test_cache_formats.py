"""Caches of formats 4 and 5, as they were written, are read: voxels, maps, statistics, patients, checksums.

`cache_of_format_5.zip` has three noise volumes with a bright box and its label map, two of one patient.
Format 4 is in the archive of a whole project, `written_by_bdd70da.zip`.
"""

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from foveate.commands.prepare.verify import verify
from foveate.data.cache.complete import COMPLETE, TABLE, complete_entries
from foveate.data.cache.volumes import CachedVolume, open_prepared

HERE = Path(__file__).parent


def unpacked(name, folder):
    with zipfile.ZipFile(HERE / name) as archive:
        archive.extractall(folder)
    return folder / "cache"


@pytest.mark.parametrize("table", [True, False], ids=["with its table", "from its index"])
def test_format_5(tmp_path, table):
    folder = unpacked("cache_of_format_5.zip", tmp_path)
    if not table:
        (folder / TABLE).unlink()
    expected = json.loads((tmp_path / "expected.json").read_text())
    cache, entries = open_prepared(folder), list(complete_entries(folder))
    assert (cache.data_hash, cache.notes) == (expected["data_hash"], ())
    for i, (volume, entry) in enumerate(zip(cache, entries, strict=True)):
        np.testing.assert_allclose(volume.read((0, 0, 0), volume.shape), expected["images"][i], atol=1e-5)
        labels = CachedVolume(folder, entry).read_map("labels", (0, 0, 0), volume.shape)
        np.testing.assert_array_equal(labels, expected["maps"][i])
        (found,) = volume.statistics
        assert [found.whole.mean, found.foreground.mean, found.threshold] == expected["whole"][i]
    first, second, third = (entry.patient for entry in entries)
    assert first == second != third
    assert verify(folder, lambda *_: None) == 9


def test_format_4(tmp_path):
    folder = unpacked("written_by_bdd70da.zip", tmp_path)
    cache = open_prepared(folder)
    assert "made by an earlier version (format 4)" in cache.notes[0]
    sources = [np.asarray(nib.load(path).dataobj) for path in sorted((tmp_path / "images").iterdir())]
    assert len(cache) == len(sources) == len(json.loads((folder / COMPLETE).read_text()))
    for volume, source in zip(cache, sources, strict=True):
        entry = volume.entry
        values = volume.codes((0, 0, 0), volume.shape).array[0] * entry.scale + entry.offset
        np.testing.assert_allclose(values, source, atol=entry.scale)
        (found,) = volume.statistics
        assert found.whole.mean == pytest.approx(entry.mean) == pytest.approx(float(source.mean()), abs=1e-3)
        assert found.foreground.mean == pytest.approx(
            float(source[source > found.threshold].mean()), abs=1e-3
        )
    assert verify(folder, lambda *_: None) == 4
