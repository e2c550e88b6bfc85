"""Encoders: strides, channels, and the usual names of a ResNet's parameters."""

import pytest
import torch

from foveate.core.types import FoveateError
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.encoders.resnet import ResNetConfig
from foveate.nets.encoders.sononet import SonoNetConfig
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid

STEM = ["conv1.weight", "bn1"]
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BLOCKS = {"resnet18": ([2, 2, 2, 2], 2), "resnet34": ([3, 4, 6, 3], 2), "resnet50": ([3, 4, 6, 3], 3)}


def usual_names(name):
    """Keys of the common ResNet without its classifier, spelled out from its structure."""
    counts, convolutions = BLOCKS[name]
    keys = {"conv1.weight", *(f"bn1.{k}" for k in NORM)}
    for layer, count in enumerate(counts, 1):
        for block in range(count):
            at = f"layer{layer}.{block}"
            for i in range(1, convolutions + 1):
                keys |= {f"{at}.conv{i}.weight", *(f"{at}.bn{i}.{k}" for k in NORM)}
            if block == 0 and (layer > 1 or convolutions == 3):
                keys |= {f"{at}.downsample.0.weight", *(f"{at}.downsample.1.{k}" for k in NORM)}
    return keys


@pytest.mark.parametrize("name", sorted(BLOCKS))
@pytest.mark.parametrize("dimension", [2, 3])
def test_resnet_names_shapes_and_strides_are_the_usual_ones(name, dimension):
    encoder = ENCODERS[name].build(ResNetConfig(name=name), dimension)
    state = encoder.state_dict()
    assert set(state) == usual_names(name)
    assert state["conv1.weight"].shape == (64, 1, *[7] * dimension)
    deepest = 512 * (4 if name == "resnet50" else 1)
    assert encoder.channels[-1] == deepest
    with torch.no_grad():
        maps = encoder.eval()(torch.zeros(1, 1, *[32] * dimension))
    for stride, channels, found in zip((2, 4, 8, 16, 32), encoder.channels, maps, strict=True):
        assert found.shape == (1, channels, *[32 // stride] * dimension)


def test_resnet18_has_the_usual_number_of_parameters():
    encoder = ENCODERS["resnet18"].build(ResNetConfig(in_channels=3), 2)
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512


@pytest.mark.parametrize("width", [16, 32, 64])
def test_sononet_has_the_parameters_of_the_published_list_of_layers(width):
    """Filters of the paper's table, 3 x 3 without a bias, a scale and a shift of each by its batch norm."""
    rows = [1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8]
    filters = [width * n for n in rows]
    expected = sum(9 * i * o + 2 * o for i, o in zip([1, *filters], filters, strict=False))
    encoder = ENCODERS["sononet"].build(SonoNetConfig(width=width), 2)
    assert sum(p.numel() for p in encoder.parameters()) == expected
    assert encoder.strides == (1, 2, 4, 8, 16)
    assert [p.shape[0] for p in encoder.parameters() if p.ndim == 4] == filters


def test_a_level_more_of_sononet_keeps_its_widest_filters():
    encoder = ENCODERS["sononet"].build(SonoNetConfig(width=2, levels=6), 2)
    assert (encoder.channels, encoder.strides[-1]) == ((2, 4, 8, 16, 16, 16), 32)
    with pytest.raises(FoveateError, match=r"encoder\.levels 0"):
        ENCODERS["sononet"].build(SonoNetConfig(levels=0), 2)


def test_unet3d_has_the_published_channels_and_strides():
    encoder = ENCODERS["unet3d"].build(UNetConfig(), 3)
    assert encoder.channels == (64, 128, 256, 512)
    assert encoder.strides == (1, 2, 4, 8)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize(
    ("config", "dimension"), [(UNetConfig(width=2), 3), (ResNetConfig(width=8, norm="group"), 2)]
)
def test_pyramid_is_coarse_to_fine_and_stops_where_asked(config, dimension, skips):
    net = build_pyramid(config, DecoderConfig(skips=skips, upsample="nearest"), dimension)
    x = torch.randn(2, 1, *[64] * dimension)
    maps = net(x)
    for stride, channels, found in zip(net.strides, net.channels, maps, strict=True):
        assert found.shape == (2, channels, *[64 // stride] * dimension)
    assert len(net(x, 2)) == 2


def test_skips_reach_the_decoder_and_no_skips_do_not():
    """With the bottleneck silenced, only skips can carry the image to the finest map."""
    for skips, expected in ((True, False), (False, True)):
        net = build_pyramid(UNetConfig(width=2), DecoderConfig(skips=skips), 3).eval()
        torch.nn.init.zeros_(net.encoder.levels[-1][1].norm.weight)
        first, second = (net(torch.randn(1, 1, 16, 16, 16))[-1] for _ in range(2))
        assert torch.allclose(first, second) is expected


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "unet2d"])
def test_another_norm_leaves_no_batch_norm(name, norm):
    entry = ENCODERS[name]
    net = build_pyramid(entry.config(name=name, width=4, norm=norm), DecoderConfig(norm=norm), 2)
    assert not [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_unknown_encoder_names_the_nearest():
    with pytest.raises(FoveateError, match="did you mean resnet18"):
        ENCODERS["resnet-18"]
