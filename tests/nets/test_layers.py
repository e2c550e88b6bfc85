"""How a network lies in memory."""

import pytest
import torch

from foveate.core.dims import LAYERS
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.layers import cumulative_statistics, laid_out
from foveate.nets.pyramid import DecoderConfig, build_pyramid


def test_a_residual_network_of_real_size_survives_its_backward_pass():
    """With 8 channels beside each other its 1x1 convolutions of stride 2 killed the process (torch 2.13)."""
    config = ENCODERS["resnet18"].config(name="resnet18", width=8)
    net = build_pyramid(config, DecoderConfig(upsample="nearest"), 2)
    for _ in range(2):
        sum(m.square().mean() for m in net(torch.randn(4, 1, 256, 256))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.encoder.parameters())


def test_a_unet_has_its_channels_beside_each_other():
    net = build_pyramid(ENCODERS["unet3d"].config(name="unet3d", width=4), DecoderConfig(), 3)
    weight = net.encoder.levels[1][0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not weight.is_contiguous()


@pytest.mark.parametrize(
    ("name", "dimension", "norm", "beside"),
    [
        ("resnet18", 2, "batch", True),
        ("resnet18", 2, "group", False),
        ("unet3d", 3, "batch", True),
        ("unet3d", 3, "instance", False),
        ("resenc", 3, "instance", False),
    ],
)
def test_on_a_gpu_channels_lie_beside_each_other_unless_the_norm_parts_them(name, dimension, norm, beside):
    """Also where the layout for a CPU is the other one; weights are the same."""
    config = ENCODERS[name].config(name=name, width=8, norm=norm)
    net = build_pyramid(config, DecoderConfig(norm=norm), dimension)
    before = {key: x.clone() for key, x in net.state_dict().items()}
    convs = [m for m in laid_out(net, dimension, "cuda").modules() if isinstance(m, LAYERS[dimension].conv)]
    big = [m.weight for m in convs if m.weight.shape[1] > 1 and m.weight.shape[2] > 1]
    layout = LAYERS[dimension].channels_last
    assert {w.is_contiguous(memory_format=layout) for w in big} == {beside}
    assert all(torch.equal(before[key], x) for key, x in net.state_dict().items())


def test_recalibrated_statistics_are_the_mean_of_all_batches_and_nothing_of_before():
    layer = torch.nn.BatchNorm1d(2)
    batches = torch.randn(5, 8, 2) + 3
    layer(batches[0])
    with cumulative_statistics(layer):
        for batch in batches:
            layer(batch)
    torch.testing.assert_close(layer.running_mean, batches.mean((0, 1)))
    torch.testing.assert_close(layer.running_var, batches.var(1).mean(0))
    assert layer.momentum == 0.1
