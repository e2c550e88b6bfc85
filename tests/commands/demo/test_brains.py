"""The demo's cohort: the same bytes for the same seed, labels that follow the image."""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pytest

from foveate.commands.demo import brains as virtual_brains
from foveate.commands.demo.brains import build_cohort, draw_brain, load_atlas
from foveate.core.types import FoveateError
from foveate.data.sources.folder import FolderSource

FILES = ("images/brain_000.nii.gz", "labels/brain_000.nii.gz")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    pytest.importorskip("nilearn")
    folder = tmp_path_factory.mktemp("brains")
    build_cohort(folder, 1, 0, lambda *_: None)
    return folder


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_and_another_does_not(cohort, tmp_path):
    build_cohort(tmp_path / "again", 1, 0, lambda *_: None)
    for file in FILES:
        assert (tmp_path / "again" / file).read_bytes() == (cohort / file).read_bytes()
    image, labels = draw_brain(load_atlas(), 1, 0)
    assert not np.array_equal(labels, np.asarray(nib.load(cohort / FILES[1]).dataobj))
    assert not np.array_equal(image, np.asarray(nib.load(cohort / FILES[0]).dataobj))


def test_labels_follow_the_tissue(cohort):
    image, labels = (nib.load(cohort / file) for file in FILES)
    np.testing.assert_array_equal(image.affine, labels.affine)
    values, tissue = np.asarray(image.dataobj, dtype=float), np.asarray(labels.dataobj)
    share = np.bincount(tissue.ravel(), minlength=4) / tissue.size
    assert tissue.max() == 3
    assert share[0] > 0.4
    assert all(part > 0.02 for part in share[1:])
    spread = np.std([values[tissue == label].mean() for label in (0, 1, 2, 3)])
    within = np.mean([values[tissue == label].std() for label in (0, 1, 2, 3)])
    shifted = np.roll(tissue, 20, axis=0)
    moved = np.std([values[shifted == label].mean() for label in (0, 1, 2, 3)])
    assert spread > within
    assert spread > 1.5 * moved


def test_cohort_is_a_source_with_images_and_labels(cohort):
    roles = {record.relative: record.role for record in FolderSource().records(cohort)}
    assert roles == {FILES[0]: "image", FILES[1]: "label", "cohort.json": "other"}


def test_finished_cohort_is_kept_and_a_missing_brain_rebuilt(cohort, monkeypatch):
    before = (cohort / FILES[0]).read_bytes()
    monkeypatch.setattr(virtual_brains, "draw_brain", lambda *_: pytest.fail("built again"))
    build_cohort(cohort, 1, 0, lambda *_: None)
    monkeypatch.undo()
    (cohort / FILES[0]).unlink()
    build_cohort(cohort, 1, 0, lambda *_: None)
    assert (cohort / FILES[0]).read_bytes() == before


def test_another_cohort_or_foreign_files_are_not_touched(cohort, tmp_path):
    with pytest.raises(FoveateError, match="not the virtual cohort"):
        build_cohort(cohort, 2, 0, lambda *_: None)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FoveateError, match="other files"):
        build_cohort(tmp_path, 1, 0, lambda *_: None)


def test_missing_nilearn_names_the_extra(tmp_path, monkeypatch):
    load_atlas.cache_clear()
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(FoveateError, match=r"foveate\[demo\]"):
        build_cohort(tmp_path / "b", 1, 0, lambda *_: None)
