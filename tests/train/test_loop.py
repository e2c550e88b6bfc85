"""The loop: non-finite losses, accumulation, the schedule."""

import json
from dataclasses import replace

import pytest
import torch

from foveate.commands.pretrain import run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.images import open_cache
from foveate.core.types import FoveateError, Progress
from foveate.runtime.steps import batches_from, schedule_of
from foveate.train.loop import due
from foveate.train.optim import OptimConfig, learning_rate


def test_a_non_finite_loss_names_step_terms_and_files_and_saves_nothing(tiny):
    config = tiny(2, steps=20, log_every=5, save_every=5, optim={"lr": 1e30, "name": "sgd"})
    with pytest.raises(FoveateError, match=r"not finite at step \d+: .*pixel nan.*p\d\.png") as error:
        run.pretrain(config)
    step = int(str(error.value).split("at step ")[1].split(":")[0])
    assert step < 5
    assert list((run.Path(config.out) / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("dimension", [2, 3])
def test_two_micro_batches_have_the_gradient_of_one_batch(tiny, dimension):
    """Exact only where no statistics cross samples: group norm and a plain projector."""
    options = {
        "method": {"projector": "plain"},
        "encoder": {"width": 4, "norm": "group"},
        "optim": {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "warmup_steps": 0},
        "steps": 1,
    }
    moved = []
    for name, batch, accumulate in (("whole", 4, 1), ("halves", 2, 2)):
        config = tiny(dimension, name, batch_size=batch, accumulate=accumulate, **options)
        assert config.decoder.norm == "group"
        before = build_method(config).exported()["encoder"].state_dict()
        assert run.pretrain(config)
        after, _ = run.weights.read(config.out)
        moved.append({k: after[f"encoder.{k}"] - v for k, v in before.items()})
    largest = max(float(change.abs().max()) for change in moved[0].values())
    for name, change in moved[0].items():
        # a weight near 1 is stored in steps of 1.2e-7
        assert float((change - moved[1][name]).abs().max()) <= 1e-5 * largest + 1.2e-7, name


def test_learning_rate_warms_up_and_ends_near_zero():
    config = OptimConfig(lr=2.0, warmup_steps=4)
    rates = [learning_rate(config, step, 20) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.1
    assert learning_rate(OptimConfig(lr=2.0, schedule="constant"), 19, 20) == 2.0
    polynomial = OptimConfig(lr=2.0, warmup_steps=4, schedule="polynomial")
    assert [learning_rate(polynomial, step, 20) for step in (3, 4, 12)] == [2.0, 2.0, 2.0 * 0.5**0.9]


def test_clipping_bounds_the_update(tiny):
    config = tiny(
        2,
        steps=1,
        optim={"name": "sgd", "lr": 1.0, "clip_norm": 1e-3, "weight_decay": 0.0, "warmup_steps": 0},
    )
    before = [p.detach().clone() for p in build_method(config).parameters()]
    assert run.pretrain(config)
    state = torch.load(next((run.Path(config.out) / "checkpoints").glob("*.ckpt")), weights_only=True)
    names = [name for name, _ in build_method(config).named_parameters()]
    squares = [(state["model"][n] - p).square().sum() for n, p in zip(names, before, strict=True)]
    assert 0.5e-3 < float(sum(squares)) ** 0.5 <= 1.001e-3


def test_metrics_hold_every_term_and_the_wait(tiny):
    config = tiny(3, steps=2)
    assert run.pretrain(config)
    rows = map(json.loads, (run.Path(config.out) / "metrics.jsonl").read_text().splitlines())
    row = [each for each in rows if "loss" in each][-1]  # health at the end has a line of its own
    assert {"step", "loss", "lr", "grad_norm", "seconds_per_step", "data_wait"} <= set(row)
    terms = [value for name, value in row.items() if name.startswith("loss/")]
    assert len(terms) == 4
    assert row["loss"] == pytest.approx(sum(terms))


def test_previews_that_are_off_are_not_drawn(tiny):
    config = tiny(2, steps=1, preview_every=0)
    assert run.pretrain(config)
    assert list((run.Path(config.out) / "previews").iterdir()) == []
    every = {"log_every": 2, "save_every": 3, "preview_every": 0}
    schedule = replace(schedule_of(config), steps=6, **every)
    assert [due(step, schedule) for step in range(2, 6)] == [
        (False, True, False),
        (True, False, False),
        (False, False, False),
        (True, True, False),
    ]


@pytest.mark.parametrize(
    ("key", "number", "accepted"),
    [
        *((key, 0, "from 1.") for key in ("steps", "log_every", "save_every", "keep_checkpoints")),
        ("probe_every", 0, "from 1."),
        *((key, -1, "from 1, and 0 for none.") for key in ("preview_every", "health_every")),
    ],
)
def test_numbers_of_steps_that_make_no_run_are_refused(tiny, key, number, accepted):
    with pytest.raises(FoveateError, match=f"^--{key} {number}: accepted are whole numbers {accepted}$"):
        tiny(2, **{key: number})


def test_local_crops_do_not_write_running_statistics_unless_as_published(tiny):
    for compat, unchanged in (("fixed", True), ("reference", False)):
        config = tiny(3, method={"compat": compat})
        fabric, method = run.build_fabric(config), build_method(config)
        cache = open_cache(config)
        batch = next(batches_from(config, cache, method, fabric, 0))
        means = {k: v.clone() for k, v in method.net.state_dict().items() if k.endswith("running_mean")}
        _, _, crops = method.looks(batch, 0)
        method.embed_crops(crops, {0, 1, 2})
        after = method.net.state_dict()
        assert all(torch.equal(after[k], v) for k, v in means.items()) is unchanged
        method(batch, Progress(0, 1, 0))
        assert not all(torch.equal(method.net.state_dict()[k], v) for k, v in means.items())
