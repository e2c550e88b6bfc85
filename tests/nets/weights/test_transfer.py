"""What a report says of every name, what is refused, and that names of a file cannot draw on a terminal."""

import io
import json

import pytest
import torch
from rich.console import Console

from foveate.core.types import FoveateError
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.nets.weights.transfer import TransferReport, transfer


def parts_of(seed, *, width=2, channels=1, skips=False):
    torch.manual_seed(seed)
    config = UNetConfig(name="unet2d", width=width, levels=3, in_channels=channels)
    net = build_pyramid(config, DecoderConfig(skips=skips), 2)
    return {"encoder": net.encoder, "decoder": net.decoder}


def tensors_of(parts):
    return {f"{p}.{n}": t.clone() for p, m in parts.items() for n, t in m.state_dict().items()}


def test_a_whole_file_matches_wholly_and_is_copied():
    source, goal = parts_of(0), parts_of(1)
    report = transfer(goal, tensors_of(source), min_share=1.0)
    assert report.share == 1
    assert [*report.adapted, *report.random, *report.misshapen, *report.unused] == []
    after = tensors_of(goal)
    assert all(torch.equal(after[name], tensor) for name, tensor in tensors_of(source).items())


def test_renamed_missing_and_misshapen_each_have_their_row():
    tensors, goal = tensors_of(parts_of(0)), parts_of(1)
    before = tensors_of(goal)
    tensors["encoder.levels.0.0.renamed.weight"] = tensors.pop("encoder.levels.0.0.conv.weight")
    del tensors["encoder.levels.1.0.norm.bias"]
    tensors["encoder.levels.1.1.conv.weight"] = torch.zeros(7, 4, 3, 3)
    tensors["encoder.levels.1.1.conv.bias"] = torch.zeros(8, dtype=torch.int64)
    report = transfer(goal, tensors, min_share=0.0)
    shaped = {"encoder.levels.1.1.conv.weight", "encoder.levels.1.1.conv.bias"}
    assert set(report.misshapen) == shaped
    assert "(7, 4, 3, 3) in the file, (8, 4, 3, 3) here" in report.misshapen["encoder.levels.1.1.conv.weight"]
    lost = {"encoder.levels.0.0.conv.weight", "encoder.levels.1.0.norm.bias"}
    assert set(report.random) == shaped | lost
    assert report.unused == ("encoder.levels.0.0.renamed.weight",)
    after = tensors_of(goal)
    assert all(torch.equal(after[name], before[name]) for name in report.random)
    counted = {n: t.numel() for n, t in before.items() if n.startswith("encoder.") and "tracked" not in n}
    missing = sum(counted[name] for name in report.random)
    assert report.share == pytest.approx(1 - missing / sum(counted.values()))


def test_below_the_threshold_nothing_is_copied_and_names_and_family_are_said():
    goal = parts_of(1)
    before = tensors_of(goal)
    theirs = {
        "down_tr64.ops.0.conv1.weight": torch.zeros(32, 1, 3, 3, 3),
        "out_tr.final_conv.bias": torch.ones(1),
    }
    with pytest.raises(FoveateError) as error:
        transfer(goal, theirs, min_share=0.9, source="--init a.pth")
    text = str(error.value)
    assert text.startswith("--init a.pth fills 0% of the encoder, less than --min_transfer 0.9.")
    assert "encoder.levels.0.0.conv.bias (not in the file)" in text
    assert "those of models_genesis (" in text
    with pytest.raises(FoveateError, match=r"Use the encoder .* of the file's card"):
        transfer(goal, tensors_of(parts_of(0, width=4)), min_share=0.9)
    after = tensors_of(goal)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_share_is_the_encoders():
    goal = parts_of(1, skips=True)
    tensors = tensors_of(parts_of(0))
    tensors["decoder.blocks.0.up.weight"] = tensors["decoder.blocks.0.up.weight"][:1]
    report = transfer(goal, tensors, min_share=1.0)
    assert report.share == 1
    assert set(report.misshapen) == {"decoder.blocks.0.up.weight"}
    only = {n: t for n, t in tensors_of(parts_of(0)).items() if n.startswith("encoder.")}
    assert all(name.startswith("decoder.") for name in transfer(goal, only, min_share=1.0).random)


