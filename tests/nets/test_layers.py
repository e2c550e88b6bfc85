"""How a network lies in memory."""

import torch

from foveate.nets.encoders.catalogue import ENCODERS
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
