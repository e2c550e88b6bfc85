"""What every method keeps, found by discovery: a new file under methods/ is tested without touching this."""

import json

import pytest
import torch
from tests.conftest import stop_at

from foveate.core.types import Progress
from foveate.nets import weights
from foveate.run import intake
from foveate.run import pretrain as run
from foveate.run.settings import METHODS

pytestmark = pytest.mark.parametrize("dimension", [2, 3])
EVERY = pytest.mark.parametrize("name", METHODS.names())
PRECISIONS = pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])


def first_batch(config):
    fabric, method = run.build_fabric(config), run.build_method(config)
    cache = intake.open_cache(config, run.Path(config.data))
    return fabric, method, next(run.batches_from(config, cache, method, fabric, 0))


def first_losses(config):
    fabric, method, batch = first_batch(config)
    losses = fabric.setup_module(method)(batch, Progress(0, config.steps, config.seed))
    fabric.backward(torch.stack(list(losses.values())).sum())
    return method, losses


@EVERY
@PRECISIONS
def test_finite_and_every_exported_parameter_gets_a_gradient(tiny, dimension, name, precision):
    config = tiny(dimension, method={"name": name}, precision=precision)
    method, losses = first_losses(config)
    assert losses
    assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
    assert tuple(method.exported()) == config.method.exports
    for part, module in method.exported().items():
        gradients = [p.grad for p in module.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients), part
        reached = sum(bool(g.abs().sum() > 0) for g in gradients)
        assert reached == len(gradients), f"{part}: {reached} of {len(gradients)}"


@EVERY
def test_every_parameter_has_a_gradient_at_every_step(tiny, dimension, name):
    """A static graph, whatever a step drew: what data-parallel training relies on."""
    config = tiny(dimension, method={"name": name})
    _, method, batch = first_batch(config)
    for step in range(3):
        method.zero_grad()
        losses = method(batch, Progress(step, 10, 0))
        torch.stack(list(losses.values())).sum().backward()
        trained = [(n, p) for n, p in method.named_parameters() if p.requires_grad]
        assert [n for n, p in trained if p.grad is None] == []


@EVERY
def test_input_is_not_modified_and_a_step_repeats(tiny, dimension, name):
    config = tiny(dimension, method={"name": name})
    _, method, batch = first_batch(config)
    before = {crop: views.clone() for crop, views in batch["crops"].items()}
    first = method(batch, Progress(1, 10, 0))
    second = method(batch, Progress(1, 10, 0))
    assert all(torch.equal(batch["crops"][crop], views) for crop, views in before.items())
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}


@EVERY
@PRECISIONS
def test_resume_is_bit_equal_and_exported_weights_load(tiny, dimension, name, precision):
    straight, broken = (
        tiny(dimension, folder, method={"name": name}, precision=precision)
        for folder in ("straight", "broken")
    )
    assert run.pretrain(straight)
    stop_at(broken, 2)
    assert run.pretrain(broken)
    file = "exported/weights.safetensors"
    one, other = run.Path(straight.out), run.Path(broken.out)
    assert (one / file).read_bytes() == (other / file).read_bytes()
    assert losses_of(one) == losses_of(other)

    encoder = weights.load_encoder(one)
    spec = next(iter(run.build_method(straight).crops.values()))
    maps = encoder(torch.zeros(1, encoder.card["in_channels"], *spec.grid))
    assert [m.shape[1] for m in maps] == list(encoder.channels)
    assert [spec.grid[0] // m.shape[2] for m in maps] == list(encoder.strides)
    tensors, _ = weights.read(one)
    fresh = run.build_method(straight)
    report = weights.transfer(fresh.exported(), tensors, min_share=1.0)
    assert report.share == 1.0
    assert not report.unused


def losses_of(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = ("seconds_per_step", "data_wait")
    return [{k: v for k, v in row.items() if k not in timeless} for row in rows]
