"""Fine-tuning with unlabelled images: which they are, resume, leakage, what is exported, refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.commands.finetune.test_finetune import (
    WEIGHTS,
    keys,
    labelled,
    rows_of,
    started,
    stop_at,
    write_pair,
)

from foveate.commands.finetune import config as finetune_settings, run
from foveate.commands.finetune.images import load_images
from foveate.core.types import FoveateError, Record
from foveate.data.cohort.draw import patient_of
from foveate.data.cohort.leakage import seen_before
from foveate.data.cohort.patients import Known
from foveate.data.cohort.rest import rest_of
from foveate.data.cohort.wanted import Labelled
from foveate.nets.weights import store as weights

__all__ = ["keys", "labelled"]
REST = {"unlabelled": "rest", "split.train_cases": "1", "semi.supervised_steps": "2"}


def loaded(flags, tmp_path):
    config = finetune_settings.SPEC.resolve({}, flags)
    return load_images(config, tmp_path / "some-cache")


def names(cache):
    return {volume.relative for volume in cache}


def test_rest_is_exactly_what_train_cases_leaves_out_and_carries_no_labels(keys, tmp_path):
    whole = loaded(keys(2), tmp_path)  # puts the label maps of all into the cache
    cut = loaded(keys(2, **REST), tmp_path)
    assert len(cut.train) == 1
    assert names(cut.unlabelled) == names(whole.train) - names(cut.train)
    assert len(whole.train) == 4
    assert all(not volume.map_names and not volume.labels for volume in cut.unlabelled)


def test_rest_holds_images_without_labels_but_none_of_patients_held_out(keys, tmp_path, labelled):
    data = tmp_path / "data"
    shutil.copytree(labelled[2], data)
    (data / "labels.csv").unlink()
    for i in (7, 8):
        write_pair(data, 2, i)
        (data / f"labels/c{i}.png").unlink()
    shutil.copy(data / "images/c0.png", data / "images/copy.png")  # of an image that has a label
    found = loaded(keys(2, data=str(data), **REST | {"split.train_cases": "0"}), tmp_path)
    assert names(found.unlabelled) == {"images/c7.png", "images/c8.png"}


def test_patients_who_validate_or_are_for_the_test_have_no_unlabelled_images():
    def image(name, patient, split=""):
        return Record(path=name, relative=name, patient=patient, split=split)

    train = [image("a1", "a"), image("b1", "b")]
    val, test = [image("c1", "c")], [image("d1", "d")]
    bare = [image("a2", "a"), image("c2", "c"), image("d2", "d"), image("e", ""), image("imagesTs/f", "f")]
    found = Labelled(records=(*train, *val, *test), without=tuple(bare), layout="")
    whole = {"train": train, "val": val, "test": test}
    rest = rest_of(
        found, whole, {**whole, "train": train[:1]}, lambda r: Known(records=tuple(r), notes=(), sentence="")
    )
    assert [record.relative for record in rest] == ["b1", "a2", "e"]
    assert {patient_of(r) for r in rest}.isdisjoint({patient_of(r) for r in (*val, *test)})


def test_a_folder_or_a_cache_is_read_and_what_is_labelled_is_left_out_of_it(keys, tmp_path, labelled):
    for i in (0, 20, 21):
        write_pair(tmp_path / "more", 2, i)
    folder = tmp_path / "more" / "images"
    given = keys(2, unlabelled=str(folder))
    found = loaded(given, tmp_path)
    assert names(found.unlabelled) == {"c20.png", "c21.png"}
    made = found.unlabelled[0].folder
    again = loaded(given | {"unlabelled": str(made)}, tmp_path)
    hashes = [{v.entry.content_hash for v in each.unlabelled} for each in (found, again)]
    assert hashes[0] == hashes[1]
    with pytest.raises(FoveateError, match=r"other values of --prepare"):
        loaded(given | {"unlabelled": str(made), "prepare.profile": "ct"}, tmp_path / "ct")


@pytest.mark.parametrize(("dimension", "judged"), [(2, "teacher"), (3, "student")])
def test_resumed_is_bit_equal_with_the_teacher_and_health_is_written(keys, tmp_path, dimension, judged):
    flags = REST | {"steps": "6", "semi.weights": judged, "semi.health_every": "2", "save_every": "3"}
    if dimension == 3:
        flags |= {"semi.confidence": "0.6", "semi.threshold": "class", "semi.balance": "1"}
        flags |= {"semi.ramp_steps": "3", "semi.weighting": "confidence"}
    assert started(keys(dimension, "a", **flags))
    config = finetune_settings.SPEC.resolve({}, keys(dimension, "b", **flags))
    stop_at(config, 4)
    assert not (tmp_path / "b" / WEIGHTS).exists()
    assert run.finetune(config)
    for file in (WEIGHTS, "exported/card.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    states = [torch.load(tmp_path / n / "checkpoints/step-000000006.ckpt", weights_only=True) for n in "ab"]
    assert any(name.startswith("teacher.") for name in states[0]["model"])
    assert all(torch.equal(value, states[1]["model"][name]) for name, value in states[0]["model"].items())
    rows = [[r for r in rows_of(tmp_path / n) if "pseudo/agreement" in r] for n in "ab"]
    assert [r["step"] for r in rows[0]] == [4, 6]
    for one, other in zip(*rows, strict=True):
        assert {**one, "health_seconds": 0} == {**other, "health_seconds": 0}
    best = torch.load(tmp_path / "a/checkpoints/best.ckpt", weights_only=True)["model"]
    prefix = "teacher" if judged == "teacher" else "task"
    tensors, card = weights.read(tmp_path / "a")
    for name, value in tensors.items():
        part = f"{prefix}.net.{name}" if not name.startswith("heads") else f"{prefix}.{name}"
        assert torch.equal(value, best[part]), name
    assert (card["unlabelled"], card["semi"]["weights"]) == (3, judged)


def test_unlabelled_images_count_as_seen(keys, tmp_path, labelled):
    assert started(keys(2, steps="3", **REST))
    ids = json.loads((tmp_path / "run/split.json").read_text())
    assert {part: len(each) for part, each in ids.items()} == {
        "train": 1,
        "val": 2,
        "test": 0,
        "unlabelled": 3,
    }
    found = loaded(keys(2, **REST), tmp_path)
    records = [Record(path=labelled[2] / v.relative, relative=v.relative) for v in found.unlabelled]
    voxels = [v.entry.voxel_hash for v in found.unlabelled]
    assert set(seen_before(tmp_path / "run", records, voxels)) == names(found.unlabelled)


def test_the_control_without_a_teacher_and_every_option_run(keys, tmp_path):
    flags = {
        "semi.labeller": "self",
        "semi.mixing": "none",
        "semi.batch_norm": "labelled",
        "semi.labeller_norm": "batch",
        "semi.largest_component": "true",
        "semi.weights": "student",
        "semi.confidence": "0.5",
        "semi.supervised_steps": "1",
    }
    assert started(keys(3, steps="3", **REST | flags))
    losses = [row["loss"] for row in rows_of(tmp_path / "run") if "loss" in row]
    assert len(losses) == 3
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"unlabelled": "rest"}, "no image is left to learn from without labels"),
        ({"semi.confidence": "0.9"}, r"--semi\.\* is said without --unlabelled"),
        (REST | {"tuning.average": "0.9"}, r"--tuning\.average 0\.9: with --unlabelled the teacher is"),
        (REST | {"batch_size": "3"}, "--batch_size 3: with --unlabelled half of a batch is labelled"),
        (
            REST
            | {
                "task.name": "classification",
                "task.targets": "[age]",
                "task.kind": "regression",
                "task.crops.source_sizes": None,
            },
            "the task classification cannot learn from pseudo-labels as it is",
        ),
    ],
)
def test_what_cannot_be_is_refused(keys, flags, message):
    with pytest.raises(FoveateError, match=message):
        started(keys(2, **flags))


def test_a_third_of_the_steps_is_supervised_unless_said():
    given = {"task.name": "segmentation", "dimension": 3, "init": "none", "steps": 90}
    assert finetune_settings.default_config({**given, "unlabelled": "rest"}).semi.supervised_steps == 30
    assert finetune_settings.default_config(given).semi.supervised_steps == 0


@pytest.mark.parametrize("dimension", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "flags",
    [
        {"task.targets": "[kind]", "semi.batch_norm": "labelled"},
        {"task.kind": "multilabel", "task.targets": "[found]", "semi.confidence": "0.5"},
    ],
    ids=["multiclass", "multilabel"],
)
def test_classification_learns_from_the_rest_and_resumes_bit_equal(keys, tmp_path, dimension, flags):
    flags = (
        REST | flags | {"split.train_cases": "2", "steps": "6", "save_every": "3", "semi.health_every": "2"}
    )
    assert started(keys(dimension, "a", task="classification", **flags))
    config = finetune_settings.SPEC.resolve({}, keys(dimension, "b", task="classification", **flags))
    assert (config.semi.mixing, config.semi.weighting) == ("none", "confidence")
    stop_at(config, 4)
    assert run.finetune(config)
    for file in (WEIGHTS, "exported/card.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    losses = [row for row in rows_of(tmp_path / "a") if "loss" in row]
    name = next(key for key in losses[0] if key.endswith("consistency"))
    assert [row[name] > 0 for row in losses] == [False] * 2 + [True] * 4
    assert [row["step"] for row in rows_of(tmp_path / "a") if "pseudo/agreement" in row] == [4, 6]
