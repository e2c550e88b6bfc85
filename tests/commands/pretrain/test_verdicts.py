"""Runs that are made to go wrong are told so, and a healthy one is not: live, and as recorded.

`python tests/commands/pretrain/test_verdicts.py FOLDER` records these runs into tests/train/recorded/.
"""

import gzip
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from foveate.commands.pretrain import config as settings, run
from foveate.core.types import FoveateError
from foveate.train.verdicts import judge
from foveate.views import pipeline

RECORDED = Path(__file__).parents[2] / "train" / "recorded"
ALONE = {"siamese_weight": 1.0, "local_weight": 1.0, "pixel_weight": 0.0, "middle_weight": 0.0}
RUNS = {  # keys of the run, the verdict that it deserves
    "healthy": ({"steps": 20}, set()),
    "collapsing": (
        {
            "steps": 30,
            "optim": {"lr": 1e-2, "warmup_steps": 0, "schedule": "constant"},
            "method": {**ALONE, "projector": "plain", "stop_gradient": False},
        },
        {"collapsing"},
    ),
    "diverging": ({"steps": 8, "log_every": 1, "health_every": 4, "optim": {"lr": 3.0}}, {"diverging"}),
    "drowned": (
        {"steps": 10, "method": {"siamese_weight": 100.0, "local_weight": 100.0}},
        {"drowned"},
    ),
    "starving": ({"steps": 6, "batch_size": 2, "log_every": 1, "health_every": 0}, {"starving"}),
}


def keys_of(name, **more):
    keys = {"log_every": 5, "health_every": 5, "batch_size": 4, **RUNS[name][0], **more}
    return {**keys, "method": dict(keys.get("method", {}))}


def deliberate(name, patch):
    """What the configuration cannot say: no predictor, a slow reader."""
    if name == "collapsing":
        patch.setattr("foveate.nets.heads.predictor", lambda _kind, _channels: torch.nn.Identity())
    if name == "starving":
        patch.setattr(run, "CALIBRATION_BATCHES", 1)
        read = pipeline.read_views

        def slowly(*arguments):
            time.sleep(0.15)  # on a busy machine steps are slow too
            return read(*arguments)

        patch.setattr(pipeline, "read_views", slowly)


def rows_of(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("dimension", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RUNS)
def test_live_runs_get_the_verdict_they_deserve(tiny, monkeypatch, name, dimension):
    deliberate(name, monkeypatch)
    config = tiny(dimension, **keys_of(name))
    assert run.pretrain(config)
    rows = rows_of(config.out)
    assert {verdict.kind for verdict in judge(rows, config.steps)} == RUNS[name][1]
    said = (Path(config.out) / "train.log").read_text()
    if RUNS[name][1]:
        assert "To do: " in said
        assert rows[-1]["verdict"] != "healthy"
    else:
        assert {row["verdict"] for row in rows if "verdict" in row} == {"healthy"}
        assert "health at step 5: healthy" in said
    if name == "collapsing":
        assert "collapsing at scale 1/1 (features" in said


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("name", RUNS)
def test_recorded_runs_get_the_verdict_they_deserve(name, dimension):
    with gzip.open(RECORDED / f"{name}{dimension}.jsonl.gz", "rt") as stream:
        rows = [json.loads(line) for line in stream]
    assert {verdict.kind for verdict in judge(rows, rows[-1]["step"])} == RUNS[name][1]
    ever = {verdict.kind for i in range(len(rows)) for verdict in judge(rows[: i + 1], rows[-1]["step"])}
    assert ever <= RUNS[name][1]


def test_a_loss_that_is_no_number_is_a_verdict_before_it_is_an_error(tiny):
    config = tiny(2, steps=20, log_every=5, optim={"lr": 1e30, "name": "sgd"})
    with pytest.raises(FoveateError, match="not finite"):
        run.pretrain(config)
    assert "diverging: the loss is not a number" in rows_of(config.out)[-1]["verdict"]


def test_a_run_that_goes_on_judges_as_if_it_had_not_stopped(tiny):
    import tests.conftest

    whole = tiny(2, "whole", **keys_of("drowned", steps=12, save_every=3))
    assert run.pretrain(whole)
    parts = tiny(2, "parts", **keys_of("drowned", steps=12, save_every=3))
    tests.conftest.stop_at(parts, 7)
    assert run.pretrain(parts)
    pairs = [
        [(r["step"], r.get("verdict")) for r in rows_of(c.out) if "loss" not in r] for c in (whole, parts)
    ]
    assert pairs[0] == pairs[1]


def record(scratch):
    """The recorded runs, anew."""
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.conftest import tiny_keys, write_cohort

    torch.set_num_threads(1)
    for dimension in (2, 3):
        data = write_cohort(scratch / f"images{dimension}", dimension)
        for name in RUNS:
            steps = 12 if name == "starving" else 60
            with pytest.MonkeyPatch.context() as patch:
                deliberate(name, patch)
                out = scratch / f"{name}{dimension}"
                run.pretrain(
                    settings.SPEC.from_keys(tiny_keys(dimension, data, out, **keys_of(name, steps=steps)))
                )
            rows = [{k: short(v) for k, v in row.items() if k != "verdict"} for row in rows_of(out)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (RECORDED / f"{name}{dimension}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def short(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    record(Path(sys.argv[1]))
