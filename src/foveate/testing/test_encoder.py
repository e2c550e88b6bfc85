"""What every encoder keeps: maps as it says, gradients everywhere, a name for the first weight."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from foveate.core.networks import Encoder, EncoderConfig
from foveate.core.types import Dimension, Norm
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.pyramid import DecoderConfig, build_pyramid

pytestmark = pytest.mark.parametrize("dimension", [2, 3])


def configured(name: str, dimension: Dimension) -> EncoderConfig:
    """The configuration of a narrow encoder; a test of a dimension that it lacks is skipped."""
    entry = ENCODERS[name]
    if dimension not in entry.dimensions:
        pytest.skip(f"{name} does not exist in {dimension}D")
    return entry.config(name=name, width=12)


def smallest(stride: int, dimension: Dimension) -> tuple[int, ...]:
    """The voxels of an image whose coarsest map has two cells, along the first axis."""
    return (2 * stride, *(stride,) * (dimension - 1))


def test_maps_are_as_the_encoder_says(foveate_encoder: str, dimension: Dimension) -> None:
    """Channels and strides, fine to coarse, and a decoder that comes back to the image's own grid."""
    config = configured(foveate_encoder, dimension)
    net = build_pyramid(config, DecoderConfig(upsample=ENCODERS[foveate_encoder].upsample), dimension)
    encoder = net.encoder
    assert isinstance(encoder, Encoder)
    assert config.decoder_norm in get_args(Norm)
    image = torch.randn(2, encoder.in_channels, *smallest(net.stride, dimension))
    maps = encoder(image)
    assert [m.shape[1] for m in maps] == list(encoder.channels)
    assert [image.shape[2] // m.shape[2] for m in maps] == list(encoder.strides)
    assert list(encoder.strides) == sorted(encoder.strides)
    assert net(image)[-1].shape[2:] == image.shape[2:]


def test_every_weight_of_an_encoder_has_a_gradient(foveate_encoder: str, dimension: Dimension) -> None:
    """And the one that reads the image is the one that it names."""
    config = configured(foveate_encoder, dimension)
    encoder = ENCODERS[foveate_encoder].build(config, dimension)
    coarsest = max(encoder.strides)
    maps = encoder(torch.randn(2, config.in_channels, *smallest(coarsest, dimension)))
    torch.stack([m.square().mean() for m in maps]).sum().backward()  # type: ignore[no-untyped-call]
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []
    assert dict(encoder.named_parameters())[encoder.input_weight].shape[1] == config.in_channels
