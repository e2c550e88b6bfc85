"""SimSiam and BYOL against slow oracles; what their targets see."""

import numpy as np
import pytest
import torch

from foveate.commands.pretrain import run
from foveate.commands.pretrain.build import build_method
from foveate.core.types import FoveateError, Progress
from foveate.nets.weights import store as weights
from foveate.testing.test_method import first_batch

GLOBAL = ("simsiam", "byol")


def built(tiny, dimension, name, **keys):
    _, method, batch = first_batch(tiny(dimension, method={"name": name}, **keys))
    return method.double(), {**batch, "crops": {k: v.double() for k, v in batch["crops"].items()}}


def unit(rows):
    return [row / np.linalg.norm(row) for row in rows.detach().numpy()]


@pytest.mark.parametrize("dimension", [2, 3])
def test_simsiam_is_the_slow_negative_cosine(tiny, dimension):
    method, batch = built(tiny, dimension, "simsiam")
    views = method.views(batch, 0)
    z = [method.projector(method.net.encoder(x)[-1].flatten(2).mean(2)) for x in views]
    p = [method.predictor(side) for side in z]
    pairs = [(unit(p[0]), unit(z[1])), (unit(p[1]), unit(z[0]))]
    slow = -0.5 * sum(np.mean([a @ b for a, b in zip(*pair, strict=True)]) for pair in pairs)
    assert method(batch, Progress(0, 10, 0))["siamese"].item() == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize("dimension", [2, 3])
def test_byol_is_the_slow_squared_distance_to_the_target(tiny, dimension):
    method, batch = built(tiny, dimension, "byol")
    with torch.no_grad():
        for p in method.target.parameters():
            p.mul_(1.1).add_(0.01)
    views = method.views(batch, 0)
    p = [method.predictor(method.projector(method.net.encoder(x)[-1].flatten(2).mean(2))) for x in views]
    z = [method.target.projector(method.target.encoder(x)[-1].flatten(2).mean(2)) for x in views]
    pairs = [(unit(p[0]), unit(z[1])), (unit(p[1]), unit(z[0]))]
    slow = sum(np.mean([((a - b) ** 2).sum() for a, b in zip(*pair, strict=True)]) for pair in pairs)
    assert method(batch, Progress(0, 10, 0))["siamese"].item() == pytest.approx(slow, rel=1e-9)


def test_without_stop_gradient_simsiam_has_another_gradient_and_the_same_loss(tiny):
    found = []
    for stop in (True, False):
        config = tiny(2, method={"name": "simsiam", "stop_gradient": stop})
        _, method, batch = first_batch(config)
        loss = method(batch, Progress(0, 10, 0))["siamese"]
        loss.backward()
        found.append((loss.item(), method.net.encoder.conv1.weight.grad))
    assert found[0][0] == found[1][0]
    assert not torch.allclose(found[0][1], found[1][1])


@pytest.mark.parametrize("name", ["byol", "pgl"])
def test_the_target_follows_after_a_step_with_the_momentum_of_its_schedule(tiny, name):
    method, batch = built(tiny, 3, name)
    with torch.no_grad():
        for p in method.online.parameters():
            p.add_(torch.randn_like(p))
    before = {k: v.clone() for k, v in method.target.state_dict().items()}
    method.after_step(Progress(3, 10, 0))
    m = 1 - (1 - method.config.momentum) * (1 + np.cos(np.pi * 0.3)) / 2
    for key, value in method.online.state_dict().items():
        expected = m * before[key] + (1 - m) * value if value.is_floating_point() else value
        torch.testing.assert_close(method.target.state_dict()[key], expected, rtol=1e-12, atol=1e-12)
    assert any(key.endswith("running_mean") for key in before)
    losses = method(batch, Progress(4, 10, 0))
    sum(losses.values()).backward()
    assert [n for n, p in method.named_parameters() if n.startswith("target.") and p.grad is not None] == []


@pytest.mark.parametrize("name", ["byol", "pgl"])
def test_a_target_starts_from_given_weights(tiny, name):
    method, _ = built(tiny, 2, name)
    with torch.no_grad():
        for p in method.net.parameters():
            p.add_(1.0)
    method.weights_given()
    for ours, theirs in zip(method.target.parameters(), method.online.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_init_reaches_the_target(tiny, cohorts):
    assert run.pretrain(tiny(2, "first", steps=1, method={"name": "simsiam"}))
    source = str(run.Path(tiny(2, "first").out))
    config = tiny(2, "second", steps=1, init=source, method={"name": "byol"}, optim={"lr": 0.0})
    assert run.pretrain(config)
    tensors, _ = weights.read(source)
    state = torch.load(next((run.Path(config.out) / "checkpoints").glob("*.ckpt")), weights_only=True)[
        "model"
    ]
    for key in ("conv1.weight", "layer4.0.conv1.weight"):
        assert torch.equal(state[f"target.encoder.{key}"], tensors[f"encoder.{key}"])


@pytest.mark.parametrize("name", GLOBAL)
def test_global_methods_see_the_same_views_and_start_from_the_same_encoder(tiny, name):
    """What makes them baselines: only the objective differs."""
    plain, other = (first_batch(tiny(3, method={"name": n})) for n in ("pcrlv2", name))
    assert torch.equal(plain[2]["crops"]["global"], other[2]["crops"]["global"])
    for a, b in zip(plain[1].net.encoder.parameters(), other[1].net.encoder.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["context_restoration", "models_genesis"])
def test_restoring_methods_see_the_first_of_these_views(tiny, name):
    plain, other = (first_batch(tiny(3, method={"name": n})) for n in ("pcrlv2", name))
    assert torch.equal(plain[2]["crops"]["global"][:, :1], other[2]["crops"]["global"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 3}, r"method.level 3: the decoder has levels 0 \(coarsest\) to 2"),
        ({"features": "encoder", "level": -1}, r"the encoder has levels 0 \(coarsest\) to 3"),
        ({"global_crops": {"min_iou": 0.0}}, "views that overlap"),
        ({"local_weight": 0.0}, "one must be above"),
    ],
)
def test_pgl_refuses_what_cannot_be_compared(tiny, change, message):
    with pytest.raises(FoveateError, match=message):
        build_method(tiny(3, method={"name": "pgl", **change}))
