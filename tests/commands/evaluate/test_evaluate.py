"""Evaluation of a run on labelled images: what is written, which images, which intervals."""

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.commands.finetune.test_finetune import keys, labelled, write_pair  # noqa: F401 - fixtures
from tests.commands.predict.test_predict import ideal

from foveate.cli import main
from foveate.commands.evaluate import run as verb
from foveate.commands.evaluate.config import SPEC
from foveate.commands.finetune import config as finetune_settings, run as training
from foveate.core.files import plain
from foveate.core.types import FoveateError
from foveate.pages.scenes import read_scenes
from foveate.scoring.statistics import bca_interval


def trained(flags):
    config = finetune_settings.SPEC.resolve({}, flags)
    assert training.finetune(config)
    return config.out, config.data


def judged(run, data, out, **flags):
    return verb.evaluate(
        SPEC.resolve({}, {"run": run, "data": data, "out": str(out), "draws": "200", **flags})
    )


def results(out):
    summary = json.loads((out / "summary.json").read_text())
    return summary, list(csv.DictReader((out / "cases.csv").open()))


SPLIT = {"split.test_share": "0.34", "split.val_share": "0.2"}


@pytest.mark.parametrize("dimension", [2, 3])
def test_contract_masks_get_cases_intervals_and_pictures(keys, tmp_path, dimension):  # noqa: F811
    run, data = trained(keys(dimension, **SPLIT))
    assert judged(run, data, tmp_path / "test", calibration="true")
    summary, rows = results(tmp_path / "test")
    assert summary["cases"] == len(rows) == 2
    assert 0 < summary["metrics"]["ece_fg"]["value"] < 1
    mean = np.mean([float(row["mean_fg_dice"]) for row in rows])
    assert summary["metrics"]["mean_fg_dice"]["value"] == pytest.approx(mean, abs=1e-5)
    for name in ("dice.png", "worst.png"):
        assert (tmp_path / "test" / name).stat().st_size > 1000
    text = (tmp_path / "test/summary.json").read_text() + (tmp_path / "test/cases.csv").read_text()
    assert str(tmp_path) not in text
    training_score = json.loads((tmp_path / "run/exported/card.json").read_text())["validation_score"]
    page = (tmp_path / "test/report.html").read_text()
    assert "mean_fg_dice" in page
    assert str(tmp_path) not in page
    assert len(read_scenes(tmp_path / "test/worst.npz")) == 2
    flat = {"part": "val", "window.blend": "flat", "with_images": "false", "lesions.match": "overlap"}
    assert judged(run, data, tmp_path / "val", **flat)
    assert not (tmp_path / "val/worst.png").exists()
    assert not (tmp_path / "val/worst.npz").exists()
    assert "data:image" not in (tmp_path / "val/report.html").read_text()
    assert float(results(tmp_path / "val")[1][0]["lesions/class1"]) > 0
    assert not [key for key in rows[0] if "lesion" in key]
    found = results(tmp_path / "val")[0]["metrics"]["mean_fg_dice"]["value"]
    assert found == pytest.approx(training_score, abs=1e-6)  # the same windows, Dice and means


def test_contract_scores_are_those_of_validation_in_its_precision(keys, tmp_path):  # noqa: F811
    """A run in bfloat16 is scored in it where asked, on a CPU otherwise in float32."""
    run, data = trained(keys(2, precision="bf16-mixed", steps="2", **SPLIT))
    score = json.loads((tmp_path / "run/exported/card.json").read_text())["validation_score"]
    flat = {"part": "val", "window.blend": "flat", "draws": "10"}
    for precision, taken in (("bf16-mixed", "bf16-mixed"), ("auto", "32-true")):
        assert judged(run, data, tmp_path / taken, precision=precision, **flat)
        summary, _ = results(tmp_path / taken)
        assert summary["settings"]["precision"] == taken
        if taken == "bf16-mixed":
            assert summary["metrics"]["mean_fg_dice"]["value"] == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(("kind", "targets"), [("multiclass", "kind"), ("multilabel", "found")])
def test_contract_classes_get_rank_metrics_and_calibration(keys, tmp_path, kind, targets):  # noqa: F811
    flags = {"task.kind": kind, "task.targets": f"[{targets}]", **SPLIT}
    run, data = trained(keys(2, task="classification", **flags))
    assert judged(run, data, tmp_path / "test")
    summary, rows = results(tmp_path / "test")
    assert {"auroc", "ap", "balanced_acc", "f1", "ece"} <= set(summary["metrics"])
    assert summary["calibration"]["temperature"] > 0
    assert {f"label/{targets}"} <= set(rows[0])
    assert (tmp_path / "test/roc.png").exists()
    assert (tmp_path / "test/confusion.png").exists() == (kind == "multiclass")
    assert (tmp_path / "test/worst.png").exists()


