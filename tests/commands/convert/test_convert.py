"""Files of every known family come in and compute what a plain network of their names computes."""

import argparse
import json
import pathlib
import re

import numpy as np
import pytest
import torch
from monai.networks.nets import swin_unetr
from safetensors.torch import save_file
from tests.nets.weights import plain

from foveate import load_encoder
from foveate.cli import main
from foveate.commands.convert.run import ConvertConfig, convert
from foveate.core.types import FoveateError
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.nets.weights import store as weights

COUNTS = {
    "resnet10": [1, 1, 1, 1],
    "resnet18": [2, 2, 2, 2],
    "resnet34": [3, 4, 6, 3],
    "resnet50": [3, 4, 6, 3],
}


def bring_in(tmp_path, content, **keys):
    """Save as a training script does, convert, load."""
    source, out = tmp_path / "theirs.pth", tmp_path / "ours.safetensors"
    torch.save(content, source)
    report = convert(source, ConvertConfig(out=str(out), **keys))
    return load_encoder(out), report


def wrapped(net, prefix="module."):
    """The state dict as DataParallel leaves it."""
    return {prefix + name: tensor.clone() for name, tensor in net.state_dict().items()}


def other_way(images):
    """Images or maps with their axes in the reverse order."""
    return [m.permute(0, 1, *reversed(range(2, m.ndim))) for m in images]


def assert_same_other_way(ours, theirs, x, channels=1):
    """Theirs reads (rows, columns) or (z, y, x); in float64, for sums over axes have another order."""
    x = x.double()
    (turned,) = other_way([x.repeat(1, channels, *[1] * (x.ndim - 2))])
    assert_same(ours.double()(x), other_way(theirs.eval().double()(turned)))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        assert (mine - other).abs().max() <= 1e-6 * other.abs().max()


@pytest.mark.parametrize("skips", [False, True])
@torch.no_grad()
def test_unets_of_pcrlv2_and_models_genesis_come_in_with_their_decoder(tmp_path, skips):
    net = plain.randomised(plain.PlainUNet(skips=skips, heads=not skips))
    options = argparse.Namespace(lr=1e-3, data=pathlib.PurePosixPath("/private/name"), best=np.float64(0.5))
    content = {"opt": options, "state_dict": wrapped(net) if skips else net.state_dict(), "epoch": 240}
    encoder, report = bring_in(tmp_path, content)
    x = torch.randn(1, 1, 16, 16, 16)
    assert encoder.card["family"] == ("models_genesis" if skips else "pcrlv2_3d")
    assert report.share == 1
    assert_same(encoder(x), net(x))

    tensors, card = weights.read(tmp_path / "ours.safetensors")
    pyramid = build_pyramid(
        type(encoder_config(card))(**card["encoder"]), DecoderConfig(**card["decoder"]), 3
    ).eval()
    weights.transfer({"encoder": pyramid.encoder, "decoder": pyramid.decoder}, tensors, min_share=1.0)
    assert_same([pyramid(x)[-1]], [net.decode(net(x))])
    assert "private" not in json.dumps(card) + (tmp_path / "ours.transfer.json").read_text()


def encoder_config(card):
    from foveate.nets.weights.card import encoder_config as build

    return build(card)


@pytest.mark.parametrize("fc", [0, 14])
@torch.no_grad()
def test_the_2d_encoder_of_pcrlv2_comes_in_with_and_without_its_classifier(tmp_path, fc):
    net = plain.randomised(plain.PlainResNet(2, COUNTS["resnet18"], fc=fc))
    content = {"opt": argparse.Namespace(b=64), "state_dict": net.state_dict()}
    encoder, report = bring_in(tmp_path, content, family="pcrlv2_2d")
    x = torch.randn(2, 3, 64, 96)
    assert_same_other_way(encoder, net, x)
    assert encoder.card["family"] == "pcrlv2_2d"
    assert encoder.card["normalisation"] == "imagenet"
    assert ("not converted" in str(report.notes)) == bool(fc)


