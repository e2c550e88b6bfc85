"""Damaged exports come back through `convert`: the report names what is wrong. No export names its run."""

import pytest
import torch
from safetensors.torch import save_file
from tests.nets.weights.untrained import write_run

from foveate import convert, export
from foveate.commands.export import state_dicts
from foveate.commands.export.run import SUFFIXES, WRITERS
from foveate.core.types import FoveateError
from foveate.nets.weights.files import read_file

SECRET = "Zqxwvy"  # of a folder: no export may hold it
WHERE = {  # format -> run, file of the export, a name in it, the same here, a block in it, the same here
    "torchvision": ("narrow", "", "layer2.0.conv1.weight", "layer2.0.conv1.weight", "layer3.1.", "layer3.1."),
    "nnunet": (
        "resenc",
        "adapt.pth",
        "encoder.stages.1.blocks.0.conv1.conv.weight",
        "stages.1.0.conv1.weight",
        "encoder.stages.1.blocks.0.",
        "stages.1.0.",
    ),
    "monai": (
        "swin",
        "",
        "layers2.0.blocks.1.mlp.linear1.weight",
        "swin.layers2.0.blocks.1.mlp.linear1.weight",
        "layers2.0.blocks.0.",
        "swin.layers2.0.blocks.0.",
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp(SECRET)
    write_run(root / "narrow", 2, "resnet18", width=8)
    write_run(root / "resenc", 3, "resenc", width=4, widest=12, blocks=(1, 2, 1))
    write_run(root / "swin", 2, "swin", width=12, window=3)
    return root


def read_back(tmp_path, whole, tensors, share=0.5):
    """What `convert` says of changed tensors."""
    content = {**whole, "network_weights": tensors} if "network_weights" in whole else tensors
    torch.save(content, tmp_path / "damaged.pth")
    return convert(tmp_path / "damaged.pth", out=tmp_path / f"back{share}.safetensors", min_transfer=share)


@pytest.mark.parametrize("form", WHERE)
@pytest.mark.parametrize("damage", ["a renamed key", "a missing block", "another number of channels"])
def test_a_damaged_export_is_named_by_convert(runs, tmp_path, monkeypatch, form, damage):
    monkeypatch.setattr(state_dicts, "WIDTH", 8)
    run, file, name, ours, block, our_block = WHERE[form]
    out = tmp_path / ("export.pth" if not file else "export")
    export(runs / run, format=form, out=out)
    whole = torch.load(out / file if file else out, weights_only=True)
    tensors = dict(whole.get("network_weights", whole))
    if damage == "a renamed key":
        tensors[f"{name}_renamed"] = tensors.pop(name)
        if form == "nnunet":  # which has every tensor under two names
            tensors = {n: t for n, t in tensors.items() if "blocks.0.conv1.all_modules.0.weight" not in n}
        said = f"encoder.{ours} (not in the file)"
    elif damage == "a missing block":
        tensors = {n: t for n, t in tensors.items() if not n.startswith(block)}
        said = f"encoder.{our_block}"
    else:
        tensors[name] = torch.cat([tensors[name]] * 2, 1)
        said = f"encoder.{ours} ({tuple(tensors[name].shape)} in the file"
    with pytest.raises(FoveateError) as error:
        read_back(tmp_path, whole, tensors, share=1.0)
    assert said in str(error.value)
    assert not (tmp_path / "back1.0.safetensors").exists()
    report = read_back(tmp_path, whole, tensors)
    assert any(f"encoder.{ours}" == n or n.startswith(f"encoder.{our_block}") for n in report.random)
    assert 0.5 < report.share < 1
    if damage == "another number of channels":
        assert "another shape" in report.misshapen[f"encoder.{ours}"]


LAST = {  # format and suffix -> run, what is removed, what is said
    "nnunet": ("resenc", "encoder.stages.1.blocks.1.", "encoder.stages.1.1.conv1.weight (not in the file)"),
    "nnunet, a stage": ("resenc", "encoder.stages.2.", "encoder.stages.2.0.conv1.weight (not in the file)"),
    "monai .pth": ("swin", "layers2.0.blocks.1.", "layers2.0.blocks.1.attn.proj.bias (not in the file)"),
    "monai .safetensors": (
        "swin",
        "layers3.0.blocks.1.",
        "layers3.0.blocks.1.attn.proj.bias (not in the file)",
    ),
}


@pytest.mark.parametrize("case", LAST)
def test_missing_last_blocks_of_a_stage_are_named(runs, tmp_path, case):
    run, removed, words = LAST[case]
    form, suffix = case.partition(",")[0].split()[0], case.partition(" .")[2]
    out = tmp_path / (f"export.{suffix}" if suffix else "export")
    export(runs / run, format=form, out=out)
    path = out if out.is_file() else out / "adapt.pth"
    content, metadata = read_file(path)
    tensors = content.get("network_weights", content)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(removed)}
    assert len(kept) < len(tensors)
    damaged = tmp_path / f"damaged{path.suffix}"
    if metadata:
        save_file(kept, damaged, metadata)
    else:
        torch.save({**content, "network_weights": kept} if "network_weights" in content else kept, damaged)
    with pytest.raises(FoveateError) as error:
        convert(damaged, out=tmp_path / "back.safetensors")
    assert words in str(error.value)
    convert(path, out=tmp_path / "whole.safetensors")


def test_a_file_that_says_nothing_of_its_blocks_is_noted_and_nonsense_refused(runs, tmp_path):
    export(runs / "resenc", format="nnunet", out=tmp_path / "export")
    whole = torch.load(tmp_path / "export" / "adapt.pth", weights_only=True)
    torch.save({"network_weights": whole["network_weights"]}, tmp_path / "bare.pth")
    report = convert(tmp_path / "bare.pth", out=tmp_path / "back.safetensors")
    assert any("how many blocks its stages have" in note for note in report.notes)
    whole["nnssl_adaptation_plan"]["architecture_plans"]["arch_kwargs"]["n_blocks_per_stage"] = [10**9]
    torch.save(whole, tmp_path / "nonsense.pth")
    with pytest.raises(FoveateError, match="accepted: up to 10 stages"):
        convert(tmp_path / "nonsense.pth", out=tmp_path / "no.safetensors", family="nnssl")


CASES = {
    "huggingface": ("narrow", ""),
    "torchvision": ("narrow", ".pth"),
    "monai": ("narrow", ".safetensors"),
    "nnunet": ("resenc", ""),
    "onnx": ("narrow", ".onnx"),
}


@pytest.mark.parametrize("form", CASES)
def test_no_path_and_no_identifier_is_in_an_export(runs, tmp_path, monkeypatch, form):
    if form == "onnx":
        pytest.importorskip("onnxscript", reason="an extra; `make test-export` has it, and looks as well")
    monkeypatch.setattr(state_dicts, "WIDTH", 8)
    run, suffix = CASES[form]
    out = tmp_path / f"export{suffix}"
    lines = export(runs / run, format=form, out=out)
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        for word in (SECRET, str(tmp_path), str(runs), "/home/", "site-packages", "foveate/src"):
            assert word.encode() not in content, (path.name, word)
    assert SECRET not in "".join(lines)
    before = {path: path.read_bytes() for path in files}
    with pytest.raises(FoveateError, match="--force replaces it"):
        export(runs / run, format=form, out=out)
    assert before == {path: path.read_bytes() for path in files}
    export(runs / run, format=form, out=out, force=True)


@pytest.mark.parametrize("form", WRITERS)
def test_nothing_is_replaced_without_force(runs, tmp_path, form):
    suffix = next(iter(SUFFIXES[form]), "")
    out = tmp_path / f"there{suffix}"
    kept = out if suffix else out / "file"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("kept")
    with pytest.raises(FoveateError, match="--force replaces it"):
        export(runs / "narrow", format=form, out=out)
    assert kept.read_text() == "kept"


def test_every_format_has_its_test_of_privacy():
    """Bundles are looked at in test_bundle.py, graphs of torch in test_export.py."""
    assert set(WRITERS) == {*CASES, "monai-bundle", "torch-export"}