def test_contract_frames_are_averaged_over_time_and_the_best_of_a_sweep_is_judged(keys, tmp_path):  # noqa: F811
    flags = {"task.targets": "[kind]", "task.background": "a", "task.classes": "[a, b]", **SPLIT}
    run, data = trained(keys(2, task="classification", **flags))
    assert judged(run, data, tmp_path / "each", part="all")
    assert judged(run, data, tmp_path / "three", part="all", smooth_frames=3)
    (_, each), (summary, three) = (results(tmp_path / out) for out in ("each", "three"))
    before, after = ([float(row["answer/b"]) for row in rows] for rows in (each, three))
    means = [np.mean(before[max(0, i - 1) : i + 2]) for i in range(6)]
    assert after == pytest.approx(means, rel=1e-4)
    best = int(np.argmax(means))
    assert [row["retrieved/b"] for row in three] == [str(best % 2) if i == best else "" for i in range(6)]
    metrics = summary["metrics"]
    assert metrics["retrieval/b"]["value"] == best % 2
    assert metrics["f1_planes"]["value"] == metrics["f1/b"]["value"]
    with pytest.raises(FoveateError, match="smooth_frames 2"):
        judged(run, data, tmp_path / "two", part="all", smooth_frames=2)
    with pytest.raises(FoveateError, match=r"--lesions\.match overlap: the answers are for whole images"):
        judged(run, data, tmp_path / "pieces", part="all", **{"lesions.match": "overlap"})


