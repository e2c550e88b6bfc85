"""The grids of benchmarks/evidence: every key of every arm is known, and the arms are fair."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foveate.commands.compare.config import SPEC, lines_of
from foveate.commands.compare.grid import (
    finetune_config,
    finetune_keys,
    jobs_of,
    pretrain_config,
    pretrain_keys,
)
from foveate.core import config as parsing
from foveate.runtime import precision
from foveate.train.semi.settings import SemiConfig

FOLDER = Path(__file__).parents[2] / "benchmarks/evidence"
FILES = sorted(FOLDER.glob("*.yaml"))


LARGE = sorted(FOLDER.glob("large/*.yaml"))
ALIKE = [pytest.param(file, marks=pytest.mark.slow) for file in LARGE[1:]]  # the same arms on other data


@pytest.mark.parametrize("file", [*FILES, LARGE[0], *ALIKE], ids=lambda path: path.stem)
def test_a_grid_parses_and_its_arms_differ_in_their_weights_only(file, tmp_path, monkeypatch):
    for name in ("FOVEATE_DATA", "FOVEATE_EVIDENCE"):
        monkeypatch.setenv(name, str(tmp_path))
    if file in LARGE:  # their images and lists are elsewhere
        assert "# Not run: " in file.read_text()
        split = tmp_path / f"{file.stem}_split"
        split.mkdir()
        for part in ("train", "val", "test"):
            (split / f"{part}.txt").write_text("".join(f"{part}{i}\n" for i in range(30000)))
    keys = parsing.read_yaml(file)
    if file in LARGE:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(precision, "has_bfloat16", lambda *_: True)
    config = SPEC.resolve(keys, {"out": str(tmp_path / "out")}, FOLDER)
    seen, trained = {}, {}
    for job in jobs_of(config):
        task = replace(config.tasks[job.task], data="")  # the images are elsewhere
        where = tmp_path / job.name
        if job.kind == "pretrain":
            keys = pretrain_keys(config, job)
            made = pretrain_config({k: v for k, v in keys.items() if k != "method.schedule"}, task, where)
            seen[job.arm] = made.method.normalisation
        elif job.arm not in trained:
            keys = finetune_keys(config, job, config.grid.learning_rates[0], 10)
            unlabelled = config.arms[job.arm].unlabelled if job.arm in config.arms else ""
            made = finetune_config(keys, task, None, where, unlabelled)
            made = replace(made, unlabelled="", semi=SemiConfig())
            seen[f"{job.arm} fine-tuned"] = made.task.normalisation
            made = replace(made, out="", seed=0, steps=0, validate_every=0)  # of the steps
            trained[job.arm] = replace(made, tuning=None, split=None)
    assert set(seen.values()) == {"zscore"}
    assert set(trained) == set(config.everyone)
    assert all(each == trained["scratch"] for each in trained.values())


def test_the_planted_arms_are_scratch_with_other_draws_and_with_twice_the_labels(tmp_path, monkeypatch):
    for name in ("FOVEATE_DATA", "FOVEATE_EVIDENCE"):
        monkeypatch.setenv(name, str(tmp_path))
    config = SPEC.resolve(parsing.read_yaml(FOLDER / "acdc.yaml"), {"out": "x"}, FOLDER)
    jobs = [job for job in jobs_of(config) if job.kind == "test" and (job.labels, job.label_set) == (1, 1)]
    keys = {job.arm: finetune_keys(config, job, 0.1, 1) for job in jobs if job.finetune_seed == 0}
    assert not [job for job in jobs_of(config) if job.kind == "pretrain" and job.arm in ("again", "twice")]
    scratch = keys["scratch"]
    assert keys["again"] == {**scratch, "seed": scratch["seed"] + 10**6}
    assert keys["twice"] == {**keys["again"], "split.train_patients": 2}


def test_every_large_data_set_has_its_grid():
    named = {"brats18", "chestxray14", "chexpert", "lits", "luna16", "organ_ct"}
    assert {file.stem for file in LARGE} == named


@pytest.mark.parametrize("name", ["acdc", "lidc"])
def test_the_parts_of_a_split_share_no_image_and_no_patient(name):
    parts = {part: lines_of(str(FOLDER / f"{name}_split"), part) for part in ("train", "val", "test")}
    assert {part: len(names) for part, names in parts.items()} == {
        "acdc": {"train": 140, "val": 20, "test": 40},
        "lidc": {"train": 345, "val": 20, "test": 100},
    }[name]
    owners = [{each.split("_frame")[0] for each in names} for names in parts.values()]
    assert len(set.union(*owners)) == sum(map(len, owners))
