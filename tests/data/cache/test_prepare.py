"""Preparing: exact, resumable, anonymous, and clear about what it leaves out."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from tests.data.conftest import PATIENT, prepared, write_volume

from foveate.core.types import FoveateError, Record
from foveate.data import salts
from foveate.data.cache import index, prepare as prepare_module, store
from foveate.data.cache.index import INDEX, REJECTS, VOLUMES
from foveate.data.cache.prepare import cache_folder, prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.salts import read_salt
from foveate.data.sources.folder import FolderSource


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded, in order."""
    names: list[str] = []
    original = prepare_module.decode

    def spy(record: Record, *reading):
        names.append(record.path.name)
        return original(record, *reading)

    monkeypatch.setattr(prepare_module, "decode", spy)
    return names


def whole(volume):
    return volume.read([0] * len(volume.shape), volume.shape)


def test_integers_are_stored_exactly_and_labels_left_out(scans, tmp_path):
    cache = prepared(scans, tmp_path / "cache")
    assert [volume.relative for volume in cache] == [f"{PATIENT}_scan_{n}.nii.gz" for n in range(5)]
    for volume in cache:
        source = np.asarray(nib.load(scans / volume.relative).dataobj)
        stored = volume.codes((0, 0, 0), volume.shape).array
        np.testing.assert_array_equal(stored[0], source)
        assert (stored.dtype, volume.entry.scale, volume.entry.offset) == (np.int16, 1.0, 0.0)
        assert volume.entry.low == np.percentile(source, 0.5, method="lower")
        assert volume.entry.high == np.percentile(source, 99.5, method="lower")
        assert (volume.entry.minimum, volume.entry.maximum) == (source.min(), source.max())
        assert volume.entry.mean == pytest.approx(source.mean())
        assert volume.spacing_mm == (1.0, 1.0, 2.5)


def test_range_window_is_the_same_for_all(scans, tmp_path):
    config = PrepareConfig(window="range", intensity_range=(-1000.0, 1000.0))
    volume = prepared(scans, tmp_path / "cache", config)[0]
    source = np.asarray(nib.load(scans / volume.relative).dataobj, dtype=np.float64)
    np.testing.assert_allclose(whole(volume)[0], np.clip((source + 1000) / 2000, 0, 1), atol=1e-6)


def test_second_run_decodes_nothing_and_a_changed_source_is_redone(scans, tmp_path, decoded):
    first = prepared(scans, tmp_path / "cache")
    decoded.clear()
    again = prepared(scans, tmp_path / "cache")
    assert (decoded, again.data_hash) == ([], first.data_hash)
    assert not np.array_equal(whole(again[3]), whole(again[4]))
    write_volume(scans / f"{PATIENT}_scan_3.nii.gz", 4)  # now equal to the next one
    os.utime(scans / f"{PATIENT}_scan_3.nii.gz", ns=(1, 1))
    changed = prepared(scans, tmp_path / "cache")
    assert decoded == [f"{PATIENT}_scan_3.nii.gz"]
    assert changed.data_hash != first.data_hash
    np.testing.assert_array_equal(whole(changed[3]), whole(changed[4]))


def test_volumes_that_left_the_folder_are_not_used(scans, tmp_path):
    prepared(scans, tmp_path / "cache")
    (scans / f"{PATIENT}_scan_1.nii.gz").unlink()
    cache = prepared(scans, tmp_path / "cache")
    assert [volume.relative[-8] for volume in cache] == ["0", "2", "3", "4"]


def test_killed_run_goes_on_where_it_was(scans, tmp_path, decoded):
    folder = tmp_path / "cache"
    reference = prepared(scans, folder).data_hash
    lines = (folder / INDEX).read_bytes().splitlines(keepends=True)
    (folder / INDEX).write_bytes(b"".join(lines[:3]) + lines[3][:50])  # killed inside the fourth line
    stray = folder / VOLUMES / "0123.npy.1.tmp"
    stray.write_bytes(b"half a volume")
    above = folder / "complete.json.1.tmp"
    above.write_bytes(b"[")
    for each in (stray, above):
        os.utime(each, (1, 1))
    decoded.clear()
    assert prepared(scans, folder).data_hash == reference
    assert decoded == [f"{PATIENT}_scan_{n}.nii.gz" for n in (3, 4)]
    assert not stray.exists()
    assert not above.exists()
    decoded.clear()
    assert prepared(scans, folder).data_hash == reference  # the broken line broke no later one
    assert decoded == []


