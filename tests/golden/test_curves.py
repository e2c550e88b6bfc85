"""Golden 20-step loss curves in float64 at width 4: numerics change only on purpose.

The suite computes ten of the steps, `make test-slow` all.

    GOLDEN_UPDATE=1 python -m pytest tests/golden

writes the curves anew; CONTRIBUTING says what must come with that ("Proof of value").
"""

import json
import os
from itertools import islice
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
ALL = 20  # steps of a curve
TERMS = "other terms than {}; a term that is off by default is left out, not 0"
VALUES = 'step {}: the numbers changed, see {}. If on purpose, read CONTRIBUTING, "Proof of value"'
# Batch norm over a few pooled rows that are nearly equal multiplies rounding by ten a step at the usual rate.
GENTLY = {"batch_size": 4, "optim": {"name": "sgd", "lr": 3e-5}}
OPTIONS = dict.fromkeys(("simsiam", "byol", "pgl", "moco", "simclr", "vicreg", "foveate"), GENTLY)

# Two curves of the usual rate: this many steps; then the rounding of another processor has grown to be seen.
SAME_ON_EVERY_PROCESSOR = {
    ("pcrlv2", 2): 12,
    ("pcrlv2", 3): 5,
    ("region_contrast", 2): 6,
    ("region_contrast", 3): 15,
}


def curve(config, dtype=torch.float64, steps=None):
    """Every term of every step, or of the first of them, by a loop of its own."""
    fabric, method = run.build_fabric(config), build_method(config).to(dtype)
    cache = open_cache(config)
    optimizer = build_optimizer(method, config.optim)
    rows = []
    for step, batch in enumerate(islice(batches_from(config, cache, method, fabric, 0), steps)):
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
@pytest.mark.parametrize("steps", [ALL // 2, pytest.param(ALL, marks=pytest.mark.slow)])
def test_golden_curve(tiny, dimension, name, steps):
    update = os.environ.get("GOLDEN_UPDATE")
    config = tiny(dimension, method={"name": name}, steps=ALL, **OPTIONS.get(name, {}))
    steps = min(steps, SAME_ON_EVERY_PROCESSOR.get((name, dimension), ALL))
    found = curve(config, steps=ALL if update else steps)
    path = CURVES / f"{name}_{dimension}d.json"
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    assert path.exists(), (
        f"a new method has no curve yet: GOLDEN_UPDATE=1 python -m pytest tests/golden -k {name}"
    )
    expected = json.loads(path.read_text())
    assert len(expected) == ALL
    assert len(found) == (ALL if update else steps)
    for step, (ours, golden) in enumerate(zip(found, expected, strict=False)):
        assert ours.keys() == golden.keys(), TERMS.format(path.name)
        # rounding: another memory layout moves a term by 2e-9 after ten steps
        assert ours == pytest.approx(golden, rel=1e-6, abs=1e-7), VALUES.format(step, path.name)


def test_the_loop_computes_what_the_plain_loop_of_this_file_does(tiny):
    config = tiny(3, steps=4)
    expected = curve(config, torch.float32)
    assert run.pretrain(config)
    lines = (Path(config.out) / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "loss" in row]  # but not health at the end
    for row, terms in zip(rows, expected, strict=True):
        assert {n: row[f"loss/{n}"] for n in terms} == pytest.approx(terms, rel=1e-6)