@pytest.mark.parametrize(("name", "expansion"), [("resnet18", 1), ("resnet34", 1), ("resnet50", 4)])
@torch.no_grad()
def test_torchvision_and_timm_resnets_come_in(tmp_path, name, expansion):
    net = plain.randomised(plain.PlainResNet(2, COUNTS[name], expansion, fc=1000))
    source, out = tmp_path / "model.safetensors", tmp_path / "ours.safetensors"
    save_file(net.state_dict(), source)  # as timm publishes: no card
    convert(source, ConvertConfig(out=str(out)))
    encoder, x = load_encoder(out), torch.randn(1, 3, 64, 96)
    assert encoder.card["encoder"]["name"] == name
    assert encoder.card["family"] == "torchvision"
    assert_same_other_way(encoder, net, x)


MEDICAL = [("resnet10", 1, False), ("resnet18", 1, True), ("resnet34", 1, True), ("resnet50", 4, False)]


@pytest.mark.parametrize(("name", "expansion", "padded"), MEDICAL)
@torch.no_grad()
def test_medicalnet_comes_in_dilated_with_either_shortcut(tmp_path, name, expansion, padded):
    kind = {"width": 4, "channels": 1, "padded": padded, "dilated": True}
    net = plain.randomised(plain.PlainResNet(3, COUNTS[name], expansion, **kind))
    encoder, _ = bring_in(tmp_path, {"state_dict": wrapped(net)})
    x = torch.randn(1, 1, 32, 32, 32)
    assert encoder.card["family"] == "medicalnet"
    assert encoder.card["encoder"]["shortcut"] == ("pad" if padded else "conv")
    assert encoder.strides == (2, 4, 8)
    assert_same(encoder(x), net(x))


def permute_as_written(x, pattern):
    """The part of einops that MONAI's transformer asks for."""
    before, after = (side.split() for side in pattern.split("->"))
    return x.permute([before.index(axis) for axis in after])


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("form", ["swinViT.", "module.swin_vit.", "module."])
@torch.no_grad()
def test_swin_unetr_comes_in_whole_and_as_its_transformer(tmp_path, monkeypatch, dimension, v2, form):
    monkeypatch.setattr(swin_unetr, "rearrange", permute_as_written)
    whole = swin_unetr.SwinUNETR(1, 2, feature_size=12, window_size=3, spatial_dims=dimension, use_v2=v2)
    net = plain.randomised(whole.swinViT)
    state = (
        {k: t.clone() for k, t in whole.state_dict().items()} if form == "swinViT." else wrapped(net, form)
    )
    if form == "module.":  # as the self-supervised files have them
        state = {name.replace("mlp.linear", "mlp.fc"): tensor for name, tensor in state.items()}
        state["module.rotation_head.weight"] = torch.zeros(4, 192)
    encoder, _ = bring_in(tmp_path, {"state_dict": state})
    x = torch.randn(1, 1, *[32] * dimension)
    assert encoder.card["family"] == "swin_unetr"
    assert encoder.card["encoder"]["residual_blocks"] is v2
    assert_same(encoder(x), net(x))


def nnssl_file(net, strides):
    plan = {
        "architecture_plans": {"arch_class_name": "ResidualEncoderUNet", "arch_kwargs": {"strides": strides}}
    }
    return {"network_weights": net.state_dict(), "nnssl_adaptation_plan": plan, "citations": ["someone"]}


@pytest.mark.parametrize("dimension", [2, 3])
@torch.no_grad()
def test_nnssl_residual_encoders_come_in(tmp_path, dimension):
    net = plain.randomised(plain.PlainResEnc(dimension))
    encoder, report = bring_in(tmp_path, nnssl_file(net, [[1] * dimension, *[[2] * dimension] * 3]))
    x = torch.randn(1, 1, *[32, 16, 48][:dimension])
    assert encoder.card["family"] == "nnssl"
    assert "strides" not in str(report.notes)
    assert_same_other_way(encoder, net, x)