def test_volume_file_that_was_cut_is_redone(scans, tmp_path, decoded):
    cache = prepared(scans, tmp_path / "cache")
    path = cache[2].folder / cache[2].entry.file
    path.write_bytes(path.read_bytes()[:-10])
    decoded.clear()
    assert prepared(scans, tmp_path / "cache").data_hash == cache.data_hash
    assert decoded == [f"{PATIENT}_scan_2.nii.gz"]


def test_nothing_of_a_name_reaches_the_disk(scans, tmp_path):
    (scans / f"{PATIENT}_broken.nii.gz").write_bytes(b"x")
    config = PrepareConfig()
    folder = cache_folder(tmp_path, scans, config)
    cache = prepared(scans, folder, config)
    produced = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in produced} >= {INDEX, REJECTS, salts.SALT_ID}
    for path in produced:
        content = path.read_bytes().lower() + str(path.relative_to(tmp_path)).encode().lower()
        for secret in (PATIENT, "scan_", ".nii", str(tmp_path)):
            assert secret.lower().encode() not in content, path
    assert PATIENT not in repr(list(cache))


def test_ids_depend_on_the_salt_and_the_data_hash_does_not(scans, tmp_path):
    one, two = prepared(scans, tmp_path / "one"), prepared(scans, tmp_path / "two", num_workers=2)
    assert {volume.entry.id for volume in one}.isdisjoint(volume.entry.id for volume in two)
    assert one.data_hash == two.data_hash
    scans.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / f"{PATIENT}_scan_0.nii.gz").rename(tmp_path / "elsewhere" / "z.nii.gz")
    assert prepared(tmp_path / "elsewhere", tmp_path / "three").data_hash == one.data_hash


def test_rejects_are_returned_with_names_and_stored_without(scans, tmp_path):
    write_volume(scans / "sub" / "4d.nii.gz", 0, shape=(4, 4, 4, 2))
    cache = prepared(scans, tmp_path / "cache")
    assert [reject.relative for reject in cache.rejects] == ["sub/4d.nii.gz"]
    assert "4D" in cache.rejects[0].reason
    stored = [json.loads(line) for line in (tmp_path / "cache" / REJECTS).read_text().splitlines()]
    assert [set(line) for line in stored] == [{"id", "reason"}]
    (scans / "sub" / "4d.nii.gz").unlink()
    assert prepared(scans, tmp_path / "cache").rejects == ()
    assert (tmp_path / "cache" / REJECTS).read_text() == ""


