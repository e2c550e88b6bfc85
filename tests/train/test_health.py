"""Health leaves no trace, and its numbers are what they say."""

import copy
import math

import pytest
import torch
from torch import nn

from foveate.commands.pretrain import health as composed, run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.images import open_cache
from foveate.core.types import FoveateError, Progress
from foveate.runtime.steps import batches_from
from foveate.scoring import embedding
from foveate.train import health
from foveate.train.loop import gradient_norms
from foveate.views.pipeline import normalise


@pytest.fixture(params=[2, 3])
def parts(request, tiny):
    config = tiny(request.param, batch_size=4)
    method = build_method(config)
    cache = open_cache(config)
    return method, next(batches_from(config, cache, method, run.build_fabric(config), 0))


def test_measuring_changes_no_weight_buffer_gradient_or_random_state(parts):
    method, batch = parts
    before = {name: x.clone() for name, x in method.state_dict().items()}
    state = torch.get_rng_state()
    assert len(health.measure(method, batch, Progress(0, 10))) > 20
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in method.parameters())
    after = method.state_dict()
    assert all(torch.equal(after[name], x) for name, x in before.items())
    assert method.training


def test_measures_are_functions_of_the_weights_alone(parts):
    method, batch = parts
    first, again = (health.measure(method, batch, Progress(0, 10)) for _ in range(2))
    assert first == again


def test_pooled_features_and_projections_are_measured_per_scale(parts):
    method, batch = parts
    with torch.no_grad(), health.undisturbed(method):
        found = health.embedding_measures(method, batch["crops"]["global"])
    with health.undisturbed(method), torch.no_grad():
        clean = normalise(batch["crops"]["global"].flatten(0, 1), method.normalisation).unflatten(0, (4, 2))
        clean = clean.expand(-1, -1, method.net.in_channels, *clean.shape[3:])
        pooled = [method.net(x)[1].flatten(2).mean(2) for x in clean.unbind(1)]
        projected = [method.embed["1"].projector(x) for x in pooled]
    stride = method.net.strides[1]
    assert found[f"features/stride{stride}/gap"] == pytest.approx(embedding.similarity_gap(*pooled), abs=1e-4)
    wanted = embedding.describe(*projected)
    for name, value in wanted.items():
        assert found[f"projections/stride{stride}/{name}"] == pytest.approx(value, rel=1e-2, abs=1e-3), name


def test_pull_is_the_norm_of_each_terms_own_gradient(parts):
    method, batch = parts
    found = health.pulls(method, batch, Progress(3, 10))
    for name in found:
        twin = copy.deepcopy(method)
        twin(batch, Progress(3, 10))[name.removeprefix("pull/")].backward()
        parts_ = gradient_norms(twin)
        assert found[name] == pytest.approx(float(parts_["grad_norm/encoder"]), rel=1e-3), name
        whole = torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None]).norm()
        assert float(parts_["grad_norm"]) == pytest.approx(float(whole), rel=1e-4)


def test_distance_of_a_target_network_and_of_nothing_else():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
            self.target = copy.deepcopy(self.online).requires_grad_(False)
            self.frozen = nn.Linear(9, 9).requires_grad_(False)

    twins = Twins()
    assert health.twin_distances(twins) == {"ema_distance/target": 0.0}
    with torch.no_grad():
        for p in twins.target.parameters():
            p.mul_(0.5)
    assert health.twin_distances(twins)["ema_distance/target"] == pytest.approx(0.5)
    assert health.twin_distances(nn.Sequential(nn.Linear(2, 2))) == {}


def test_held_out_images_are_not_trained_on(tiny):
    config = tiny(2, holdout=2)
    cache = open_cache(config)
    held, rest = composed.hold_out(cache, config)
    names = [{volume.entry.id for volume in each} for each in (held, rest, cache)]
    assert (len(held), len(rest)) == (2, 4)
    assert not names[0] & names[1]
    assert names[0] | names[1] == names[2]
    with pytest.raises(FoveateError, match="accepted are 0 to 5"):
        composed.hold_out(cache, tiny(2, holdout=6))


def test_weights_that_are_no_numbers_are_measured_without_an_error(parts):
    method, batch = parts
    with torch.no_grad():
        next(method.net.encoder.parameters()).fill_(float("nan"))
    found = health.measure(method, batch, Progress(0, 10))
    assert not all(map(math.isfinite, found.values()))


@pytest.mark.parametrize("name", ["simsiam", "byol", "pgl"])
def test_methods_without_a_whole_decoder_are_looked_at_too(tiny, name):
    """What may collapse has no decoder: its bottleneck is measured, and a target's distance."""
    config = tiny(3, method={"name": name})
    method, cache = build_method(config), open_cache(config)
    batch = next(batches_from(config, cache, method, run.build_fabric(config), 0))
    found = health.measure(method, batch, Progress(0, 10, 0))
    stride = 4 if name == "pgl" else 8
    assert f"features/stride{stride}/std" in found
    followed = [key for key in found if key.startswith("ema_distance/")]
    assert bool(followed) is (name != "simsiam")
    assert all(found[key] == 0 for key in followed)


def test_the_first_samples_are_those_of_every_part_but_the_draws():
    """Parts are mappings of tensors, tensors, and what was drawn for the whole batch."""
    batch = {
        "crops": {"global": torch.arange(6).reshape(3, 2)},
        "extent": torch.tensor([[5, 6], [7, 8], [9, 10]]),
        "index": (4, 5, 6),
        "drawn": ("for all", "of them"),
    }
    few = health.first_samples(batch, 2)
    assert few["index"] == (4, 5)
    assert few["extent"].tolist() == [[5, 6], [7, 8]]
    assert few["crops"]["global"].tolist() == [[0, 1], [2, 3]]
    assert "drawn" not in few