def test_nnssl_strides_that_no_encoder_has_are_refused_and_unsaid_ones_are_noted(tmp_path):
    net = plain.PlainResEnc(3)
    with pytest.raises(
        FoveateError, match=r"nnssl, but its strides are .*1, 2, 2.*would compute something else"
    ):
        bring_in(tmp_path, nnssl_file(net, [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]))
    _, report = bring_in(tmp_path, {"network_weights": net.state_dict()})
    assert "strides are not in the file" in str(report.notes)


# ---------------------------------------------------------------- what does not fit


@pytest.fixture
def state():
    return plain.randomised(plain.PlainResNet(2, COUNTS["resnet18"], fc=5)).state_dict()


def test_a_renamed_key_is_named_on_both_sides(tmp_path, state):
    state["layer2.0.convolution.weight"] = state.pop("layer2.0.conv1.weight")
    del state["layer1.0.bn1.bias"]
    with pytest.raises(FoveateError, match=r"looks like torchvision .* resnet18 in 2D") as error:
        bring_in(tmp_path, {"state_dict": state})
    text = str(error.value)
    assert "encoder.layer2.0.conv1.weight (not in the file)" in text
    assert "encoder.layer1.0.bn1.bias (not in the file)" in text
    assert "encoder.layer2.0.convolution.weight (not in the network)" in text
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_missing_block_is_named_and_may_be_tolerated(tmp_path, state):
    short = {name: tensor for name, tensor in state.items() if not name.startswith("layer1.1.")}
    with pytest.raises(
        FoveateError, match=r"resnet18 in 2D, but only 9\d\.\d% .*layer1\.1\.bn1\.bias \(not in"
    ):
        bring_in(tmp_path, short)
    source, out = tmp_path / "theirs.pth", tmp_path / "partial.safetensors"
    report = convert(source, ConvertConfig(out=str(out), min_transfer=0.9))
    assert {name.rsplit(".", 2)[0] for name in report.random} == {"encoder.layer1.1"}
    with pytest.raises(FoveateError, match=r"fills 99% of the encoder, less than --min_transfer 1"):
        load_encoder(out)
    assert load_encoder(out, min_transfer=0.9).report.share < 1


def test_a_wrong_channel_count_is_said_in_both_shapes(tmp_path, state):
    state["layer3.1.conv2.weight"] = torch.zeros(30, 32, 3, 3)
    with pytest.raises(
        FoveateError, match=r"layer3\.1\.conv2\.weight \(\(30, 32, 3, 3\) in the file, \(32, 32"
    ):
        bring_in(tmp_path, state)


def test_a_deeper_network_of_the_same_names_is_not_taken_for_a_shallower_one(tmp_path):
    state = plain.PlainResNet(2, [3, 4, 30, 3], 4).state_dict()
    with pytest.raises(FoveateError, match=r"resnet101 .*layer3\.23\.\S+ \(not in the network\)"):
        bring_in(tmp_path, state)


def test_statistics_that_are_missing_count(tmp_path, state):
    without = {name: tensor for name, tensor in state.items() if "running" not in name}
    with pytest.raises(FoveateError, match=r"bn1\.running_mean \(not in the file\)"):
        bring_in(tmp_path, without)


STRANGERS = {
    "swin_unetr": ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"],
    "nnssl": ["encoder.stages.0.0.convs.0.conv.weight", "encoder.stages.0.0.convs.0.norm.weight"],
    "models_genesis": ["down_tr64.block.conv.weight", "up_tr256.ops.0.weight"],
}


@pytest.mark.parametrize("nearest", STRANGERS)
def test_an_unknown_file_gets_its_nearest_family(tmp_path, nearest):
    state = {name: torch.zeros(3, 3) for name in STRANGERS[nearest]}
    with pytest.raises(FoveateError, match=rf"is of no known family.*most like those of {nearest} "):
        bring_in(tmp_path, state)


