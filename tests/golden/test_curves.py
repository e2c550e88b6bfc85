"""Golden 20-step loss curves in float64 at width 4: numerics change only on purpose.

    GOLDEN_UPDATE=1 python -m pytest tests/golden

writes the curves anew; CONTRIBUTING says what must come with that ("Proof of value").
"""

import json
import os
from pathlib import Path

import pytest
import torch

from foveate.commands.pretrain import run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.images import open_cache
from foveate.core.rng import key
from foveate.core.types import Progress
from foveate.runtime.registries import METHODS
from foveate.runtime.steps import batches_from
from foveate.train.optim import build_optimizer, learning_rate, set_learning_rate

CURVES = Path(__file__).parent / "curves"
TERMS = "other terms than {}; a term that is off by default is left out, not 0"
VALUES = 'step {}: the numbers changed, see {}. If on purpose, read CONTRIBUTING, "Proof of value"'
# Batch norm over a few pooled rows that are nearly equal multiplies rounding by ten a step at the usual rate.
GENTLY = {"batch_size": 4, "optim": {"name": "sgd", "lr": 3e-5}}
OPTIONS = dict.fromkeys(("simsiam", "byol", "pgl", "moco", "simclr", "vicreg", "foveate"), GENTLY)


def curve(config, dtype=torch.float64):
    """Every term of every step, by a loop of its own."""
    fabric, method = run.build_fabric(config), build_method(config).to(dtype)
    cache = open_cache(config, Path(config.data))
    optimizer = build_optimizer(method, config.optim)
    rows = []
    for step, batch in enumerate(batches_from(config, cache, method, fabric, 0)):
        torch.manual_seed(key(config.seed, "layers", step, 0) >> 1)
        progress = Progress(step, config.steps, config.seed)
        batch["crops"] = {name: views.to(dtype) for name, views in batch["crops"].items()}
        losses = method(batch, progress)
        torch.stack(list(losses.values())).sum().backward()
        set_learning_rate(optimizer, learning_rate(config.optim, step, config.steps))
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(progress)
        rows.append({name: value.item() for name, value in losses.items()})
    return rows


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("name", METHODS.names())
def test_golden_curve(tiny, dimension, name):
    found = curve(tiny(dimension, method={"name": name}, steps=20, **OPTIONS.get(name, {})))
    path = CURVES / f"{name}_{dimension}d.json"
    if os.environ.get("GOLDEN_UPDATE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    assert path.exists(), (
        f"a new method has no curve yet: GOLDEN_UPDATE=1 python -m pytest tests/golden -k {name}"
    )
    expected = json.loads(path.read_text())
    assert len(found) == len(expected) == 20
    for step, (ours, golden) in enumerate(zip(found, expected, strict=True)):
        assert ours.keys() == golden.keys(), TERMS.format(path.name)
        # rounding: another memory layout moves a term by 2e-9 after ten steps
        assert ours == pytest.approx(golden, rel=1e-6, abs=1e-7), VALUES.format(step, path.name)


def test_the_loop_computes_what_the_plain_loop_of_this_file_does(tiny):
    config = tiny(3, steps=4)
    expected = curve(config, torch.float32)
    assert run.pretrain(config)
    lines = (Path(config.out) / "metrics.jsonl").read_text().splitlines()
    for line, terms in zip(lines, expected, strict=True):
        row = json.loads(line)
        assert {n: row[f"loss/{n}"] for n in terms} == pytest.approx(terms, rel=1e-6)
