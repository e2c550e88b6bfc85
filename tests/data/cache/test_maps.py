"""Maps lie on their image, keep every value, follow every view, and are refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch

from foveate.core.types import CropSpec, FoveateError, Record
from foveate.data.cache.maps import PLACES_PER_VALUE, UnusableMapError, as_integers, places_of
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import open_prepared
from foveate.data.loader import batches
from foveate.views.pipeline import make_views

SHAPE = (20, 22, 18)
WINDOW = PrepareConfig(window="range", intensity_range=(0.0, 300.0))


def save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.diag([1.0, -1.0, 2.0, 1.0]) if affine is None else affine), path)
    return path


@pytest.fixture
def pair(tmp_path):
    """An image whose values tell its label, flipped on disk, and the record of both."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 4, (5, 11, 9)), np.ones((4, 2, 2))).astype(np.uint8)
    image = labels.astype(np.int16) * 100
    path = save(tmp_path / "image.nii.gz", image)
    maps = {"labels": save(tmp_path / "labels.nii.gz", labels)}
    return Record(path=path, relative="image.nii.gz", maps=maps, labels={"age": 61, "sex": float("nan")})


def cached(record, tmp_path, folder="cache"):
    return prepare([record], tmp_path / folder, WINDOW, lambda *_: None)


def test_a_map_lies_on_its_image_voxel_by_voxel(pair, tmp_path):
    volume = cached(pair, tmp_path)[0]
    labels = volume.read_map("labels", (0, 0, 0), SHAPE)
    np.testing.assert_array_equal(np.rint(volume.read((0, 0, 0), SHAPE)[0] * 3), labels)
    assert (labels.dtype, volume.map_entry("labels").values) == (np.uint8, (0, 1, 2, 3))
    window = volume.read_map("labels", (3, 4, 5), (9, 8, 11))
    np.testing.assert_array_equal(window, labels[3:9, 4:8, 5:11])
    places = volume.places("labels")
    assert set(places[:, 0].tolist()) == {1, 2, 3}
    assert all(labels[tuple(row[1:])] == row[0] for row in places)


def test_views_carry_maps_nearest_with_their_own_affine(pair, tmp_path):
    spec = CropSpec(
        count=2,
        grid=(12, 12, 12),
        source_sizes=((14, 16, 12),),
        rotation_degrees=15,
        zoom=0.1,
        flip_axes=(0, 2),
    )
    maker = partial(make_views, specs={"global": spec}, seed=0)
    options = {"seed": 0, "first_step": 0, "steps": 3, "batch_size": 2}
    cache = cached(pair, tmp_path)
    for batch in batches(cache, maker, **options):
        regions = batch["regions"]["labels/global"]  # (B, V, *S)
        images = batch["crops"]["global"][:, :, 0] * 3
        assert regions.dtype == torch.int64
        assert set(regions.unique().tolist()) <= {0, 1, 2, 3}
        sure = (images - images.round()).abs() < 1e-3  # cells that no border crosses
        assert sure.float().mean() > 0.1
        assert (images.round().long() == regions)[sure].float().mean() > 0.97
        assert batch["labels"]["age"].tolist() == [61.0, 61.0]
        assert batch["labels"]["sex"].isnan().all()


def test_a_run_gets_the_maps_it_asked_for_and_no_others(pair, tmp_path):
    """Pre-training in a cache in which fine-tuning has left labels of some images."""
    noise = np.random.default_rng(1).normal(100, 30, SHAPE)
    other = replace(pair, path=save(tmp_path / "other.nii.gz", noise), relative="other.nii.gz", maps={})
    assert cached(pair, tmp_path)[0].map_names == ("labels",)
    images = [replace(pair, maps={}, labels={}), replace(other, labels={})]
    cache = prepare(images, tmp_path / "cache", WINDOW, lambda *_: None)
    opened = open_prepared(tmp_path / "cache")
    assert [v.map_names for c in (cache, opened) for v in c] == [()] * 4
    spec = CropSpec(count=1, grid=(8, 8, 8), source_sizes=((8, 8, 8),))
    maker = partial(make_views, specs={"view": spec}, seed=0)
    options = {"batch_size": 2, "first_step": 0, "steps": 1, "seed": 0}
    assert not next(iter(batches(cache, maker, **options)))["regions"]
    assert cached(pair, tmp_path)[0].map_names == ("labels",)


def test_prepared_maps_are_kept_until_their_source_changes(pair, tmp_path, monkeypatch):
    from foveate.data.cache import prepare as module

    calls = []
    original = module.decode
    monkeypatch.setattr(
        module, "decode", lambda record, *reading: calls.append(record) or original(record, *reading)
    )
    cached(pair, tmp_path)
    cached(pair, tmp_path)
    cached(replace(pair, maps={}), tmp_path)  # pre-training on the same folder
    assert len(calls) == 1
    save(pair.maps["labels"], np.ones(SHAPE, np.uint8))
    assert cached(pair, tmp_path)[0].map_entry("labels").values == (1,)
    assert len(calls) == 2


def test_header_noise_is_accepted_and_another_grid_is_not(pair, tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    noisy = np.diag([1.0, -1.0, 2.0, 1.0])
    noisy[0, 3] = 1e-5
    save(pair.maps["labels"], labels, noisy)
    assert len(cached(pair, tmp_path)) == 1
    noisy[0, 3] = 0.5
    save(pair.maps["labels"], labels, noisy)
    with pytest.raises(FoveateError, match=r"'labels' does not fit.*0\.5 mm away"):
        cached(pair, tmp_path)
    save(pair.maps["labels"], labels[:-1])
    with pytest.raises(FoveateError, match=r"its shape is \(19, 22, 18\), the image's \(20, 22, 18\)"):
        cached(pair, tmp_path)


def test_values_that_are_no_labels_are_refused():
    with pytest.raises(UnusableMapError, match="whole numbers"):
        as_integers(np.array([0.0, 0.5]))
    with pytest.raises(UnusableMapError, match="whole numbers"):
        as_integers(np.array([0.0, np.nan]))
    assert as_integers(np.array([-1.0, 300.0])).dtype == np.int16


def test_places_are_bounded_and_evenly_drawn():
    array = np.zeros((60, 60), np.uint8)
    array[:, 30:] = 2
    places = places_of(array, "a")
    assert len(places) == PLACES_PER_VALUE
    assert (places[:, 0] == 2).all()
    assert abs(places[:, 1].mean() - 29.5) < 3
    assert np.array_equal(places, places_of(array, "a"))


def test_a_corrected_map_is_read_in_the_process_that_read_the_old_one(pair, tmp_path):
    before = cached(pair, tmp_path)[0]
    old, rows = before.read_map("labels", (0, 0, 0), SHAPE), before.places("labels")
    image = nib.load(pair.maps["labels"])
    save(pair.maps["labels"], 3 - np.asarray(image.dataobj), image.affine)
    after = cached(pair, tmp_path)[0]
    assert after.entry.content_hash == before.entry.content_hash  # the image is as it was
    np.testing.assert_array_equal(after.read_map("labels", (0, 0, 0), SHAPE), 3 - old)
    assert not np.array_equal(after.places("labels"), rows)