def test_two_networks_in_one_file_are_told_apart_by_prefix(tmp_path, state):
    other = plain.randomised(plain.PlainResNet(2, COUNTS["resnet18"]), seed=1)
    both = {f"student.{k}": t for k, t in state.items()} | {
        f"teacher.{k}": t for k, t in other.state_dict().items()
    }
    with pytest.raises(FoveateError, match="--prefix"):
        bring_in(tmp_path, both)
    encoder, _ = bring_in(tmp_path, both, prefix="teacher.")
    assert torch.equal(encoder.conv1.weight, other.conv1.weight.transpose(2, 3))


# ---------------------------------------------------------------- adaptations of whole networks


@torch.no_grad()
def test_channels_are_adapted_at_conversion_and_replicated_images_give_the_same(tmp_path, state):
    net = plain.PlainResNet(2, COUNTS["resnet18"], fc=5)
    net.load_state_dict(state)
    encoder, report = bring_in(tmp_path, state, in_channels=1)
    assert_same_other_way(encoder, net, torch.randn(1, 1, 64, 96), channels=3)
    assert report.adapted == {"encoder.conv1.weight": "image channels 3 -> 1 (summed)"}
    assert encoder.card["in_channels"] == encoder.card["encoder"]["in_channels"] == 1


@pytest.mark.parametrize("how", ["mean", "centre"])
@torch.no_grad()
def test_an_inflated_resnet_sees_in_a_constant_stack_what_it_saw_in_the_slice(tmp_path, state, how):
    net = plain.PlainResNet(2, COUNTS["resnet18"], fc=5)
    net.load_state_dict(state)
    encoder, _ = bring_in(tmp_path, state, inflate=how)
    for module in [*net.modules(), *encoder.modules()] if how == "mean" else ():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            module.padding_mode = "replicate"  # a constant stack has no end
            module._reversed_padding_repeated_twice = [p for p in reversed(module.padding) for _ in range(2)]
    net.double(), encoder.double()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    flat = other_way(net.eval()(x.transpose(2, 3)))
    deep = encoder(x[..., None].expand(*x.shape, 64))
    assert_same(deep, [m[..., None].expand(*m.shape, m.shape[-1]) for m in flat])
    assert encoder.card["dimension"] == 3


@torch.no_grad()
def test_a_foveate_file_is_adapted_too_and_another_window_keeps_every_name(tmp_path):
    source = swin_unetr.SwinUNETR(1, 2, feature_size=12, window_size=3, spatial_dims=2).state_dict()
    bring_in(tmp_path, source)
    out = tmp_path / "wider.safetensors"
    report = convert(tmp_path / "ours.safetensors", ConvertConfig(out=str(out), window=5))
    assert len(report.adapted) == 8
    assert not report.random
    assert load_encoder(out).swin.window_size == (5, 5)


# ---------------------------------------------------------------- the command


def test_the_command_reports_and_refuses_in_one_paragraph(tmp_path, capsys, state):
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    command = ["convert", str(tmp_path / "a.pth"), "--out", str(tmp_path / "b.safetensors")]
    assert main(command) == 0
    printed = re.sub(r"[\s│]+", " ", capsys.readouterr().err)
    assert "100% of the encoder initialised" in printed
    assert "torchvision" in printed
    for arguments, said in (
        (command, "exists already"),
        (["convert", "--out", "x.safetensors"], "FILE is missing; write `foveate convert FILE"),
        ([*command[:2], "--out", "x.pth"], "end in .safetensors"),
        ([*command[:2], "--out", "x.safetensors", "--famly", "nnssl"], "did you mean family"),
        ([*command[:2], "--out", "x.safetensors", "--family", "x"], "accepted are medicalnet"),
        ([*command[:2], "--out", "x.safetensors", "--window", "5"], "no attention window"),
        ([*command[:2], "--out", "x.safetensors", "--prefix", "y"], "no name in"),
        (["convert", "nowhere.pth", "--out", "x.safetensors"], "there is no such file"),
    ):
        assert main(arguments) == 2
        text = capsys.readouterr().err
        assert said in text
        assert "Traceback" not in text


def test_init_with_a_foreign_file_says_how_to_bring_it_in(tmp_path, state):
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(FoveateError, match=r"no card.*those of torchvision.*foveate convert"):
        weights.read(tmp_path / "a.pth")
