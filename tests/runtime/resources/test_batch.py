"""Memory that runs out: a paragraph with the next command, and `--batch_size auto`."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from tests.conftest import tiny_keys
from tests.test_cli import flags_of

from foveate.cli import main
from foveate.commands.finetune import run as tuning
from foveate.commands.pretrain import config as settings, run
from foveate.core.types import FoveateError
from foveate.runtime.processes import build_fabric
from foveate.runtime.resources import fitting
from foveate.runtime.resources.shortage import halved
from foveate.testing.runs import task_keys

ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
    ),
}


def short_of(build, most, tried, error=ERRORS["cuda"]):
    """A builder whose models hold no more samples than `most`; `tried` notes the batches they were given."""

    def built(config):
        model = build(config)
        forward = model.forward

        def forwarded(batch, progress):
            tried.append(len(batch["index"]))
            if tried[-1] > most:
                raise error
            return forward(batch, progress)

        model.forward = forwarded
        return model

    return built


@pytest.mark.parametrize("kind", list(ERRORS))
@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_pretraining_says_what_to_give_instead(cohorts, tmp_path, monkeypatch, capsys, kind, more):
    monkeypatch.setattr(run, "build_method", short_of(run.build_method, 3, [], ERRORS[kind]))
    keys = tiny_keys(2, cohorts[2], tmp_path / "run", batch_size=4, steps=1)
    assert main(["pretrain", *flags_of(keys), *more]) == 2
    said = capsys.readouterr().err
    assert "Give --batch_size 2 --accumulate 2, which keeps the 4 samples of a step" in said
    assert "--activation_checkpointing true" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_fine_tuning_says_what_to_give_instead(labelled_cohorts, tmp_path, monkeypatch, capsys, more):
    monkeypatch.setattr(tuning, "build_task", short_of(tuning.build_task, 1, []))
    keys = task_keys("segmentation", 2, labelled_cohorts[2], tmp_path / "run", "kind")
    assert main(["finetune", *flags_of(keys), *more]) == 2
    assert "Give --batch_size 1 --accumulate 2" in capsys.readouterr().err


def test_other_errors_stay_as_they_are(cohorts, tmp_path, monkeypatch):
    built = short_of(run.build_method, 0, [], RuntimeError("shapes"))
    monkeypatch.setattr(run, "build_method", built)
    keys = tiny_keys(2, cohorts[2], tmp_path / "run", steps=1)
    with pytest.raises(RuntimeError, match="shapes"):
        main(["pretrain", *flags_of(keys)])


def test_auto_takes_what_fits_and_a_resumed_run_takes_the_same(cohorts, tmp_path, monkeypatch, capsys):
    tried = []
    monkeypatch.setattr(run, "build_method", short_of(run.build_method, 2, tried))
    keys = tiny_keys(2, cohorts[2], tmp_path / "auto", steps=1, batch_size="auto")
    assert main(["pretrain", *flags_of(keys)]) == 0
    said = yaml.safe_load((tmp_path / "auto" / "run.yaml").read_text())
    assert (said["batch_size"], said["accumulate"], said["fit_batch"]) == (2, 2, False)
    assert tried[:5] == [4, 2, 2, 2, 2]  # the default of the size, its half twice, and the run itself
    assert "step 1: health was not measured, for want of memory" in " ".join(capsys.readouterr().err.split())

    def never(*_):
        raise AssertionError("it was tried again")

    monkeypatch.setattr(fitting, "fits", never)
    assert main(["pretrain", *flags_of({**keys, "steps": 2})]) == 0
    plain = tiny_keys(2, cohorts[2], tmp_path / "plain", steps=2, batch_size=2, accumulate=2)
    assert main(["pretrain", *flags_of(plain)]) == 0
    rows = [
        [
            {
                key: value
                for key, value in json.loads(line).items()
                if "seconds" not in key and key != "data_wait"
            }
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("auto", "plain")
    ]
    assert rows[0] == rows[1]


class Other:
    """A process beside which another one is short of memory at first."""

    def __init__(self):
        self.short = [1.0, 0.0]

    def highest(self, value):
        return max(value, self.short.pop(0))


def test_all_processes_take_what_fits_on_every_one(cohorts, tmp_path):
    keys = tiny_keys(2, cohorts[2], tmp_path / "run", batch_size=4, accumulate=3, fit_batch=True)
    config = settings.SPEC.from_keys(keys)
    cache = run.open_cache(config)
    fabric = build_fabric(config)

    def load(tried, model):
        return run.batches_from(tried, cache, model, fabric, 0)

    taken = fitting.fitted(config, run.build_method, load, fabric, Other(), least=2)
    assert (taken.batch_size, taken.accumulate) == (2, 6)


def test_where_nothing_fits_it_is_said(cohorts, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "build_method", short_of(run.build_method, 1, []))
    keys = tiny_keys(2, cohorts[2], tmp_path / "run", steps=1, batch_size="auto")
    with pytest.raises(FoveateError, match="not even 2 samples fit"):
        run.pretrain(settings.SPEC.from_keys(keys))


@pytest.mark.parametrize(
    ("batch", "accumulate", "least", "smaller"),
    [
        (32, 1, 2, (16, 2)),
        (6, 1, 2, (3, 2)),
        (7, 1, 2, None),
        (7, 4, 2, (2, 14)),
        (2, 1, 2, None),
        (2, 1, 1, (1, 2)),
    ],
)
def test_halves_keep_the_samples_of_a_step(tiny, batch, accumulate, least, smaller):
    found = halved(replace(tiny(2), batch_size=batch, accumulate=accumulate), least)
    assert (found and (found.batch_size, found.accumulate)) == smaller
    assert found is None or found.batch_size * found.accumulate == batch * accumulate