def test_no_image_left_gives_the_first_reasons(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(
        FoveateError, match=r"None of the 5 images.*0\.png: the file is empty; .*2\.png"
    ) as caught:
        prepared(tmp_path, tmp_path / "cache")
    assert "3.png" not in str(caught.value)


def test_mostly_background_is_refused_by_percentiles(tmp_path):
    rows = np.zeros((40, 40), np.uint8)
    rows[0, 0] = 255
    Image.fromarray(rows).save(tmp_path / "a.png")
    with pytest.raises(FoveateError, match=r"nearly all of it is background"):
        prepared(tmp_path, tmp_path / "cache")
    ranged = PrepareConfig(window="range", intensity_range=(0.0, 255.0))
    assert len(prepared(tmp_path, tmp_path / "other", ranged)) == 1


def test_range_without_any_voxel_is_refused(scans, tmp_path):
    config = PrepareConfig(window="range", intensity_range=(5000.0, 6000.0))
    with pytest.raises(FoveateError, match="outside intensity_range"):
        prepared(scans, tmp_path / "cache", config)


def test_full_disk_is_a_paragraph_and_leaves_a_usable_cache(scans, tmp_path, monkeypatch, decoded):
    original, written = store.replace_file, []

    def full_after_two_volumes(path, write):
        if path.suffix == ".npy":
            written.append(path)
            if len(written) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        original(path, write)

    monkeypatch.setattr(store, "replace_file", full_after_two_volumes)
    with pytest.raises(FoveateError, match=r"disk of the cache .* is full"):
        prepared(scans, tmp_path / "cache")
    decoded.clear()
    assert len(prepared(scans, tmp_path / "cache")) == 5
    assert decoded == [f"{PATIENT}_scan_{n}.nii.gz" for n in (2, 3, 4)]


def test_another_config_is_another_folder(scans, tmp_path):
    config = PrepareConfig()
    other = replace(config, window="percentiles", percentiles=(1.0, 99.0))
    folder = cache_folder(tmp_path, scans, config)
    assert folder.parent == tmp_path / "foveate-cache"
    assert len(folder.name) == 12
    assert folder != cache_folder(tmp_path, scans, other)
    assert folder != cache_folder(tmp_path, scans / "labels", config)
    prepared(scans, folder, config)
    with pytest.raises(FoveateError, match=r"made otherwise .*percentiles"):
        prepared(scans, folder, other)


@pytest.mark.parametrize("values", [(99.0, 1.0), (-1.0, 50.0), (0.0, 101.0)])
def test_impossible_percentiles_are_refused(values):
    with pytest.raises(FoveateError, match=r"prepare\.percentiles"):
        PrepareConfig(percentiles=values)


def test_progress_counts_every_image_once(scans, tmp_path):
    calls: list[tuple[int, int]] = []
    records = FolderSource().records(scans)
    prepare(records, tmp_path / "cache", PrepareConfig(), lambda done, total: calls.append((done, total)))
    assert calls == [(done, 5) for done in range(6)]


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_voxels_beside_their_header_are_watched(tmp_path, suffix):
    def write(seed):
        values = np.random.default_rng(seed).normal(100, 30, (8, 9, 10)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(values), tmp_path / f"scans/a{suffix}")

    (tmp_path / "scans").mkdir()
    write(1)
    header = (tmp_path / f"scans/a{suffix}").stat()
    first = whole(prepared(tmp_path / "scans", tmp_path / "cache")[0])
    write(2)
    os.utime(tmp_path / f"scans/a{suffix}", ns=(header.st_atime_ns, header.st_mtime_ns))
    second = whole(prepared(tmp_path / "scans", tmp_path / "cache")[0])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, whole(prepared(tmp_path / "scans", tmp_path / "fresh")[0]))


def test_one_of_several_files_that_changed_is_seen_behind_newer_ones(tmp_path, decoded):
    paths = tuple(tmp_path / f"scan_{n}.nii" for n in range(3))  # of equal sizes
    for n, path in enumerate(paths):
        write_volume(path, n)
    record = Record(path=paths[0], relative="case", channels=paths)

    def made():
        return whole(prepare([record], tmp_path / "cache", PrepareConfig(), lambda *_: None)[0])

    first = made()
    assert len(decoded) == 3
    write_volume(paths[1], 77)
    os.utime(paths[1], ns=(1, 1))  # as rsync -a and cp -p bring it
    assert not np.array_equal(first, made())
    made()
    assert len(decoded) == 6


@pytest.mark.parametrize("links", [True, False])
def test_two_runs_that_prepare_one_cache_at_once_do_not_stop_each_other(scans, tmp_path, monkeypatch, links):
    """A temporary file of the other is seen and gone again; of two salts both take the first."""
    folder = tmp_path / "cache"
    (folder / VOLUMES).mkdir(parents=True)
    (folder / VOLUMES / "seen.tmp").symlink_to(folder / "gone")
    create, others = salts.create_file, []

    def late(path, content):
        if not others:
            others.append(None)
            others.append(read_salt(folder))  # between our look and our writing
        create(path, content)

    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(salts, "create_file", late)
    if not links:
        monkeypatch.setattr(index.Path, "hardlink_to", refuse)
    cache = prepared(scans, folder)
    assert others[1] == read_salt(folder)
    assert len(cache) == len(prepared(scans, folder)) == 5
    assert [path.name for path in folder.rglob("*.tmp")] == ["seen.tmp"]
