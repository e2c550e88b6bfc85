"""The format of a cache: how images lie in it, and what an earlier version wrote."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import permutations

import nibabel as nib
import numpy as np
import pytest
from tests.data.conftest import PATIENT, prepared

from foveate.core.types import FoveateError, Record
from foveate.data.cache import store
from foveate.data.cache.complete import TABLE
from foveate.data.cache.index import INDEX, PROFILE, read_entries
from foveate.data.cache.prepare import claim, prepare
from foveate.data.cache.profiles import PrepareConfig, as_json, from_json
from foveate.data.cache.volumes import open_prepared


def labelled(folder, spacing, patient=""):
    """An image of two channels with a map, both of noise."""
    values = np.random.default_rng(0).integers(-900, 900, (5, 6, 7)).astype(np.int16)
    for name, array in (("a", values), ("b", values[::-1]), ("labels", values % 3)):
        nib.save(nib.Nifti1Image(array.astype(np.int16), np.diag([*spacing, 1.0])), folder / f"{name}.nii.gz")
    a, b, labels = (folder / f"{name}.nii.gz" for name in ("a", "b", "labels"))
    record = Record(path=a, relative="a.nii.gz", patient=patient, channels=(a, b), maps={"labels": labels})
    return record, np.stack([values, values[::-1]]), values % 3


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 4.0), (4.0, 1.0, 1.0), (1.0, 4.0, 1.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("kind", ["npy", "blosc2"])
def test_windows_do_not_depend_on_how_images_are_stored(tmp_path, spacing, kind):
    record, values, labels = labelled(tmp_path, spacing)
    volume = prepare([record], tmp_path / "cache", PrepareConfig(format=kind), lambda *_: None)[0]
    assert volume.shape == volume.place.extent == labels.shape
    assert volume.place.spacing_mm == spacing
    for low, high in (((0, 0, 0), (5, 6, 7)), ((1, 2, 3), (4, 4, 7)), ((2, 0, 6), (3, 6, 7))):
        here = tuple(map(slice, low, high))
        found = volume.codes(low, high)
        np.testing.assert_array_equal(
            found.array * volume.entry.scale + volume.entry.offset, values[:, *here]
        )
        np.testing.assert_array_equal(volume.read_map("labels", low, high), labels[here])
        wanted = (values[:, *here] - volume.entry.low) / (volume.entry.high - volume.entry.low)
        np.testing.assert_allclose(found.values(), wanted.clip(0, 1), atol=1e-6)
        np.testing.assert_allclose(found.addable().values(), wanted.clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 4.0), (4.0, 1.0, 1.0), (1.0, 4.0, 1.0)])
def test_a_plane_across_the_coarsest_axis_is_contiguous(tmp_path, spacing):
    record, _, _ = labelled(tmp_path, spacing)
    volume = prepare([record], tmp_path / "cache", PrepareConfig(), lambda *_: None)[0]
    axis = spacing.index(4.0)
    low, high = [0, 0, 0], list(volume.shape)
    low[axis], high[axis] = 2, 3
    plane = volume.codes(low, high).array[0]
    assert plane.squeeze(axis).flags.c_contiguous
    assert volume.read_map("labels", low, high).squeeze(axis).flags.c_contiguous


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_file_written_in_pieces_is_the_array(tmp_path, order, monkeypatch):
    monkeypatch.setattr(store, "PIECE_VOXELS", 50)
    array = np.random.default_rng(0).integers(-9, 9, (2, 5, 6, 7)).astype(np.int16)
    written = store.write_array(tmp_path / "a.npy", array, order)
    back = np.load(tmp_path / "a.npy")
    np.testing.assert_array_equal(back, array.transpose(0, *(1 + axis for axis in order)))
    assert written == ((tmp_path / "a.npy").stat().st_size, store.checksum_of(tmp_path / "a.npy"))
    store.write_array(tmp_path / "m.npy", array[0], order)
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), array[0].transpose(order))


def test_checksums_are_those_of_the_files(tmp_path):
    record, _, _ = labelled(tmp_path, (1.0, 1.0, 4.0))
    entry = prepare([record], tmp_path / "cache", PrepareConfig(), lambda *_: None)[0].entry
    (labels,) = entry.maps
    files = ((entry.file, entry.checksum), (labels.file, labels.checksum))
    for file, checksum in (*files, (labels.places, labels.places_checksum)):
        assert checksum == store.checksum_of(tmp_path / "cache" / file)


def test_patients_are_told_apart_and_not_named(tmp_path):
    cache = tmp_path / "cache"
    record, _, _ = labelled(tmp_path, (1.0, 1.0, 4.0))
    nobody = prepare([record], cache, PrepareConfig(), lambda *_: None)[0].entry
    record, _, _ = labelled(tmp_path, (1.0, 1.0, 4.0), PATIENT)
    first = prepare([record], cache, PrepareConfig(), lambda *_: None)[0].entry
    record, _, _ = labelled(tmp_path, (1.0, 1.0, 4.0), "another")
    second = prepare([record], cache, PrepareConfig(), lambda *_: None)[0].entry
    assert nobody.patient == ""
    assert len({nobody.patient, first.patient, second.patient}) == 3
    assert read_entries(cache)[second.id].patient == second.patient  # written down, not decoded again
    assert PATIENT not in (cache / INDEX).read_text()


def as_before(folder):
    """What the version before wrote: no field of the present format, nothing transposed."""
    lines = []
    for entry in read_entries(folder).values():
        values = {k: v for k, v in asdict(entry).items() if k not in NEW}
        values["maps"] = [{k: v for k, v in each.items() if k not in NEW} for each in values["maps"]]
        stored = np.load(folder / entry.file)
        np.save(folder / entry.file, np.ascontiguousarray(stored.transpose(0, 2, 3, 1)))
        lines.append(json.dumps(values) + "\n")
    (folder / INDEX).write_text("".join(lines))
    (folder / TABLE).unlink()
    (folder / PROFILE).write_text(as_json(PrepareConfig(), 4))


NEW = {"axes", "statistics", "checksum", "places_checksum", "patient"}


def test_a_cache_of_the_version_before_is_read_as_it_is(scans, tmp_path):
    folder = tmp_path / "cache"
    present = prepared(scans, folder)
    values = [volume.read((0, 0, 0), volume.shape) for volume in present]
    statistics = [volume.statistics for volume in present]
    as_before(folder)
    store.open_array.cache_clear()
    cache = open_prepared(folder)
    assert cache.data_hash == present.data_hash
    assert "earlier version (format 4)" in cache.notes[0]
    for volume, wanted, known in zip(cache, values, statistics, strict=True):
        assert volume.entry.statistics == ()
        assert volume.statistics == known
        np.testing.assert_array_equal(volume.read((0, 0, 0), volume.shape), wanted)


def test_a_cache_of_the_version_before_is_added_to(scans, tmp_path):
    folder = tmp_path / "cache"
    present = prepared(scans, folder)
    values = [volume.read((0, 0, 0), volume.shape) for volume in present]
    as_before(folder)
    store.open_array.cache_clear()
    (scans / f"{PATIENT}_scan_2.nii.gz").touch()
    again = prepared(scans, folder)
    assert "earlier version (format 4)" in again.notes[0]
    assert (
        json.loads((folder / PROFILE).read_text())["format_version"] == 5
    )  # that version must not read it now
    assert [bool(volume.entry.axes) for volume in again] == [False, False, True, False, False]
    for volume, wanted in zip(again, values, strict=True):
        np.testing.assert_array_equal(volume.read((0, 0, 0), volume.shape), wanted)
    assert not prepared(scans, folder).notes


def test_another_format_is_named(tmp_path):
    with pytest.raises(FoveateError, match="format 6; accepted are 4 and 5"):
        from_json(as_json(PrepareConfig(), 6), tmp_path)


@pytest.mark.parametrize("text", ['{"format_version": 5', "[5]", "{}", "[" * 9000])
def test_a_damaged_profile_is_named_by_all_that_read_it(tmp_path, text):
    for read in (lambda: from_json(text, tmp_path), lambda: claim(tmp_path, PrepareConfig())):
        (tmp_path / PROFILE).write_text(text)
        with pytest.raises(FoveateError, match=r"prepare\.json is damaged; put it back from a backup"):
            read()