@pytest.mark.parametrize(("given", "wanted"), [(1, 4), (3, 1)])
def test_image_channels_are_adapted_at_the_first_convolution_alone(given, wanted):
    goal = parts_of(1, channels=wanted)
    report = transfer(goal, tensors_of(parts_of(0, channels=given)), min_share=1.0)
    assert list(report.adapted) == ["encoder.levels.0.0.conv.weight"]
    assert f"{given} -> {wanted}" in report.adapted["encoder.levels.0.0.conv.weight"]


def test_every_encoder_names_the_weight_that_reads_the_image():
    for name, entry in ((name, ENCODERS[name]) for name in ENCODERS):
        width = entry.widths.get("small", 4)
        encoder = entry.build(entry.config(name=name, in_channels=5, width=width), entry.dimensions[0])
        assert encoder.state_dict()[encoder.input_weight].shape[1] == 5, name


def test_weights_that_are_not_numbers_are_refused():
    tensors = tensors_of(parts_of(0))
    tensors["encoder.levels.0.0.conv.weight"][0] = float("nan")
    with pytest.raises(FoveateError, match=r"NaN or infinite values in encoder\.levels\.0\.0\.conv\.weight"):
        transfer(parts_of(1), tensors, min_share=0.5)


def test_half_precision_enters_as_its_values():
    source, goal = parts_of(0), parts_of(1)
    halves = {n: t.half() if t.is_floating_point() else t for n, t in tensors_of(source).items()}
    assert transfer(goal, halves, min_share=1.0).share == 1
    after = tensors_of(goal)
    assert all(torch.equal(after[name], halves[name].to(after[name].dtype)) for name in after)


def test_markup_and_control_characters_of_a_file_do_not_reach_the_terminal():
    evil = "encoder.[red]x[/red]\x1b[2J\x07[link=file:///etc]y"
    report = TransferReport(matched=(), unused=(evil,), misshapen={evil: evil}, random=(evil,), share=0.5)
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=200).print(report.table())
    shown = stream.getvalue()
    assert "[red]x[/red]" in shown  # as text, not as a colour
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "\x1b]8" not in shown  # a link
    assert "\x1b" not in "".join(report.misfits())


def test_the_json_holds_every_field():
    report = TransferReport(matched=("a",), adapted={"b": "how"}, share=0.5, notes=("n",))
    loaded = json.loads(report.to_json())
    assert loaded["adapted"] == {"b": "how"}
    assert set(loaded) == {"matched", "adapted", "random", "misshapen", "unused", "share", "notes"}


def pyramid_of(dimension, *, skips):
    name = {2: "unet2d", 3: "unet3d"}[dimension]
    return build_pyramid(ENCODERS[name].config(name=name, width=2), DecoderConfig(skips=skips), dimension)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_decoder_without_skips_starts_one_with_them_and_back(dimension):
    """With the encoder's maps met by zeros the whole pyramid computes what it did."""
    torch.manual_seed(0)
    plain, joined = (pyramid_of(dimension, skips=skips).eval() for skips in (False, True))
    parts = {"encoder": joined.encoder, "decoder": joined.decoder}
    tensors = tensors_of({"encoder": plain.encoder, "decoder": plain.decoder})
    report = transfer(parts, tensors, min_share=1.0)
    assert not report.random
    assert list(report.adapted.values()) == [f"{n} skip channels added at 0" for n in (16, 8, 4)]
    x = torch.randn(2, 1, *[16] * dimension)
    with torch.no_grad():
        for ours, theirs in zip(joined(x), plain(x), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)
    for block in joined.decoder.blocks:
        torch.nn.init.ones_(block.convs[0].conv.weight)
    parts = {"encoder": plain.encoder, "decoder": plain.decoder}
    report = transfer(
        parts, tensors_of({"encoder": joined.encoder, "decoder": joined.decoder}), min_share=1.0
    )
    assert list(report.adapted.values()) == [f"{n} skip channels dropped" for n in (16, 8, 4)]
    assert all((block.convs[0].conv.weight == 1).all() for block in plain.decoder.blocks)
