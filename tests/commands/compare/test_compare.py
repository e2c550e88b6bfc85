"""A comparison from end to end on a tiny cohort: its report, a kill, an arm that fails, what it refuses."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from tests.conftest import SHAPES, blobs

from foveate.cli import main
from foveate.commands.compare import (
    folder as compare_bench,
    held,
    report as compare_report,
    run as compare,
)
from foveate.commands.compare.config import SPEC
from foveate.commands.compare.grid import (
    finetune_config,
    finetune_keys,
    jobs_of,
    pretrain_config,
    pretrain_keys,
)
from foveate.commands.finetune import run as finetune
from foveate.core import config as parsing
from foveate.core.files import write_json
from foveate.core.types import Ending, FoveateError
from foveate.data import salts
from foveate.nets.weights import store as weights

NAMES = [f"images/case{i}.nii.gz" for i in range(8)]
PARTS = {"train": NAMES[:3], "val": NAMES[3:4], "test": NAMES[4:]}


def resolve(file, flags):
    """The comparison that a file describes."""
    return SPEC.resolve(parsing.read_yaml(Path(file)), flags, Path(file).parent)


def grid(**task):
    """A comparison of seconds, as its file has it."""
    views = {"grid": [16, 16, 16], "source_sizes": [[16, 16, 16]]}
    return {
        "pretrain_seeds": [0],
        "finetune_seeds": [0, 1],
        "learning_rates": [0.01],
        "draws": 200,
        "arms": {"restoring": "context_restoration"},
        "tasks": {
            "blobs": {
                "split": "split",
                "labels": [2],
                "long_steps": 3,
                "both": {"size": "small", "encoder": {"width": 4}, "num_workers": 0},
                "pretrain": {"steps": 2, "batch_size": 2, "method": {"global_crops": views}},
                "finetune": {
                    "task": "segmentation",
                    "steps": 2,
                    "batch_size": 2,
                    "log_every": 1,
                    "task.crops.grid": [16, 16, 16],
                    "task.crops.source_sizes": [[16, 16, 16]],
                },
                **task,
            }
        },
    }


def write(root, content, parts=None):
    """The file of a comparison with its split."""
    (root / "split").mkdir(parents=True, exist_ok=True)
    for part, names in {**PARTS, **(parts or {})}.items():
        (root / f"split/{part}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "grid.yaml").write_text(yaml.safe_dump(content))
    return root / "grid.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight labelled images."""
    root = tmp_path_factory.mktemp("compared")
    for i, name in enumerate(NAMES):
        image = blobs(SHAPES[3], i).astype(np.int16)
        label = (image > np.median(image)).astype(np.uint8)
        for path, array in ((name, image), (name.replace("images", "labels"), label)):
            (root / path).parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 1.5, 1])), root / path)
    return root


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished comparison with an arm that cannot succeed: (its file, its folder, its exit code)."""
    home = tmp_path_factory.mktemp("grid")
    content = grid(data=str(data))
    content["arms"]["broken"] = {"method": "context_restoration", "pretrain": {"optim": {"lr": 1e30}}}
    file = write(home, content)
    code = compare.compare(resolve(str(file), {"out": str(home / "out")})).value
    return file, home / "out", code


def cells(out):
    return {cell["name"]: cell for cell in json.loads((out / "results.json").read_text())}


def test_every_run_leaves_a_line_and_the_report_is_whole(finished):
    _, out, _ = finished
    found = cells(out)
    tests = [cell for cell in found.values() if cell["kind"] == "test"]
    assert len(found) == 7  # one pre-training; scratch, scratch_long and the arm at two seeds
    assert all(len(cell["cases"]) == 4 and "mean_fg_dice" in cell["cases"][0] for cell in tests)
    assert {cell["steps"] for cell in tests if cell["arm"] == "scratch_long"} == {3}
    table = (out / "table.md").read_text()
    assert "not resolvable with n = 4 patients x 2 seeds" in table
    assert "| restoring" in table
    page = (out / "report.html").read_text()
    assert "broken-p0-pretrain: diverging" in page
    assert "blobs, full: score over labels" in page
    assert str(out) not in page
    for name in ("table.csv", "table.tex", "curves-blobs.png", "curves-blobs.svg"):
        assert (out / name).stat().st_size > 100
    assert {path.parent.name for path in out.glob("runs/*/checkpoints")} == {"blobs-broken-p0-pretrain"}


def test_every_figure_of_the_table_is_in_the_lines(finished):
    found = [c for c in cells(finished[1]).values() if c["kind"] == "test" and c["arm"] == "restoring"]
    mean = np.mean([[case["mean_fg_dice"] for case in cell["cases"]] for cell in found])
    row = next(r for r in (finished[1] / "table.csv").read_text().splitlines() if "restoring" in r)
    assert float(row.split(",")[4]) == pytest.approx(mean, rel=1e-5)


def test_an_arm_that_fails_is_reported_without_names_and_the_others_go_on(finished):
    _, out, code = finished
    assert code == 1
    line = next(x for x in (out / "table.md").read_text().splitlines() if x.startswith("| broken"))
    assert "2 failed: its pre-training failed: The loss is not finite at step 1" in line
    for path in out.rglob("*"):
        if path.is_file() and "runs" not in path.parts:
            assert not re.search(rb"case\d", path.read_bytes()), path  # as the images are called


def test_arms_saw_equal_batches_and_replicates_others(finished):
    hashes = {}
    for cell in cells(finished[1]).values():
        if cell["kind"] == "test":
            hashes.setdefault(cell["finetune_seed"], set()).add(cell["first_batch"])
    assert [len(each) for each in hashes.values()] == [1, 1]
    assert hashes[0] != hashes[1]


def test_killed_anywhere_the_same_command_gives_the_same_results(finished, data, tmp_path):
    file, whole, _ = finished
    content = yaml.safe_load(file.read_text())
    del content["arms"]["broken"]
    mine = write(tmp_path, content)
    (out := tmp_path / "out").mkdir()
    shutil.copy(whole / "salt_id", out)  # names of cases are salted for each folder
    shutil.copytree(salts.places(whole)[0], salts.places(out)[0], dirs_exist_ok=True)
    seen, tables = [], set()

    class Bomb(finetune.RunLog):
        def advance(self, done):
            super().advance(done)
            seen.append(done)
            if len(seen) == 6:  # in the middle of a run of the grid
                tables.update(each.name for each in out.iterdir())
                os.kill(os.getpid(), signal.SIGTERM)

    config = resolve(str(mine), {"out": str(out)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "RunLog", Bomb)
        patch.setattr(compare, "EARLIEST", 0.0)
        assert compare.compare(config) is Ending.STOPPED
    assert {"table.csv", "report.html"} <= tables  # of the runs before, should nothing more be written
    assert 1 < len(cells(out)) < 7
    assert "not run yet" in (out / "table.md").read_text() or len(cells(out)) >= 4
    assert compare.compare(config)

    def without_clock(folder):
        drop = ("seconds", "commit")
        return {n: {k: v for k, v in c.items() if k not in drop} for n, c in cells(folder).items()}

    assert without_clock(out) == without_clock(whole)
    for name in cells(out):
        one, two = (weights.read(folder / "runs" / name)[0] for folder in (out, whole))
        assert all(torch.equal(one[key], two[key]) for key in two), name


def test_a_finished_grid_does_nothing_and_another_configuration_is_refused(finished, capsys):
    file, out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert main(["compare", "--config", str(file), "--out", str(out), "--only", "scratch,restoring"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == before
    assert main(["compare", "--config", str(file), "--out", str(out), "--learning_rates", "[0.02]"]) == 2
    assert "with another configuration" in capsys.readouterr().err


def test_a_dry_run_counts_and_writes_nothing(data, tmp_path, capsys):
    content = grid(data=str(data), choice_labels=2, probe_labels=[2], labels=[1, 2])
    content["learning_rates"] = [0.001, 0.01]
    file = write(tmp_path, content)
    assert main(["compare", "--config", str(file), "--out", str(tmp_path / "out"), "--dry_run"]) == 0
    assert (
        "27 runs (1 pre-trainings, 10 to choose learning rates, 16 tested)"
        in (said := capsys.readouterr()).out
    )
    assert "never pre-trained on" not in said.err  # nor anything else that runs say
    assert not (tmp_path / "out").exists()


def test_each_arm_takes_its_own_best_rate_on_validation(data, tmp_path):
    content = grid(data=str(data), choice_labels=2)
    content["learning_rates"] = [0.001, 0.01, 0.1]
    config = resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out")})
    bench = compare_bench.Bench(config)
    (tmp_path / "out/cells").mkdir(parents=True)
    scores = {"scratch": [0.1, 0.3, 0.2], "restoring": [0.5, 0.4, 0.5], "scratch_long": [0.1, None, 0.1]}
    for job in jobs_of(config):
        if job.kind == "choice":
            score = scores[job.arm][[0.001, 0.01, 0.1].index(job.rate)]
            write_json(tmp_path / f"out/cells/{job.name}.json", {"validation": score})
    tests = {job.arm: job for job in jobs_of(config) if job.kind == "test"}
    assert bench.chosen(tests["scratch"]) == (0.01, 0)
    assert bench.chosen(tests["restoring"]) == (0.001, 0)  # the smaller of two equals
    with pytest.raises(FoveateError, match="not every learning rate"):
        bench.chosen(tests["scratch_long"])


def guard_of(file, tmp_path):
    config = resolve(str(file), {"out": str(tmp_path / "out")})
    first = {job.kind: job for job in reversed(jobs_of(config))}
    task = config.tasks["blobs"]
    tuning = finetune_config(finetune_keys(config, first["test"], 0.01, 1), task, None, tmp_path / "x")
    return held.guard(tuning, pretrain_config(pretrain_keys(config, first["pretrain"]), task, tmp_path / "x"))


def two_tasks(data):
    """A grid whose second task differs in fine-tuning alone."""
    content = grid(data=str(data))
    other = {**content["tasks"]["blobs"], "labels": [1]}
    return content | {"finetune_seeds": [0], "tasks": {**content["tasks"], "fewer": other}}


@pytest.mark.slow
def test_tasks_that_differ_in_fine_tuning_alone_share_their_pre_trainings(data, tmp_path):
    out = tmp_path / "out"
    config = resolve(str(write(tmp_path, two_tasks(data))), {"out": str(out)})
    assert compare.compare(config)
    found = cells(out)
    assert [name for name in found if name.endswith("pretrain")] == ["blobs-restoring-p0-pretrain"]
    report = json.loads((out / "runs/fewer-restoring-p0-full-n1-f0/transfer.encoder.json").read_text())
    assert report["share"] == 1
    hours = compare_report.hours_of(config, list(found.values()))
    spent = found["blobs-restoring-p0-pretrain"]["seconds"] / 3600
    for task in config.tasks:
        tested = found[f"{task}-restoring-p0-full-n{config.tasks[task].labels[0]}-f0"]["seconds"] / 3600
        assert hours[task, "restoring"] == pytest.approx(tested + spent)
    budget = json.loads((out / "budget.json").read_text())
    assert budget["fewer"]["seconds"]["restoring"] == budget["blobs"]["seconds"]["restoring"]  # measured once


def test_the_guard_of_a_task_looks_at_pre_trainings_it_shares(data, tmp_path):
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    shutil.copy(mine / PARTS["test"][0], mine / "images/copy.nii.gz")
    file = write(tmp_path, two_tasks(mine), {"unlabelled": ["images/copy.nii.gz"]})
    bench = compare_bench.Bench(resolve(str(file), {"out": str(tmp_path / "out")}))
    with pytest.raises(FoveateError, match="have equal voxels"):
        held.held_out(bench, "fewer")


@pytest.mark.parametrize("place", ["val", "test"])
@pytest.mark.parametrize("pretrained_only", [True, False])
def test_a_copy_of_a_held_out_image_in_the_training_set_is_refused(data, tmp_path, place, pretrained_only):
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    shutil.copy(mine / PARTS[place][0], mine / "images/copy.nii.gz")
    extra = "images/copy.nii.gz"
    if pretrained_only:
        parts = {"unlabelled": [extra]}
    else:
        shutil.copy(mine / "labels/case0.nii.gz", mine / "labels/copy.nii.gz")
        parts = {"train": [*PARTS["train"], extra]}
    file = write(tmp_path, grid(data=str(mine)), parts)
    with pytest.raises(FoveateError, match="have equal voxels"):
        guard_of(file, tmp_path)


def test_the_guard_lets_a_clean_split_through(data, tmp_path):
    held = guard_of(write(tmp_path, grid(data=str(data))), tmp_path)
    assert {record.relative for record in held.records} == {*PARTS["val"], *PARTS["test"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": {"a": {"method": "pcrlv2", "finetune": {"steps": 9}}}}, "must be equal for all arms"),
        ({"arms": {"a": {"method": "pcrlv2", "pretrain": {"steps": 9}}}}, "must be equal for all arms"),
        ({"arms": {"a": {"method": "pcrlv2", "finetune": {"tuning.average": 0.9}}}}, "must be equal for all"),
        ({"arms": {"scratch": "pcrlv2"}}, "are added automatically"),
        ({"arms": {"a": "pcrlv3"}}, "did you mean pcrlv2"),
        ({"finetune_seeds": [1, 1]}, "different numbers"),
        ({"choice_seed": 1}, "is one of finetune_seeds"),
        ({"sed": 1}, "no such key"),
    ],
)
def test_what_cannot_be_compared_is_refused(data, tmp_path, change, words):
    file = write(tmp_path, {**grid(data=str(data)), **change})
    with pytest.raises(FoveateError, match=words):
        resolve(str(file), {"out": "x"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"finetune": {"task": "segmentation", "encoder": {"width": 8}}}, "in tasks.blobs.both"),
        ({"finetune": {"task": "segmentation", "optim": {"lr": 1}}}, "set learning_rates instead"),
        ({"pretrain": {"seed": 3}}, "the comparison sets it"),
        ({"labels": [4]}, "1 to 3, the training images"),
        ({"probe_labels": [1]}, "accepted are"),
        ({"data": "$NOT_SET_ANYWHERE/x"}, "is not set"),
    ],
)
def test_what_would_make_a_task_unequal_is_refused(data, tmp_path, change, words):
    file = write(tmp_path, grid(**{"data": str(data), **change}))
    with pytest.raises(FoveateError, match=words):
        resolve(str(file), {"out": "x"})


def test_what_a_run_is_told_does_not_depend_on_where_the_command_is_given(data, tmp_path, monkeypatch):
    told = []
    for place in (tmp_path, data):  # a later command, which goes on, may be given in another folder
        monkeypatch.chdir(place)
        file = write(tmp_path, grid(data=os.path.relpath(data)))
        config = resolve(os.path.relpath(file), {"out": os.path.relpath(tmp_path / "out")})
        bench, jobs = compare_bench.Bench(config), jobs_of(config)
        told.append([bench.tuning(job, bench.out / job.name) for job in jobs if job.arm == "scratch"])
        before = next(job for job in jobs if job.kind == "pretrain")
        told[-1].append(pretrain_config(bench.keys(before), config.tasks["blobs"], bench.out / before.name))
    assert told[0] == told[1]
