"""Two steps on real images where a folder of them is named; nothing of it enters the repository."""

import os
import shutil
from pathlib import Path

import pytest

from foveate.cli import main

DATA = os.environ.get("FOVEATE_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="FOVEATE_DATA names no folder of real images")


SMALL = ["--size", "small", "--encoder.width", "4"]  # views of real size; the images are what is looked at
MOST = 48  # images of a folder: every byte that is written is searched for every name


def some_of(folder, to):
    """A copy of a data set with no more than its first images, and their label maps."""
    kept = set(sorted(path.name for path in (folder / "images").iterdir())[:MOST])

    def ignored(place, names):
        return [] if Path(place) == folder else [name for name in names if name not in kept]

    return Path(shutil.copytree(folder, to, ignore=ignored))


@pytest.mark.parametrize("name", ["msd_hippocampus", "nih_cxr256_multilabel"])
def test_the_parent_folder_is_enough_and_labels_are_set_aside(name, tmp_path, capsys):
    data = some_of(Path(DATA) / name, tmp_path / name)
    command = ["--data", str(data), "--out", str(tmp_path / "run"), *SMALL, "--steps", "2"]
    assert main(["pretrain", *command, "--batch_size", "2"]) == 0
    said = capsys.readouterr().err
    assert "excluded from pre-training" in said
    count = len([p for p in (data / "images").iterdir() if not p.name.startswith(".")])
    assert f"data: {count} images, 0 excluded" in said
    assert (tmp_path / "run" / "exported" / "weights.safetensors").exists()
    names = [p.name.split(".")[0].encode() for p in (data / "images").iterdir() if not p.name.startswith(".")]
    for written in (p for p in tmp_path.rglob("*") if p.is_file() and data not in p.parents):
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
    command = ["--data", data, "--out", str(tmp_path / "run"), *SMALL, "--steps", "1"]
    assert main(["pretrain", *command, "--batch_size", "2"]) == 0
    said = capsys.readouterr().err
    assert f"excluded from pre-training: {others} files" in said
    assert f"data: {images} images, 0 excluded" in said
    for written in (p for p in tmp_path.rglob("*") if p.is_file()):
        content = written.read_bytes()
        assert b"STS_001" not in content, written.name
        assert b"1.3.6.1.4.1" not in content, written.name
