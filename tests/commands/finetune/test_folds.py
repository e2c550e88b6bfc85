"""Cross-validation: a run for every fold, and each image scored by the network that did not see it."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.commands.finetune.test_finetune import PATCH, write_pair

from foveate.cli import main
from foveate.commands.evaluate.cohort import out_of_fold
from foveate.commands.evaluate.config import SPEC as EVALUATE
from foveate.commands.evaluate.run import evaluate
from foveate.commands.finetune.config import SPEC as FINETUNE
from foveate.commands.finetune.folds import cross_validate, refuse_overlap
from foveate.commands.finetune.images import scored_images
from foveate.commands.finetune.run import finetune
from foveate.core.types import Ending, FoveateError
from foveate.data.cohort.splits import SplitConfig
from foveate.nets.weights import store as weights
from foveate.runtime.folder import runs_in


def flags_of(data, out, task, **more):
    flags = {"data": str(data), "out": str(out), "task.name": task, "init": "none", "size": "small"}
    flags |= {"dimension": "2", "steps": "1", "batch_size": "2", "num_workers": "0", "encoder.width": "4"}
    flags |= {"task.crops.grid": PATCH[2], "folds": "3", "optim.warmup_steps": "0", "validate_every": "1"}
    if task == "segmentation":
        flags |= {"task.crops.source_sizes": f"[{PATCH[2]}]", "task.classes": "[bright=1]"}
    else:
        flags |= {"task.targets": "[kind]"}
    return flags | more


def config_of(*given, **more):
    return FINETUNE.resolve({}, flags_of(*given, **more))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six pictures of three patients."""
    root = tmp_path_factory.mktemp("data")
    for i in range(6):
        write_pair(root, 2, i)
    rows = "".join(f"images/c{i}.png,labels/c{i}.png,p{i // 2},{'ab'[i % 2]}\n" for i in range(6))
    (root / "table.csv").write_text(f"image,label,patient,kind\n{rows}")
    return root / "table.csv"


@pytest.fixture(scope="module")
def folds(data, tmp_path_factory):
    """Three folds, stopped after the first; with what was run the second time."""
    config = config_of(data, tmp_path_factory.mktemp("runs") / "cv", "segmentation")
    again = []

    def stopped(one):
        return finetune(one) if one.split.fold == 0 else Ending.STOPPED

    def noted(one):
        again.append(one.split.fold)
        return finetune(one)

    assert cross_validate(config, stopped) is Ending.STOPPED
    assert cross_validate(config, noted) is Ending.FINISHED
    return config.out, again


def splits_of(out):
    return [json.loads((fold / "split.json").read_text()) for fold in map(Path, runs_in(str(out)))]


def test_finished_folds_are_skipped_and_no_image_is_in_two(folds, data, tmp_path):
    out, again = folds
    assert again == [1, 2]
    splits = splits_of(Path(out))
    validated = [name for split in splits for name in split["val"]]
    assert len(validated) == len(set(validated)) == 6
    for split in splits:
        assert sorted([*split["train"], *split["val"]]) == sorted(validated)
        assert len(split["val"]) == 2  # both images of a patient
    assert finetune(config_of(data, out, "segmentation")) is Ending.FINISHED


def test_every_image_is_scored_by_the_network_that_did_not_see_it(folds, data, tmp_path):
    out, _ = folds
    score = {"data": str(data), "draws": "20", "worst": "0"}
    assert evaluate(EVALUATE.resolve({}, {"run": out, "out": str(tmp_path / "all"), **score}))
    rows = list(csv.DictReader((tmp_path / "all/cases.csv").open()))
    assert [row["fold"] for row in rows] == ["0", "0", "1", "1", "2", "2"]
    for split, k in zip(splits_of(Path(out)), range(3), strict=True):
        assert {row["id"] for row in rows if row["fold"] == str(k)} == set(split["val"])
    assert len({row["patient"] for row in rows}) == 3
    summary = json.loads((tmp_path / "all/summary.json").read_text())
    assert (summary["part"], summary["cases"], summary["patients"]) == ("out of fold", 6, 3)
    assert "its fold chose the checkpoint" in summary["note"]
    one = {"run": f"{out}/fold_1", "out": str(tmp_path / "one"), "part": "val", **score}
    assert evaluate(EVALUATE.resolve({}, one))
    alone = list(csv.DictReader((tmp_path / "one/cases.csv").open()))
    assert [{**row, "fold": "1"} for row in alone] == rows[2:4]


