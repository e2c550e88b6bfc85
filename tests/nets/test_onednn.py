"""bfloat16 on CPUs: what oneDNN computes wrongly is kept from it."""

import copy

import pytest
import torch
from torch import nn

from foveate.nets.layers import ConvBlock
from foveate.nets.onednn import sound_in_bfloat16


def gradients(net: nn.Module, image: torch.Tensor, autocast: bool) -> torch.Tensor:
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        answer = net(image)
    answer.float().square().mean().backward()
    return torch.cat([weight.grad.flatten() for weight in net.parameters()])


@pytest.mark.parametrize("planes", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_gradients_of_volumes_agree_with_float32(planes, size):
    torch.manual_seed(0)
    net = nn.Conv3d(8, 16, 3, padding=1)
    assert sound_in_bfloat16(net)
    image = torch.randn(8, 8, planes, size, size)
    for module in (net, copy.deepcopy(net)):
        expected = gradients(module, image, autocast=False)
        assert (gradients(module, image, autocast=True) - expected).norm() < 0.05 * expected.norm()


def test_a_copy_computes_with_its_own_weights():
    net = nn.Conv3d(1, 1, 3, padding=1)
    sound_in_bfloat16(net)
    teacher = copy.deepcopy(net)
    with torch.no_grad():
        net.weight.zero_()
    image = torch.randn(1, 1, 4, 4, 4)
    assert not torch.equal(net(image), teacher(image))


@pytest.mark.parametrize(
    ("net", "sound"),
    [
        (ConvBlock(1, 8, 2, "batch", bias=True), True),
        (nn.Conv2d(4, 8, 1, stride=2), True),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), False),
        (nn.Conv3d(4, 8, 3, stride=(1, 2, 2), padding=1), False),
    ],
)
def test_strides_are_not_for_onednn(net, sound):
    assert sound_in_bfloat16(net) is sound
