"""What a pre-training run sees of a data set, and what it writes down about it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from tests.conftest import tiny_keys
from tests.data.sources.miniatures import chestxray14, msd

from foveate.core.types import FoveateError, Record
from foveate.data import leakage
from foveate.data.catalogue import SOURCES, source_config
from foveate.run import pretrain as run
from foveate.run import selection, settings


@pytest.fixture
def radiographs(tmp_path):
    """ChestX-ray14 in miniature with real pictures: patients 2 and 13 train, patient 1 is the test."""
    root = tmp_path / "NIH"
    root.mkdir()
    expected = chestxray14(root)
    for number, name in enumerate(expected.images):
        pixels = np.random.default_rng(number).integers(0, 255, (80, 72), np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root, expected


def names(root, name, split=""):
    found = selection.images_for_pretraining(SOURCES[name].Config(), root, split)
    return [record.relative for record in found]


def test_the_test_set_of_the_data_is_held_out_and_labels_are_left_behind(radiographs, capsys):
    root, expected = radiographs
    train = [name for name, split in zip(expected.images, expected.splits, strict=True) if split == "train"]
    assert names(root, "chestxray14") == train
    assert "held out, never pre-trained on: 2 images" in capsys.readouterr().err
    config = SOURCES["chestxray14"].Config()
    assert not any(r.labels or r.maps for r in selection.images_for_pretraining(config, root))


def test_a_folder_that_looks_like_a_layout_says_so(radiographs, capsys):
    root, expected = radiographs
    assert set(names(root, "folder")) == set(expected.images)
    assert "looks like chestxray14: --source chestxray14 reads" in capsys.readouterr().err
    names(root, "chestxray14")
    assert "looks like" not in capsys.readouterr().err


def test_lists_decide_where_they_are_given(tmp_path):
    (tmp_path / "task").mkdir()
    msd(tmp_path / "task")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("imagesTr/liver_2.nii.gz\n")
    (tmp_path / "lists" / "unlabelled.txt").write_text("imagesTs/liver_3.nii.gz\n")
    found = names(tmp_path / "task", "msd", str(tmp_path / "lists"))
    assert found == ["imagesTr/liver_2.nii.gz", "imagesTs/liver_3.nii.gz"]
    (tmp_path / "lists" / "train.txt").write_text("liver_2.nii.gz\n")
    with pytest.raises(FoveateError, match=r"lists 'liver_2.nii.gz' \(1 of 2 names\)"):
        names(tmp_path / "task", "msd", str(tmp_path / "lists"))
    with pytest.raises(FoveateError, match=r"has no train.txt"):
        names(tmp_path / "task", "msd", str(tmp_path / "task"))


def test_the_first_pass_reads_the_keys_of_the_source(tmp_path):
    given = {"source.name": "luna16", "source.test_subsets": "[9]", "source.val_subsets": [8], "steps": "3"}
    config = source_config(given)
    assert (config.test_subsets, config.val_subsets) == ((9,), (8,))
    chestxray14(tmp_path)
    flags = {"data": str(tmp_path), "source.name": "chestxray14", "size": "small"}
    resolved = settings.resolve({}, flags)
    assert (resolved.dimension, resolved.source.name) == (2, "chestxray14")
    with pytest.raises(FoveateError, match=r"--source.uncertain belongs to chexpert"):
        settings.resolve({}, {**flags, "source.uncertain": "ones"})


def test_a_run_knows_what_it_has_seen_and_tells_nobody(radiographs, tmp_path):
    root, expected = radiographs
    keys = tiny_keys(2, root, tmp_path / "runs" / "a", source="chestxray14", steps=1, save_every=1)
    config = settings.from_keys(keys)
    assert run.pretrain(config)
    out = tmp_path / "runs" / "a"
    seen = json.loads((out / "seen.json").read_text())
    assert (len(seen["images"]), len(seen["patients"])) == (2, 2)
    twin = root / expected.images[1]  # an image of training, under another name and for another patient
    records = [
        Record(path=twin, relative="again.png", patient="new"),
        Record(path=root / expected.images[0], relative="test.png", patient="1"),
        Record(path=root / expected.images[0], relative="other visit.png", patient="13"),
    ]
    found = leakage.seen_before(out, records, [leakage.hash_of(record) for record in records])
    assert found == {
        "again.png": "its voxels were pre-trained on",
        "other visit.png": "its patient was pre-trained on",
    }
    names_of_files = [name.rpartition("/")[2].encode() for name in expected.images]
    for path in out.rglob("*"):
        if path.is_file():
            assert not any(name in path.read_bytes() for name in names_of_files), path
    assert run.pretrain(config)  # the same command again
    assert json.loads((out / "seen.json").read_text()) == seen