def test_all_folds_predict_together(folds, data, tmp_path):
    out, _ = folds
    (tmp_path / "in").mkdir()
    shutil.copy(data.parent / "images/c0.png", tmp_path / "in")
    words = ["--data", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    assert main(["predict", "--run", out, *words]) == 0
    assert len(json.loads((tmp_path / "out/predict.json").read_text())["weights"]) == 3
    (row,) = csv.DictReader((tmp_path / "out/predictions.csv").open())
    assert float(row["disagreement"]) >= 0


def test_folds_of_classes_are_scored_out_of_fold(data, tmp_path):
    config = config_of(data, tmp_path / "cv", "classification", folds="2")
    assert finetune(config) is Ending.FINISHED
    keys = {
        "run": config.out,
        "data": str(data),
        "out": str(tmp_path / "scores"),
        "draws": "10",
        "worst": "0",
    }
    assert evaluate(EVALUATE.resolve({}, keys))
    rows = list(csv.DictReader((tmp_path / "scores/cases.csv").open()))
    assert sorted({row["fold"] for row in rows}) == ["0", "1"]
    assert len({row["id"] for row in rows}) == len(rows) == 6
    with pytest.raises(FoveateError, match="--part train"):
        evaluate(EVALUATE.resolve({}, {**keys, "part": "train"}))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seed": "7"}, "holds folds with another configuration .seed: 0 -> 7"),
        ({"fold": "3"}, "--fold 3 with --folds 3"),
        ({"folds": "1"}, r"split\.folds 1"),
        ({"folds": "0", "fold": "1"}, "--fold 1 with --folds 0"),
        ({"split.save_as": "x.json"}, r"--split\.save_as"),
    ],
)
def test_other_folds_are_refused(folds, data, more, said):
    with pytest.raises(FoveateError, match=said):
        finetune(config_of(data, folds[0], "segmentation", **more))


def test_a_folder_of_something_else_is_refused(data, tmp_path):
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv/run.yaml").write_text("")
    with pytest.raises(FoveateError, match="holds other files"):
        finetune(config_of(data, tmp_path / "cv", "segmentation"))


def test_folds_that_are_not_finished_answer_nothing(folds, tmp_path, capsys):
    shutil.copytree(folds[0], tmp_path / "cv")
    shutil.rmtree(tmp_path / "cv/fold_1/exported")
    words = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["predict", "--run", str(tmp_path / "cv"), *words]) == 2
    assert "fold_1 has not reached its end" in capsys.readouterr().err


def test_images_that_changed_between_folds_are_found(folds, data, tmp_path):
    shutil.copytree(folds[0], tmp_path / "cv")
    first = (tmp_path / "cv/fold_0/split.json").read_text()
    (tmp_path / "cv/fold_2/split.json").write_text(first)
    with pytest.raises(FoveateError, match="fold 0 and fold 2 validate on the same image"):
        refuse_overlap(config_of(data, tmp_path / "cv", "segmentation"), tmp_path / "cv")


def test_folds_with_other_classes_are_not_one_table():
    models = [SimpleNamespace(task=SimpleNamespace(class_names=names)) for names in ("ab", "abc")]
    with pytest.raises(FoveateError, match="its class_names are"):
        out_of_fold(EVALUATE.resolve({}, {}), ["one", "other"], models)


def test_a_fold_that_validates_counts_as_held_out():
    for folds, expected in ((3, ["test", "val"]), (0, ["test"])):
        images = SimpleNamespace(
            split={"train": ["train"], "val": ["val"], "test": ["test"]},
            config=SimpleNamespace(split=SplitConfig(folds=folds)),
        )
        assert scored_images(images) == expected


def test_the_card_of_a_fold_says_which_it_is(folds):
    keys = (weights.locate(f"{folds[0]}/fold_2").parents[1] / "run.yaml").read_text()
    assert "folds: 3, fold: 2" in keys
    with pytest.raises(FoveateError, match="is a cross-validation; accepted here: one of its folds"):
        weights.read(folds[0])
