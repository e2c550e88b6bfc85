"""What every method keeps, in 2D and 3D: finite, static, repeatable, resumed bit-equal, loaded back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from foveate.commands.pretrain import run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import PretrainConfig
from foveate.commands.pretrain.images import open_cache
from foveate.core.contracts import Method
from foveate.core.types import Batch, Progress
from foveate.nets.weights import store as weights
from foveate.runtime.processes import build_fabric
from foveate.runtime.steps import batches_from
from foveate.testing.runs import stop_at
from foveate.train import health

pytestmark = pytest.mark.parametrize("dimension", [2, 3])
Tiny = Callable[..., PretrainConfig]
PRECISIONS = pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])


def first_batch(config: PretrainConfig) -> tuple[Fabric, Method, Batch]:
    """What the first step of a run begins with."""
    fabric, method = build_fabric(config), build_method(config)
    cache = open_cache(config)
    return fabric, method, next(batches_from(config, cache, method, fabric, 0))


def first_losses(config: PretrainConfig) -> tuple[Method, dict[str, Tensor]]:
    """The first step, up to its gradients."""
    fabric, method, batch = first_batch(config)
    losses = fabric.setup_module(method)(batch, Progress(0, config.steps, config.seed))
    fabric.backward(torch.stack(list(losses.values())).sum())
    return method, losses


@PRECISIONS
def test_finite_and_every_exported_parameter_gets_a_gradient(
    tiny: Tiny, dimension: int, foveate_method: str, precision: str
) -> None:
    """Nothing that transfers is left as it was drawn."""
    config = tiny(dimension, method={"name": foveate_method}, precision=precision)
    method, losses = first_losses(config)
    assert losses, "forward gave no term"
    wrong = {term: value for term, value in losses.items() if value.ndim or not torch.isfinite(value)}
    assert not wrong, "terms that are no finite scalar"
    parts = tuple(method.exported())
    assert parts == config.method.exports, "Config.exports must name parts of the network, in their order"
    for part, module in method.exported().items():
        gradients = {name: p.grad for name, p in module.named_parameters()}
        bad = [name for name, g in gradients.items() if g is not None and not torch.isfinite(g).all()]
        assert not bad, f"gradients of {part} that are not finite"
        unreached = [name for name, g in gradients.items() if g is None or not g.abs().sum() > 0]
        assert not unreached, f"{part} is exported, and no term reaches these of its parameters"


def test_every_weight_has_a_gradient_at_every_step(tiny: Tiny, dimension: int, foveate_method: str) -> None:
    """A static graph, whatever a step drew: what data-parallel training relies on."""
    config = tiny(dimension, method={"name": foveate_method})
    _, method, batch = first_batch(config)
    for step in range(3):
        method.zero_grad()
        losses = method(batch, Progress(step, 10, 0))
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        trained = [(n, p) for n, p in method.named_parameters() if p.requires_grad]
        unused = [n for n, p in trained if p.grad is None]
        assert not unused, f"without a gradient at step {step}; see foveate.nets.layers.anchored"


def test_input_is_not_modified_and_a_step_repeats(tiny: Tiny, dimension: int, foveate_method: str) -> None:
    """Draws are a function of the step, not of history, nor of where they are made."""
    config = tiny(dimension, method={"name": foveate_method})
    _, method, batch = first_batch(config)
    before = {crop: views.clone() for crop, views in batch["crops"].items()}
    first = method(batch, Progress(1, 10, 0))
    nothing_drawn = cast(Batch, {part: found for part, found in batch.items() if part != "drawn"})
    second = method(nothing_drawn, Progress(1, 10, 0))
    changed = [crop for crop, views in before.items() if not torch.equal(batch["crops"][crop], views)]
    assert not changed, "forward changed these crops of its batch in place"
    one, other = ({k: v.item() for k, v in losses.items()} for losses in (first, second))
    assert one == other, (
        "the same step twice: draw with foveate.core.rng, keyed by the step or batch['index'], and so that a "
        "Draw gives a worker of the loader what it gives the step"
    )


@PRECISIONS
def test_resume_is_bit_equal(tiny: Tiny, dimension: int, foveate_method: str, precision: str) -> None:
    """Stopped by a signal after two steps of four, and gone on, or not stopped at all."""
    straight, broken = (
        tiny(dimension, folder, method={"name": foveate_method}, precision=precision)
        for folder in ("straight", "broken")
    )
    assert run.pretrain(straight)
    stop_at(broken, 2)
    assert run.pretrain(broken)
    file = "exported/weights.safetensors"
    one, other = Path(straight.out), Path(broken.out)
    assert losses_of(one) == losses_of(other), "is all state in parameters and buffers, all draws by name?"
    assert (one / file).read_bytes() == (other / file).read_bytes(), "the weights after stop and resume"
    loads_back(one, straight)


def loads_back(folder: Path, config: PretrainConfig) -> None:
    """Exported weights fill a new encoder whose maps are as it says, and a new method wholly."""
    encoder: Any = weights.load_encoder(folder)
    spec = next(iter(build_method(config).crops.values()))
    maps = encoder(torch.zeros(1, encoder.card["in_channels"], *spec.grid))
    assert [m.shape[1] for m in maps] == list(encoder.channels)
    assert [spec.grid[0] // m.shape[2] for m in maps] == list(encoder.strides)
    tensors, _ = weights.read(folder)
    report = weights.transfer(build_method(config).exported(), tensors, min_share=1.0)
    assert report.share == 1.0
    assert not report.unused


def losses_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics, but for times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = ("seconds_per_step", "data_wait", "health_seconds")
    return [{k: v for k, v in row.items() if k not in timeless} for row in rows]


def test_health_is_measured_and_changes_nothing(tiny: Tiny, dimension: int, foveate_method: str) -> None:
    """What a run measures on the way leaves no trace; a target network is found where there is one."""
    _, method, batch = first_batch(tiny(dimension, method={"name": foveate_method}, batch_size=4))
    before = {key: x.clone() for key, x in method.state_dict().items()}
    found = health.measure(method, batch, Progress(0, 10))
    assert all(torch.isfinite(torch.tensor(list(found.values()))))
    assert {"features", "pull"} <= {key.split("/")[0] for key in found}
    frozen = any(not p.requires_grad for p in method.parameters())
    assert frozen == any(key.startswith("ema_distance/") for key in found)
    assert all(torch.equal(before[key], x) for key, x in method.state_dict().items())
