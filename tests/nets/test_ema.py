"""The target network: exact averages, buffers included, no gradient, a schedule that ends at 1."""

import math

import pytest
import torch
from torch import nn

from foveate.core.types import Progress
from foveate.nets.ema import as_target, follow, frozen_copy, momentum_at


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)).double()
    net(torch.randn(4, 1, 8, 8, dtype=torch.float64))  # running statistics of its own
    return net


def disturb(net):
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p))
    net(torch.randn(4, 1, 8, 8, dtype=torch.float64) * 3)


def test_the_average_is_exact_for_parameters_and_buffers_over_many_steps():
    online = network()
    target = frozen_copy(online)
    expected = {k: v.clone() for k, v in target.state_dict().items()}
    for momentum in (0.9, 0.5, 0.996, 0.0, 0.99):
        disturb(online)
        follow(target, online, momentum)
        for name, value in online.state_dict().items():
            floating = value.is_floating_point()
            expected[name] = momentum * expected[name] + (1 - momentum) * value if floating else value.clone()
    found = target.state_dict()
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= set(found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-13, atol=1e-14)


def test_momentum_1_keeps_and_0_copies_bit_for_bit():
    online = network()
    target = frozen_copy(online)
    before = {k: v.clone() for k, v in target.state_dict().items() if v.is_floating_point()}
    disturb(online)
    follow(target, online, 1.0)
    assert all(torch.equal(target.state_dict()[k], v) for k, v in before.items())
    follow(target, online, 0.0)
    assert all(torch.equal(target.state_dict()[k], v) for k, v in online.state_dict().items())


def test_a_target_takes_no_gradient_and_writes_no_statistics():
    online = network()
    target = frozen_copy(online)
    assert [p for p in target.parameters() if p.requires_grad] == []
    assert all(a is not b for a, b in zip(target.parameters(), online.parameters(), strict=True))
    before = {k: v.clone() for k, v in target.state_dict().items() if v.is_floating_point()}
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    with as_target(target):
        y = target(x)
    assert not y.requires_grad
    assert all(torch.equal(target.state_dict()[k], v) for k, v in before.items())
    torch.testing.assert_close(y, online(x))  # batch statistics, as the online network in training


def test_momentum_rises_on_a_half_cosine():
    for step in (0, 7, 50, 100):
        slow = 1 - (1 - 0.97) * (math.cos(math.pi * step / 100) + 1) / 2
        assert momentum_at(Progress(step, 100), 0.97, "cosine") == pytest.approx(slow, rel=1e-15)
        assert momentum_at(Progress(step, 100), 0.97, "constant") == 0.97
