"""Damaged exports come back through `convert`: the report names what is wrong. No export names its run."""

import pytest
import torch
from tests.nets.weights.untrained import write_run

from foveate import convert, export
from foveate.commands.export import state_dicts
from foveate.commands.export.config import ExportConfig
from foveate.commands.export.run import WRITERS
from foveate.core.types import FoveateError

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


CASES = {
    "huggingface": ("narrow", ""),
    "torchvision": ("narrow", ".pth"),
    "monai": ("narrow", ".safetensors"),
    "nnunet": ("resenc", ""),
}


@pytest.mark.parametrize("form", CASES)
def test_no_path_and_no_identifier_is_in_an_export(runs, tmp_path, monkeypatch, form):
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


def test_every_format_has_its_test_of_privacy():
    """Bundles are looked at in test_bundle.py, graphs of torch in test_export.py; ONNX is not."""
    assert set(WRITERS) == {*CASES, "monai-bundle", "torch-export", "onnx"}
    assert ExportConfig().force is False
