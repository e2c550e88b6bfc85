"""Parameter groups: the share of the rate by depth, the steps in which the encoder waits."""

import pytest
import torch
from torch import nn

from foveate.core.types import FoveateError
from foveate.train.optim import (
    OptimConfig,
    TuningConfig,
    build_optimizer,
    parameter_groups,
    set_learning_rate,
)


def parts():
    head, deep, stem = (nn.Linear(2, 2) for _ in range(3))
    stages = [list(part.parameters()) for part in (head, deep, stem)]
    return (head, deep, stem), stages, {*stages[1], *stages[2]}


def test_the_rate_falls_with_the_distance_and_the_encoder_waits():
    _, stages, encoder = parts()
    groups = parameter_groups(stages, encoder, TuningConfig(layer_decay=0.5, frozen_steps=3))
    optimizer = build_optimizer(nn.Module(), OptimConfig(name="adamw"), groups)
    set_learning_rate(optimizer, 1.0, 2)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.0, 0.0]
    set_learning_rate(optimizer, 1.0, 3)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_waiting_encoder_does_not_move(name):
    (head, deep, stem), stages, encoder = parts()
    before = [part.weight.detach().clone() for part in (head, deep, stem)]
    optimizer = build_optimizer(
        nn.Module(), OptimConfig(name=name), parameter_groups(stages, encoder, TuningConfig(frozen_steps=2))
    )
    for step in range(3):
        stem(deep(head(torch.ones(1, 2)))).sum().backward()
        set_learning_rate(optimizer, 0.1, step)
        optimizer.step()
        moved = [not torch.equal(a, part.weight) for a, part in zip(before, (head, deep, stem), strict=True)]
        assert moved == [True, step == 2, step == 2]


def test_frozen_parameters_are_in_no_group():
    (_, deep, stem), stages, encoder = parts()
    for part in (deep, stem):
        part.requires_grad_(False)
    groups = parameter_groups(stages, encoder, TuningConfig())
    assert [len(group["params"]) for group in groups] == [2]


def test_without_groups_nothing_changes():
    net = nn.Linear(2, 2)
    optimizer = build_optimizer(net, OptimConfig(name="sgd"))
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]


@pytest.mark.parametrize("wrong", [{"layer_decay": 0.0}, {"layer_decay": 1.5}, {"frozen_steps": -1}])
def test_values_that_mean_nothing_are_refused(wrong):
    with pytest.raises(FoveateError, match=f"tuning.{next(iter(wrong))}"):
        TuningConfig(**wrong)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weights_are_updated_many_at_a_time_to_the_same_bits_as_one_by_one(name):
    together, alone = (nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)) for _ in range(2))
    alone.load_state_dict(together.state_dict())
    config = OptimConfig(name=name, lr=0.01, weight_decay=0.1, momentum=0.9)
    for net, foreach in ((together, True), (alone, False)):
        optimizer = build_optimizer(net, config)
        assert all(group["foreach"] for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["foreach"] = foreach
        for seed in range(5):
            net(torch.randn(9, 7, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)
