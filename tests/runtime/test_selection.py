"""What a pre-training run sees of a data set, and what it writes down about it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from tests.conftest import tiny_keys
from tests.data.sources.miniatures import chestxray14, msd

from foveate.commands.finetune import config as finetune_settings, run as finetune
from foveate.commands.pretrain import config as settings, run
from foveate.core.types import FoveateError, Reading, Record
from foveate.data.catalogue import SOURCES, source_config
from foveate.data.cohort import leakage
from foveate.data.cohort.labelled import labelled_images
from foveate.runtime import selection


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
    assert "held out of pre-training: 2 images" in capsys.readouterr().err
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
    resolved = settings.SPEC.resolve({}, flags)
    assert (resolved.dimension, resolved.source.name) == (2, "chestxray14")
    with pytest.raises(FoveateError, match=r"--source.uncertain belongs to chexpert"):
        settings.SPEC.resolve({}, {**flags, "source.uncertain": "ones"})


def test_a_run_knows_what_it_has_seen_and_tells_nobody(radiographs, tmp_path):
    root, expected = radiographs
    keys = tiny_keys(2, root, tmp_path / "runs" / "a", source="chestxray14", steps=1, save_every=1)
    config = settings.SPEC.from_keys(keys)
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


@pytest.fixture
def pretrained(radiographs, tmp_path):
    root, _ = radiographs
    out = tmp_path / "runs" / "pretrained"
    assert run.pretrain(settings.SPEC.from_keys(tiny_keys(2, root, out, source="chestxray14", steps=1)))
    return out


def labelled_table(radiographs, split_of):
    """A table beside the radiographs, with a split of one's own."""
    root, expected = radiographs
    rows = [f"{name},{i % 2},{split_of[i]}" for i, name in enumerate(expected.images)]
    (root / "mine.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")
    return {
        "data": str(root),
        "source.name": "csv",
        "source.table": "mine.csv",
        "task.name": "classification",
        "task.targets": "[label]",
        "task.kind": "multilabel",
        "size": "small",
        "steps": "1",
        "batch_size": "2",
        "num_workers": "0",
        "validate_every": "1",
        "accelerator": "cpu",
        "precision": "32-true",
    }


def test_finetune_refuses_a_test_that_pretraining_has_seen_or_marks_it(radiographs, pretrained, capsys):
    # images 1 and 3 were pre-trained on
    flags = labelled_table(radiographs, ["train", "test", "train", "val"])
    flags |= {"init": str(pretrained), "out": str(pretrained.parent / "task")}
    with pytest.raises(FoveateError, match=r"1 test images are no test of .*/00000002_000.png: its voxels"):
        finetune.finetune(finetune_settings.SPEC.resolve({}, flags))
    assert not (pretrained.parent / "task" / "run.yaml").exists()
    marked = finetune_settings.SPEC.resolve({}, {**flags, "on_seen": "mark"})
    assert finetune.finetune(marked)
    told = (pretrained.parent / "task" / "train.log").read_text()
    assert "1 of 1 test images were in the pre-training" in told
    seen = leakage.read_seen(pretrained.parent / "task")  # its own images and those of the weights
    assert seen.patients == leakage.read_seen(pretrained).patients
    assert len(seen.images) == len({1, 3} | {0, 2, 3})


def test_weights_that_cannot_say_what_they_have_seen_are_said_to(pretrained, radiographs):
    root, expected = radiographs
    tests = [Record(path=root / expected.images[0], relative="x")]
    assert selection.run_of(str(pretrained / "exported" / "weights.safetensors")) == pretrained
    assert selection.run_of("none") is None
    assert selection.compared_with_pretraining("none", tests, "refuse", Reading()) == ""
    assert selection.compared_with_pretraining(str(pretrained), [], "refuse", Reading()) == ""
    assert selection.compared_with_pretraining(str(pretrained), tests, "refuse", Reading()).startswith(
        "; 0 of 1 test images"
    )
    (pretrained / "seen.json").unlink()
    assert "cannot be compared" in selection.compared_with_pretraining(
        str(pretrained), tests, "refuse", Reading()
    )


@pytest.mark.parametrize(("want", "count"), [("maps", 2), ("values", 0)])
def test_a_named_layout_gives_labels_classes_and_its_test(tmp_path, want, count):
    (tmp_path / "task").mkdir()
    msd(tmp_path / "task")
    if not count:
        with pytest.raises(FoveateError, match=r"none of its 3 images has a value"):
            labelled_images(SOURCES["msd"].Config(), tmp_path / "task", want)
        return
    found = labelled_images(SOURCES["msd"].Config(), tmp_path / "task", want)
    assert [record.maps["labels"].name for record in found.records] == ["liver_10.nii.gz", "liver_2.nii.gz"]
    assert (found.unlabelled, found.classes) == (1, ("liver=1", "cancer=2"))
