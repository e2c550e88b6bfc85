"""Exports as plain networks read them; `make test-export` asks the libraries themselves."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from monai.networks import nets
from safetensors import safe_open
from safetensors.torch import load_file
from tests.nets.weights import plain
from tests.nets.weights.untrained import ramp, write_run

from foveate import load_encoder
from foveate.cli import main
from foveate.commands.convert.run import ConvertConfig, convert
from foveate.commands.export import graphs, state_dicts
from foveate.core.types import FoveateError
from foveate.views.pipeline import normalise

NAMES = Path(__file__).with_name("torchvision_names.json")
WIDE = {"width": 64}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("Private")
    write_run(root / "resnet18", 2, "resnet18", **WIDE)
    write_run(root / "narrow", 2, "resnet18", width=8)
    write_run(root / "unet", 3, "unet3d", width=2, levels=2)
    write_run(root / "grouped", 2, "resnet10", width=8, norm="group")
    write_run(root / "swin", 2, "swin", width=12, window=3)
    write_run(root / "resenc", 3, "resenc", width=4, widest=12, blocks=(1, 2, 1, 2))
    return root


def exported(run, out, form, *more):
    return main(["export", str(run), "--format", form, "--out", str(out), *more])


# ---------------------------------------------------------------- huggingface


def test_a_folder_for_the_hub_holds_weights_configuration_and_a_readme(runs, tmp_path):
    summary = {
        "weights_data_hash": "0123abcd",
        "task": None,
        "part": "test",
        "cases": 9,
        "patients": 4,
        "metrics": {"auroc": {"value": 0.8125, "low": 0.7, "high": None}, "n": {"value": 9}},
    }
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "summary.json").write_text(json.dumps(summary))
    more = [
        "--licence",
        "CC-BY-4.0",
        "--evaluation",
        str(tmp_path / "scores"),
        "--data_licence",
        "CC0, Zenodo",
    ]
    assert exported(runs / "narrow", tmp_path / "hub", "huggingface", *more) == 0
    assert {p.name for p in (tmp_path / "hub").iterdir()} == {"model.safetensors", "config.json", "README.md"}
    text = (tmp_path / "hub" / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    for said in (
        "| images | 7 |",
        "| patients | 5 |",
        "ct 75%, mr 25%",
        "not a medical device",
        "| auroc | 0.8125 |",
        "CC0, Zenodo",
    ):
        assert said in text, said
    said = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert said["weights_licence"] == "CC-BY-4.0"
    x = ramp(64, 96)
    ours, theirs = load_encoder(runs / "narrow"), load_encoder(tmp_path / "hub")
    assert all(torch.equal(a, b) for a, b in zip(ours(x), theirs(x), strict=True))


def test_figures_of_another_run_are_refused(runs, tmp_path, capsys):
    (tmp_path / "summary.json").write_text(
        json.dumps({"weights_data_hash": "x", "task": None, "metrics": {}})
    )
    assert exported(runs / "narrow", tmp_path / "hub", "huggingface", "--evaluation", str(tmp_path)) == 2
    assert "is of another run" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text(json.dumps({"task": None, "metrics": {"map": {"value": 1}}}))
    assert exported(runs / "narrow", tmp_path / "hub", "huggingface", "--evaluation", str(tmp_path)) == 2
    assert "of boxes of a table" in " ".join(capsys.readouterr().err.split())
    assert exported(runs / "narrow", tmp_path / "hub", "huggingface", "--evaluation", str(runs)) == 2
    assert not (tmp_path / "hub").exists()


# ---------------------------------------------------------------- torchvision


@torch.no_grad()
def test_a_2d_resnet_has_torchvisions_names_and_reads_rows_and_columns(runs, tmp_path):
    out = tmp_path / "net.safetensors"
    assert exported(runs / "resnet18", out, "torchvision") == 0
    state = load_file(out)
    known = json.loads(NAMES.read_text())["resnet18"]
    assert {n: list(t.shape) for n, t in state.items()} == {n: s for n, s in known.items() if n[:3] != "fc."}
    theirs = plain.PlainResNet(2, [2, 2, 2, 2], width=64).eval()
    theirs.load_state_dict(state)
    image = ramp(64, 96)  # foveate reads (x, y)
    maps = theirs(image.transpose(2, 3).repeat(1, 3, 1, 1))
    for mine, other in zip(load_encoder(runs / "resnet18")(image), maps, strict=True):
        assert (mine - other.transpose(2, 3)).abs().max() <= 1e-5 * other.abs().max()


@torch.no_grad()
def test_what_left_for_torchvision_comes_back_through_convert(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(state_dicts, "WIDTH", 8)  # torchvision's own takes a while to recognise
    assert exported(runs / "narrow", tmp_path / "net.pth", "torchvision") == 0
    convert(tmp_path / "net.pth", ConvertConfig(out=str(tmp_path / "back.safetensors"), in_channels=1))
    x = ramp(64, 96)
    for mine, back in zip(
        load_encoder(runs / "narrow")(x), load_encoder(tmp_path / "back.safetensors")(x), strict=True
    ):
        assert (mine - back).abs().max() <= 1e-5 * mine.abs().max()
    damaged = torch.load(tmp_path / "net.pth", weights_only=True)
    damaged["layer2.0.renamed.weight"] = damaged.pop("layer2.0.conv1.weight")
    torch.save(damaged, tmp_path / "damaged.pth")
    with pytest.raises(FoveateError, match=r"layer2\.0\.conv1\.weight \(not in the file\)"):
        convert(tmp_path / "damaged.pth", ConvertConfig(out=str(tmp_path / "no.safetensors")))


# ---------------------------------------------------------------- monai


@pytest.mark.parametrize("name", ["narrow", "swin"])
@torch.no_grad()
def test_monais_networks_take_the_state_dict_whole(runs, tmp_path, name):
    assert exported(runs / name, tmp_path / "net.safetensors", "monai") == 0
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        said = json.loads(file.metadata()["export"])
    net = getattr(nets, said["network"])(**said["arguments"]).eval()
    part = net.swinViT if said["part"] else net
    part.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    encoder, x = load_encoder(runs / name), ramp(64, 96)
    if said["part"]:  # its forward needs einops
        assert torch.equal(part.patch_embed(x), encoder.swin.patch_embed(x))
    else:
        assert torch.allclose(
            net.layer1(net.maxpool(net.act(net.bn1(net.conv1(x))))), encoder(x)[1], atol=1e-6
        )


# ---------------------------------------------------------------- nnU-Net


@torch.no_grad()
def test_a_residual_encoder_goes_into_a_whole_unet_of_nnunet(runs, tmp_path):
    assert exported(runs / "resenc", tmp_path / "nnunet", "nnunet") == 0
    state = torch.load(tmp_path / "nnunet" / "full.pth", weights_only=True)["network_weights"]
    theirs = plain.PlainResEnc(3).eval()
    own = {n: t for n, t in state.items() if n.startswith(("encoder.", "decoder.encoder."))}
    missing, unexpected = theirs.load_state_dict(own, strict=False)
    assert not unexpected
    assert all(name.startswith("decoder.seg_layers.") for name in missing)
    x = ramp(16, 24, 8)
    for mine, other in zip(load_encoder(runs / "resenc")(x), theirs(x.permute(0, 1, 4, 3, 2)), strict=True):
        assert (mine - other.permute(0, 1, 4, 3, 2)).abs().max() <= 1e-5 * mine.abs().max()
    adapted = torch.load(tmp_path / "nnunet" / "adapt.pth", weights_only=True)
    assert adapted["nnssl_adaptation_plan"]["pretrain_plan"]["configurations"]["foveate"]["spacing"] == [
        2.5,
        1.0,
        0.5,
    ]
    (cited,) = adapted["citations"]
    assert cited["apa_citations"] == ["Somebody et al."]
    assert adapted["network_weights"].keys() == {n for n in own if n.startswith("encoder.")}
    torch.save(adapted, tmp_path / "adapt.pth")
    back = tmp_path / "back.safetensors"
    convert(tmp_path / "adapt.pth", ConvertConfig(out=str(back)))
    assert all(
        torch.equal(a, b)
        for a, b in zip(load_encoder(runs / "resenc")(x), load_encoder(back)(x), strict=True)
    )


# ---------------------------------------------------------------- graphs


@torch.no_grad()
def test_a_graph_of_torch_export_takes_any_batch_and_size(runs, tmp_path):
    out = tmp_path / "net.pt2"
    assert exported(runs / "unet", out, "torch-export") == 0
    extra = {"card.json": "", "described.json": ""}
    graph = torch.export.load(str(out), extra_files=extra).module()
    encoder = load_encoder(runs / "unet")
    for batch, sizes in ((1, (8, 12, 6)), (3, (4, 6, 10))):
        x = ramp(*sizes, batch=batch)
        for mine, other in zip(encoder(normalise(x, "zscore")), graph(x), strict=True):
            assert (mine - other).abs().max() <= 1e-5 * mine.abs().max()
    assert json.loads(extra["described.json"])["sizes"] == "multiples of 2 on every axis"
    places = [word.encode() for word in (str(runs), "tests/", "site-packages", "src/foveate", ".py")]
    assert not [word for word in places if word in out.read_bytes()]


def test_onnx_says_what_is_missing(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(graphs, "NEEDED", ("onnx_that_is_not_there",))
    assert exported(runs / "unet", tmp_path / "net.onnx", "onnx") == 2
    assert "pip install 'foveate[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what is refused


def test_what_cannot_be_exported_is_said_in_one_sentence(runs, tmp_path, capsys):
    for form, name, run, said in (
        ("torchvision", "a.safetensors", "narrow", "width 8"),
        ("torchvision", "a.safetensors", "unet", "the encoder is unet3d; accepted are ResNets"),
        ("torchvision", "a.onnx", "resnet18", "end in .safetensors or .pth"),
        ("onnx", "a.pt2", "unet", "end in .onnx"),
        ("nnunet", "a", "unet", "accepted: resenc in 3D"),
        ("monai", "a.pth", "unet", "accepted are ResNets"),
        ("monai", "a.pth", "grouped", "accepted: ResNets with batch norm"),
        ("torch-export", "a.pt2", "swin", "accepted: encoders of convolutions"),
        ("huggingface", "a", "nowhere", "there is no such file"),
        ("keras", "a", "unet", "format"),
    ):
        assert exported(runs / run, tmp_path / name, form) == 2
        assert said in capsys.readouterr().err, said
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_without_force_and_only_exports_with_it(runs, tmp_path, capsys):
    for _ in range(2):
        assert exported(runs / "narrow", tmp_path / "hub", "huggingface", "--force") == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "hub").iterdir()}
    assert exported(runs / "unet", tmp_path / "hub", "huggingface") == 2
    assert "--force replaces it" in capsys.readouterr().err
    (tmp_path / "hub" / "thesis.txt").write_text("mine")
    assert exported(runs / "unet", tmp_path / "hub", "huggingface", "--force") == 2
    assert "holds other files than an export" in capsys.readouterr().err
    assert before | {"thesis.txt": b"mine"} == {p.name: p.read_bytes() for p in (tmp_path / "hub").iterdir()}
    (tmp_path / "net.pt2").write_bytes(b"old")
    assert exported(runs / "unet", tmp_path / "net.pt2", "torchvision", "--force") == 2
    assert (tmp_path / "net.pt2").read_bytes() == b"old"
    assert {p.name for p in tmp_path.iterdir()} == {"hub", "net.pt2"}


def test_plans_of_nnunet_get_the_network_of_the_export(runs, tmp_path, monkeypatch):
    assert exported(runs / "resenc", tmp_path / "nnunet", "nnunet") == 0
    chosen = {"patch_size": [40, 56, 41], "architecture": {}, "spacing": [1, 1, 1]}
    plans = {"plans_name": "nnUNetResEncUNetMPlans", "configurations": {"2d": {}, "3d_fullres": chosen}}
    home = tmp_path / "preprocessed" / "Dataset007_Mini"
    home.mkdir(parents=True)
    (home / "nnUNetResEncUNetMPlans.json").write_text(json.dumps(plans))
    code = (tmp_path / "nnunet" / "plans.py").read_text()
    known = {"__name__": "plans"}
    exec(compile(code, "plans.py", "exec"), known)
    monkeypatch.setenv("nnUNet_preprocessed", str(home.parent))
    made = json.loads(known["main"]("7", tmp_path / "nnunet").read_text())
    assert made["plans_name"] == "foveatePlans"
    (configuration,) = made["configurations"].values()
    assert configuration["patch_size"] == [40, 56, 40]  # multiples of 8
    assert configuration["architecture"]["arch_kwargs"]["n_stages"] == 4
    assert configuration["spacing"] == [1, 1, 1]
    with pytest.raises(SystemExit, match="accepted: one, which nnUNetv2_plan_and_preprocess"):
        known["main"]("8", tmp_path / "nnunet")
