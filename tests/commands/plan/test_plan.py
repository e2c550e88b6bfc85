"""What `foveate plan` says follows from what it measured."""

import re
from dataclasses import replace
from itertools import count

import pytest
import torch
from tests.test_cli import flags_of

from foveate.cli import main
from foveate.commands.plan import measure, run as plan


def probe(**keys):
    known = {"images": 100, "looked": 2, "cache_mib": 200.0, "decoding": 0.5, "once": 20.0}
    sizes = {
        "steps": [1.0] * 10,
        "empty": 100.0,
        "small": 400.0,
        "larger": 600.0,
        "room": 4000.0,
    }  # 200 and 100 a sample
    return measure.Probe(**known | sizes | {"save": 2.0, "sample": 0.1, "waited": 0.2} | keys)


def test_the_whole_is_the_sum_of_its_parts(tiny):
    config = replace(tiny(2), steps=1000, save_every=100, preview_every=500, health_every=0)
    found = probe(preview=3.0, health=1000.0)
    assert plan.total_seconds(config, found, 1.0) == 100 * 0.5 + 20 + 1000 + 10 * 2 + 2 * 3
    lines = "\n".join(plan.report(config, found))
    assert "cache: 200 MiB, made in 0.8 min" in lines
    assert "run of 1000 steps: 0.30 h, likely 0.28 to 0.33 h" in lines


def test_a_batch_that_does_not_fit_is_split_into_one_that_does(tiny):
    config = replace(tiny(2), batch_size=64, accumulate=2)
    found = probe(fits=False, peak=6600.0)
    assert "--batch_size 16 --accumulate 8" in plan.suggestion(config, found)  # 30 would fit
    assert "64 x 2 fits; up to about 478" in plan.suggestion(config, probe(room=60000.0))
    assert "does not fit" in "\n".join(plan.report(config, found))


def test_memory_that_every_batch_needs_is_counted_once():
    heavy = probe(small=100.0 + 10000 + 2 * 100, larger=100.0 + 10000 + 4 * 100)
    assert (heavy.per_sample, heavy.fixed) == (100.0, 10100.0)


def test_workers_are_those_that_keep_up_with_the_device(tiny):
    config = replace(tiny(2), batch_size=16, accumulate=2, num_workers=3, accelerator="cuda")
    line = plan.workers(config, probe(), 1.0)  # 32 samples of 0.1 s in the 0.8 s that a step computes
    assert line.startswith("workers: 4 so that the device never waits")
    assert "--num_workers is 3, with which a step waits 0.200 s: give --num_workers" in line
    assert "give" not in plan.workers(replace(config, num_workers=4), probe(), 1.0)


def quick(monkeypatch):
    """Fewer steps and batches than a plan that is to be believed."""
    for name, few in {"WARM_STEPS": 1, "STEPS": 2, "CALIBRATED": 1, "SAMPLED": 1}.items():
        monkeypatch.setattr(measure, name, few)
    monkeypatch.setattr(measure.run, "CALIBRATION_BATCHES", 1)


class Meter:
    """Memory of 1,000 MiB and 100 for every sample of the largest batch, in place of what was measured."""

    def __init__(self, monkeypatch, limit):
        self.largest, build = 0, measure.build_method

        def built(config):
            method = build(config)
            forward = method.forward

            def forwarded(batch, progress):
                if len(batch["index"]) > limit:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
                self.largest = max(self.largest, len(batch["index"]))
                return forward(batch, progress)

            method.forward = forwarded
            return method

        quick(monkeypatch)
        monkeypatch.setattr(measure, "build_method", built)
        monkeypatch.setattr(measure, "peaks_mib", lambda _cuda: (1000.0 + 100 * self.largest, 0.0))
        monkeypatch.setattr(measure, "room_mib", lambda _cuda: 1e6)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (9, ["memory: 1600 MiB at the peak", "batch: 6 x 1 fits; up to about 7998 samples would"]),
        (5, ["the batch does not fit", "batch: give --batch_size 3 --accumulate 2"]),
        (1, ["step: not measured", "not even 2 samples fit"]),
    ],
)
def test_a_batch_that_runs_out_of_memory_does_not_fit_and_the_plan_goes_on(tiny, monkeypatch, limit, said):
    Meter(monkeypatch, limit)
    text = plan.plan(tiny(2, batch_size=6, health_every=0))
    assert [line for line in said if line not in text] == []
    assert "images: 6" in text
    assert ("in 2 steps" in text) == (limit > 1)


def test_the_probe_has_the_workers_of_the_run(tiny, monkeypatch):
    quick(monkeypatch)
    used, load = [], measure.batches_from
    monkeypatch.setattr(
        measure,
        "batches_from",
        lambda config, *rest: used.append(config.num_workers) or load(replace(config, num_workers=0), *rest),
    )
    plan.plan(tiny(2, num_workers=5, health_every=0))
    assert used == [1, 1, 5, 5, 0]  # memory, memory, the steps, recalibration, the making of one sample


def test_seconds_are_read_when_the_device_is_done(tiny, monkeypatch):
    """Of a step, a preview, health and a checkpoint: the host's clock says when they were asked for."""
    quick(monkeypatch)
    clock = count(step=1000.0)
    monkeypatch.setattr(measure, "device_clock", lambda _accelerator: next(clock))
    probes, timed = [], measure.timed
    monkeypatch.setattr(measure, "timed", lambda *asked: probes.append(timed(*asked)) or probes[0])
    plan.plan(tiny(2))
    (found,) = probes
    assert min([*found.steps, found.preview, found.health, found.save]) >= 1000


def test_a_batch_that_is_made_while_the_device_computes_is_not_waited_for(monkeypatch):
    """Batches are there at 4 and 25 ; the device computes from 0 to 10 and from 10 to 20."""
    clock, busy, ready = [0.0], iter([10.0, 20.0, 30.0]), [4.0, 25.0]

    def until(moment):
        clock[0] = max(clock[0], moment)
        return clock[0]

    def source():
        for moment in ready:
            until(moment)
            yield {}

    monkeypatch.setattr(measure, "device_clock", lambda _accelerator: until(next(busy)))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    waits = []
    assert len(list(measure.watched(source(), "cuda", waits))) == 2
    assert waits == [0.0, 5.0]


def test_a_plan_of_a_fine_tuning_is_refused_and_told_where_the_key_belongs(capsys):
    assert main(["plan", "--data", "X", "--task", "detection"]) == 2
    said = capsys.readouterr().err
    assert "--task.name: there is no such key here; accepted by `foveate finetune`. `foveate plan" in said


def test_spread_widens_with_the_steps():
    calm, wild = plan.spread([1.0] * 10), plan.spread([0.5, 1.5] * 5)
    assert calm == (1.0, 0.9, 1.1)
    assert wild[0] == 1.0
    assert wild[2] > calm[2]


@pytest.mark.parametrize("dimension", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_command_measures_and_writes_nothing(dimension, tiny, cohorts, tmp_path, capsys):
    from tests.conftest import tiny_keys

    keys = tiny_keys(dimension, cohorts[dimension], tmp_path / "run", devices=2, steps=50)
    assert main(["plan", *flags_of(keys)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"step: 0\.\d+ s \(0\.\d+ to \d+\.\d+ in 10 steps\)", text)
    assert "2 processes: each needs this memory" in text
    assert re.search(r"workers: \d+ so that the device never waits", text)
    assert list(tmp_path.iterdir()) == []