def test_contract_numbers_get_errors(keys, tmp_path):  # noqa: F811
    run, data = trained(
        keys(2, task="classification", **{"task.kind": "regression", "task.targets": "[age]"}, **SPLIT)
    )
    assert judged(run, data, tmp_path / "test", part="all", by="kind,found")
    summary, rows = results(tmp_path / "test")
    errors = [abs(float(r["answer/age"]) - float(r["label/age"])) for r in rows]
    assert len(rows) == 6
    assert summary["metrics"]["mae"]["value"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert summary["metrics"]["mae"]["low"] <= summary["metrics"]["mae"]["value"]
    assert {column: list(groups) for column, groups in summary["by"].items()} == {
        "kind": ["a", "b"],
        "found": ["0", "1"],
    }
    odd = [error for error, row in zip(errors, rows, strict=True) if float(row["label/age"]) % 20]
    for group in (summary["by"]["kind"]["b"], summary["by"]["found"]["1"]):
        assert (group["cases"], group["patients"]) == (3, 3)
        assert group["metrics"]["mae"]["value"] == pytest.approx(np.mean(odd), rel=1e-4)
    assert "by kind:" in verb.table_of(summary)
    with pytest.raises(FoveateError, match=r"--by site: no table .* accepted are age, found, kind"):
        judged(run, data, tmp_path / "test", part="all", by="site")


def test_contract_other_images_are_not_taken_for_the_runs_test_part(keys, labelled, tmp_path):  # noqa: F811
    run, _ = trained(keys(2, **SPLIT))
    other = tmp_path / "other"
    shutil.copytree(labelled[2], other)
    with pytest.raises(FoveateError, match="--part all"):
        judged(run, str(other), tmp_path / "out")
    assert judged(run, str(other), tmp_path / "out", part="all")


def test_contract_a_split_of_before_test_images_were_noted_is_still_read(keys, tmp_path):  # noqa: F811
    run, data = trained(keys(2, **SPLIT))
    file = Path(run) / "split.json"
    noted = json.loads(file.read_text())
    assert judged(run, data, tmp_path / "now")
    file.write_text(json.dumps({part: noted[part] for part in ("train", "val")}))
    assert judged(run, data, tmp_path / "before")
    assert (tmp_path / "now/cases.csv").read_text() == (tmp_path / "before/cases.csv").read_text()
    file.write_text(json.dumps({"train": noted["test"], "val": noted["val"]}))
    with pytest.raises(FoveateError, match=r"2 of its images .* an earlier version drew the split"):
        judged(run, data, tmp_path / "other")


def test_contract_a_part_is_the_runs_own_where_another_would_be_drawn_now(keys, tmp_path):  # noqa: F811
    run, data = trained(keys(2))
    file = Path(run) / "split.json"
    noted = json.loads(file.read_text())
    count = len(noted["val"])
    before = {"train": noted["val"] + noted["train"][count:], "val": noted["train"][:count]}
    file.write_text(json.dumps(before))  # as an earlier version drew it, which noted no test images
    assert judged(run, data, tmp_path / "val", part="val")
    assert sorted(row["id"] for row in results(tmp_path / "val")[1]) == sorted(before["val"])


def test_contract_an_empty_part_is_named(keys, tmp_path):  # noqa: F811
    run, data = trained(keys(2))
    with pytest.raises(FoveateError, match="--part val"):
        judged(run, data, tmp_path / "out", part="test")


def test_contract_without_a_test_part_the_validation_images_are_scored_and_it_is_said(keys, tmp_path, capsys):  # noqa: F811
    run, data = trained(keys(2))
    assert judged(run, data, tmp_path / "out")
    assert "warning: the run's split has no test part" in capsys.readouterr().err
    summary, rows = results(tmp_path / "out")
    assert summary["part"] == "val"
    assert "chose the checkpoint, so these scores are optimistic" in summary["note"]
    assert sorted(r["id"] for r in rows) == sorted(json.loads((Path(run) / "split.json").read_text())["val"])


def test_contract_with_a_test_part_that_is_scored_and_nothing_is_said(keys, tmp_path, capsys):  # noqa: F811
    run, data = trained(keys(2, **SPLIT))
    file = Path(run) / "split.json"
    noted = json.loads(file.read_text())
    file.write_text(json.dumps(noted | {"unlabelled": ["00" * 16]}))  # of a folder that is not --data
    assert judged(run, data, tmp_path / "out")
    assert "no test part" not in capsys.readouterr().err
    summary, rows = results(tmp_path / "out")
    assert (summary["part"], summary["note"]) == ("test", "")
    assert sorted(r["id"] for r in rows) == sorted(json.loads((Path(run) / "split.json").read_text())["test"])


def test_contract_undefined_is_null_and_has_no_interval():
    config = SPEC.resolve({}, {"run": "r", "data": "d", "out": "o", "draws": "20"})
    found = verb.with_intervals(lambda _: {"auroc": math.nan, "n": 3.0}, list("abc"), config)
    assert plain(found) == {"auroc": {"value": None, "low": None, "high": None}, "n": {"value": 3.0}}
    values = np.array([0.1, 0.5, 0.9])
    found = verb.with_intervals(lambda picked: {"m": float(values[picked].mean())}, list("abc"), config)
    alone = bca_interval(lambda picked: float(values[picked].mean()), list("abc"), seed=0, draws=20)
    assert (found["m"]["low"], found["m"]["high"]) == alone


def test_contract_training_images_are_known_under_any_name(keys, labelled, tmp_path, capsys):  # noqa: F811
    run, data = trained(keys(2, **SPLIT))
    elsewhere = tmp_path / "elsewhere"
    for kind in ("images", "labels"):
        (elsewhere / kind).mkdir(parents=True)
        for path in (labelled[2] / kind).iterdir():
            shutil.copy(path, elsewhere / kind / f"x{path.name}")
    for place in (data, str(elsewhere)):
        capsys.readouterr()
        assert judged(run, place, tmp_path / "out", part="all")
        assert "warning: 4 of these images, or their patients" in capsys.readouterr().err
    (Path(run) / "seen.json").unlink()
    assert judged(run, data, tmp_path / "out", part="all")
    assert "whether the run was trained on these images is not known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "out on cuda while the images were evaluated: .*--gpu N",
        ),
        (MemoryError("Unable to allocate 9 GiB"), "out on cpu while the images were evaluated: end other"),
    ],
)
def test_memory_that_runs_out_is_one_paragraph(monkeypatch, capsys, error, words):
    def greedy(*_):
        raise error

    model = replace(ideal(), device=torch.device("cuda"))  # nothing is computed there
    monkeypatch.setattr(verb, "open_model", lambda *_: model)
    monkeypatch.setattr(verb, "load_cohort", greedy)
    assert main(["evaluate", "--run", "r", "--data", "d", "--out", "o"]) == 2
    said = capsys.readouterr().err
    assert re.search(words, " ".join(said.split()))
    assert "Traceback" not in said


def test_contract_values_that_the_run_does_not_know_are_an_error(keys, tmp_path):  # noqa: F811
    run, _ = trained(keys(2, **SPLIT))
    write_pair(tmp_path / "other", 2, 0, value=7)
    with pytest.raises(
        FoveateError, match=r"images/c0.png: its labels hold the values \[7\].*accepted: \[0, 1\]"
    ):
        judged(run, str(tmp_path / "other"), tmp_path / "out", part="all")
