"""Roles, order and refusals of the plain-folder source; no file is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.core.types import FoveateError
from foveate.data.roles.names import label_evidence
from foveate.data.sources.folder import FolderSource


def make(root: Path, *relatives: str) -> Path:
    for relative in relatives:
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_bytes(b"never opened")
    return root


def listed(root: Path) -> list[tuple[str, str]]:
    return [(record.relative, record.role) for record in FolderSource().records(root)]


def test_order_is_by_relative_path_and_hidden_things_are_ignored(tmp_path):
    make(tmp_path, "b/2.nii", "b/._2.nii", ".DS_Store", "a.nii.gz", ".git/x.nii", "b-c/1.NII.GZ", "notes.txt")
    assert listed(tmp_path) == [
        ("a.nii.gz", "image"),
        ("b-c/1.NII.GZ", "image"),
        ("b/2.nii", "image"),
        ("notes.txt", "other"),
    ]


@pytest.mark.parametrize(
    "relative",
    [
        "labels/a.png",
        "labelsTr/a.png",
        "x/Masks/a.png",
        "a_seg.nii.gz",
        "a-mask.nii",
        "p/seg.nii",
        "a_gt2.png",
    ],
)
def test_labels_are_recognised(relative):
    assert label_evidence(relative)


@pytest.mark.parametrize(
    "relative", ["imagesTr/a.png", "unmasked/a.png", "bigseg.nii", "a_seg_t1.nii", "labels.x/b.png"]
)
def test_images_are_not_taken_for_labels(relative):
    assert label_evidence(relative) == ""


def test_links_that_form_a_loop_end(tmp_path):
    make(tmp_path, "a/1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert listed(tmp_path) == [("a/1.png", "image")]


def test_a_single_file_is_a_source(tmp_path):
    make(tmp_path, "a.png")
    assert listed(tmp_path / "a.png") == [("a.png", "image")]
    assert FolderSource().dimension(tmp_path / "a.png") == 2


def test_dimension_counts_images_only(tmp_path):
    make(tmp_path, "images/a.nii.gz", "labels/a.png", "notes.txt")
    assert FolderSource().dimension(tmp_path) == 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ["a/1.nii.gz", "a/2.nii", "b/1.png"],
            ["1 2D images (b/1.png)", "2 3D images (a/1.nii.gz)", "--dimension", "--data"],
        ),
        (["a.dcm", "b.dcm", "c.txt"], ["2 x .dcm", "1 x .txt", "DICOM", ".nii.gz", ".png"]),
        (["masks/a.png"], ["only labels (1 files; masks/a.png: folder masks)"]),
        ([".hidden.png"], ["no file"]),
    ],
)
def test_folder_that_cannot_be_used(tmp_path, files, words):
    make(tmp_path, *files)
    with pytest.raises(FoveateError) as caught:
        FolderSource().dimension(tmp_path)
    for word in words:
        assert word in str(caught.value)


def test_missing_path_is_named(tmp_path):
    with pytest.raises(FoveateError, match=r"nowhere does not exist"):
        FolderSource().dimension(tmp_path / "nowhere")


def test_what_foveate_made_below_the_data_is_no_scan(tmp_path):
    make(tmp_path, "a.png", "run/run.yaml", "run/environment.json", "run/previews/step-1.png")
    make(tmp_path, "foveate-cache/ab/prepare.json", "foveate-cache/ab/volumes/x.npz", "other/run.yaml")
    make(tmp_path, "predicted/predict.json", "predicted/a.png", "labels/predict.json", "labels/a.png")
    found = [(name, role) for name, role in listed(tmp_path) if role != "other"]
    assert found == [("a.png", "image"), ("labels/a.png", "label")]  # corrected predictions may become labels
    assert ("previews/step-1.png", "image") in listed(tmp_path / "run")  # asked for by name


def test_a_picture_of_a_ct_has_no_hounsfield_units(tmp_path):
    make(tmp_path, "ct/a.png", "ct/b.nii.gz", "xray/c.png")
    assert [record.modality for record in FolderSource().records(tmp_path)] == ["", "CT", "DX"]
