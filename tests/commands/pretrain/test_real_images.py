"""Two steps on real images where a folder of them is named; nothing of it enters the repository."""

import os
from pathlib import Path

import pytest

from foveate.cli import main

DATA = os.environ.get("FOVEATE_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="FOVEATE_DATA names no folder of real images")


@pytest.mark.parametrize("name", ["msd_hippocampus", "nih_cxr256_multilabel"])
def test_the_parent_folder_is_enough_and_labels_are_set_aside(name, tmp_path, capsys):
    data = Path(DATA) / name
    command = ["--data", str(data), "--out", str(tmp_path / "run"), "--size", "small", "--steps", "2"]
    assert main(["pretrain", *command, "--batch_size", "2"]) == 0
    said = capsys.readouterr().err
    assert "excluded from pre-training" in said
    count = len([p for p in (data / "images").iterdir() if not p.name.startswith(".")])
    assert f"data: {count} images, 0 excluded" in said
    assert (tmp_path / "run" / "exported" / "weights.safetensors").exists()
    names = [p.name.split(".")[0].encode() for p in (data / "images").iterdir() if not p.name.startswith(".")]
    for written in (p for p in tmp_path.rglob("*") if p.is_file()):
        content = written.read_bytes()
        assert not any(name in content for name in names), written.name


TREES = {"dicom_sts001": (3, 5), "totalseg_example_ct": (3, 3), "sts_tumour_ct_mr": (136, 139)}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (images > 100)) for name, (images, _) in TREES.items()],
)
def test_mixed_trees_train_on_their_images_alone(name, tmp_path, capsys):
    images, others = TREES[name]
    data = str(Path(DATA) / name)
    command = ["--data", data, "--out", str(tmp_path / "run"), "--size", "small", "--steps", "1"]
    assert main(["pretrain", *command, "--batch_size", "2"]) == 0
    said = capsys.readouterr().err
    assert f"excluded from pre-training: {others} files" in said
    assert f"data: {images} images, 0 excluded" in said
    for written in (p for p in tmp_path.rglob("*") if p.is_file()):
        content = written.read_bytes()
        assert b"STS_001" not in content, written.name
        assert b"1.3.6.1.4.1" not in content, written.name
