"""Files of a cache: both formats, whole or absent; estimates and full disks."""

import errno
import math
import resource
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from tests.data.conftest import prepared, write_volume

from foveate.core.types import FoveateError, Record
from foveate.data.cache import estimate, store
from foveate.data.cache.index import VOLUMES, read_entries
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.sources.folder import FolderSource


def test_blosc2_holds_the_same_voxels(scans, tmp_path):
    plain, small = (
        prepared(scans, tmp_path / kind, PrepareConfig(format=kind)) for kind in ("npy", "blosc2")
    )
    assert plain.data_hash == small.data_hash
    assert [v.entry.file.rpartition(".")[2] for v in small] == ["b2nd"] * 5
    for one, other in zip(plain, small, strict=True):
        window = ((1, 2, 3), (8, 9, 5))
        np.testing.assert_array_equal(one.read(*window), other.read(*window))
        assert (other.folder / other.entry.file).stat().st_size == other.entry.file_bytes


def test_a_missing_blosc2_is_said_at_once(scans, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "blosc2", None)
    with pytest.raises(FoveateError, match=r"pip install 'foveate\[blosc2\]'"):
        prepared(scans, tmp_path / "cache", PrepareConfig(format="blosc2"))
    assert not (tmp_path / "cache").exists()


def test_a_damaged_file_is_named(scans, tmp_path):
    volume = prepared(scans, tmp_path / "cache", PrepareConfig(format="blosc2"))[0]
    path = volume.folder / volume.entry.file
    path.write_bytes(b"x" * volume.entry.file_bytes)
    store.open_array.cache_clear()
    with pytest.raises(FoveateError, match=f"{path.name} cannot be opened"):
        volume.read((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("spacing", ["native", (2.0, 2.0, 2.5)])
def test_the_estimate_is_near_what_is_written(scans, tmp_path, spacing):
    config = PrepareConfig(spacing_mm=spacing)
    images = [record for record in FolderSource().records(scans) if record.role == "image"]
    prepared(scans, tmp_path / "cache", config)
    written = sum(path.stat().st_size for path in (tmp_path / "cache" / VOLUMES).iterdir())
    headers = 128 * len(images)
    guess = estimate.estimated_bytes(images, config)
    assert guess == pytest.approx(written - headers, rel=0.02 if spacing == "native" else 0.25)


def test_the_estimate_reads_a_sample_of_many_headers(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(tmp_path / "a.png")
    read = []
    original = estimate._voxels
    monkeypatch.setattr(estimate, "_voxels", lambda *given: read.append(1) or original(*given))
    images = [Record(path=tmp_path / "a.png", relative=str(i)) for i in range(1000)]
    assert estimate.estimated_bytes(images, PrepareConfig()) == 1000 * 600 * 2
    assert len(read) <= estimate.SAMPLE
    assert estimate.estimated_bytes([], PrepareConfig()) == 0


def test_what_is_not_read_here_counts_by_its_files(tmp_path):
    parts = [tmp_path / f"{i}.dcm" for i in range(3)]
    for part in parts:
        part.write_bytes(b"x" * 100)
    series = Record(path=parts[0], relative="s", files=tuple(parts))
    assert estimate.estimated_bytes([series], PrepareConfig()) == 1200


def test_a_cache_that_cannot_fit_is_refused_before_anything_is_decoded(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(FoveateError, match=r"needs about 1 MiB, and the disk of .* has 1 MiB free.*blosc2"):
        prepared(scans, tmp_path / "cache")
    assert list((tmp_path / "cache" / VOLUMES).iterdir()) == []


@contextmanager
def largest_file(size):
    """The system refuses larger files, as `ulimit -f` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_real_limit_on_file_size_leaves_a_consistent_cache(tmp_path):
    """A file that may not grow any further: what was done is kept, nothing is half there."""
    for number, shape in enumerate([(9, 10, 11), (50, 40, 30), (8, 8, 8)]):
        write_volume(tmp_path / "in" / f"{number}.nii.gz", number, shape=shape)
    with largest_file(60_000), pytest.raises(FoveateError, match="limit on the size of a file"):
        prepared(tmp_path / "in", tmp_path / "cache")
    files = sorted((tmp_path / "cache" / VOLUMES).iterdir())
    entries = read_entries(tmp_path / "cache")
    assert [path.name for path in files] == [Path(e.file).name for e in entries.values()]
    assert len(entries) == 1
    cache = prepared(tmp_path / "in", tmp_path / "cache")
    assert [math.prod(volume.shape) for volume in cache] == [990, 60000, 512]


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_the_estimate_knows_the_grid_of_metaimage_and_nrrd(tmp_path, suffix):
    values = np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), tmp_path / f"a{suffix}")
    records = [r for r in FolderSource().records(tmp_path) if r.role == "image"]
    assert estimate.estimated_bytes(records, PrepareConfig()) == 2 * values.size
    if suffix in (".mha", ".mhd"):  # NRRD says directions, not distances
        coarse = PrepareConfig(spacing_mm=(2.0, 2.0, 2.0))
        assert estimate.estimated_bytes(records, coarse) == 2 * values.size / 8


def test_a_cache_that_cannot_be_written_is_a_paragraph_wherever_it_is_met(tmp_path):
    for code, words in ((errno.EROFS, "cannot be written"), (errno.ENOSPC, "is full")):
        with pytest.raises(FoveateError, match=words), store.disk_errors(tmp_path):
            raise OSError(code, "x")


@pytest.mark.parametrize("number", [0, 3, 6])
def test_the_pages_that_are_asked_for_hold_the_plane(tmp_path, number):
    array = np.random.default_rng(0).integers(-999, 999, (1, 190, 180, 7), dtype=np.int16)
    path = tmp_path / "thick.npy"
    store.write_array(path, array, (2, 0, 1))
    mapped = store.open_array(path, str(number))
    window = np.asarray(mapped[:, number : number + 1])
    held, start, length = store.pages_of(window)
    assert window.nbytes in range(store.ANNOUNCED, length + 1)
    assert held[start : start + length].endswith(array[0, :, :, number].tobytes())
    low, high = (0, 0, number), (190, 180, number + 1)
    seen = store.read_window(mapped, (2, 0, 1), low, high, channels=True)
    assert np.array_equal(seen, array[..., number : number + 1])
    assert store.pages_of(array) is None
