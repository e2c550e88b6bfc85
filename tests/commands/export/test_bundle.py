"""A MONAI bundle: its network is the run's, and it predicts what `foveate predict` does, voxel by voxel."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from tests.commands.export.balanced import balance, write_picture, write_scan
from tests.nets.weights.untrained import ramp

from foveate import finetune
from foveate.cli import main
from foveate.commands.export.bundle.plain.network import Network
from foveate.commands.export.bundle.write import FILES
from foveate.core import config as parsing
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.testing.cohorts import write_labelled
from foveate.testing.runs import task_keys
from foveate.views.pipeline import normalise


def keys_of(data, out, dimension, encoder, **more):
    return {**task_keys("segmentation", dimension, data, out, ""), "encoder": encoder, **more}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("Zqxwvy"), 3)


@pytest.fixture(scope="module")
def run(volumes, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    assert finetune(**keys_of(volumes, out, 3, {"name": "resenc", "width": 4, "blocks": [1, 1]}))
    return out


def run_bundle(bundle, images, out, monkeypatch):
    monkeypatch.syspath_prepend(str(bundle))
    monkeypatch.chdir(bundle)
    configs = bundle / "configs"
    workflow = ConfigWorkflow(
        config_file=str(configs / "inference.json"),
        meta_file=str(configs / "metadata.json"),
        workflow_type="inference",
        dataset_dir=str(images),
        output_dir=str(out),
    )
    try:
        workflow.initialize()
        workflow.run()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]


def exported(run, out, *more):
    return main(["export", str(run), "--format", "monai-bundle", "--out", str(out), *more])


def agree(run, images, tmp_path, monkeypatch, read):
    """Both predictions; every mask of one is that of the other, and holds more than one value."""
    balance(run, images)
    assert exported(run, tmp_path / "bundle") == 0
    ours = ["--run", str(run), "--data", str(images), "--out", str(tmp_path / "ours"), "--force", "true"]
    assert main(["predict", *ours]) == 0
    run_bundle(tmp_path / "bundle", images, tmp_path / "theirs", monkeypatch)
    names = sorted(path.name for path in images.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "theirs").iterdir())
    for name in names:
        mine, theirs = read(tmp_path / "ours" / name), read(tmp_path / "theirs" / name)
        assert mine.shape == theirs.shape
        assert np.array_equal(mine, theirs)
        assert 0.05 < (mine > 0).mean() < 0.95


def test_it_predicts_volumes_as_foveate_does(run, tmp_path, monkeypatch):
    write_scan(tmp_path / "images")

    def read(path):
        return np.asarray(nib.load(path).dataobj)

    agree(run, tmp_path / "images", tmp_path, monkeypatch, read)
    for name in ("a.nii.gz", "b.nii.gz"):
        affines = [nib.load(tmp_path / place / name).affine for place in ("images", "theirs")]
        assert np.allclose(*affines, atol=1e-5)


def test_it_predicts_slices_and_pictures_as_foveate_does(volumes, tmp_path, monkeypatch):
    cut = {"slices": {"axis": "auto", "neighbours": 1}}
    encoder = {"name": "unet2d", "width": 4, "levels": 3, "in_channels": 3}
    keys = keys_of(volumes, tmp_path / "slices", 2, encoder, **cut)
    keys["task"]["crops"] = {"grid": [32, 16], "source_sizes": [[32, 16]]}
    assert finetune(**keys)
    write_scan(tmp_path / "images")
    (tmp_path / "3d").mkdir()
    agree(
        tmp_path / "slices",
        tmp_path / "images",
        tmp_path / "3d",
        monkeypatch,
        lambda path: np.asarray(nib.load(path).dataobj),
    )
    data = write_labelled(tmp_path / "pictures", 2)
    assert finetune(**keys_of(data, tmp_path / "flat", 2, {"name": "resnet10", "width": 4}))
    write_picture(tmp_path / "scans")
    (tmp_path / "2d").mkdir()
    agree(
        tmp_path / "flat",
        tmp_path / "scans",
        tmp_path / "2d",
        monkeypatch,
        lambda path: np.asarray(Image.open(path)),
    )


@pytest.mark.parametrize(
    ("dimension", "name", "keys"),
    [
        (2, "resnet10", {"width": 4, "norm": "group"}),
        (3, "resnet18", {"width": 4, "shortcut": "pad", "dilated": True}),
        (2, "resnet50", {"width": 4}),
        (3, "resenc", {"width": 4, "widest": 6, "blocks": (1, 2)}),
        (3, "unet3d", {"width": 2, "levels": 3, "norm": "instance"}),
        (2, "sononet", {"width": 4, "levels": 4}),
        (2, "swin", {"width": 6, "window": 3, "residual_blocks": True}),
    ],
)
@torch.no_grad()
def test_its_network_is_that_of_the_run(dimension, name, keys):
    torch.manual_seed(0)
    config = ENCODERS[name].config(name=name, **keys)
    for decoder in (
        DecoderConfig(skips=True, norm=config.decoder_norm),
        DecoderConfig(upsample="nearest", norm=config.decoder_norm),
    ):
        net = build_pyramid(config, decoder, dimension).eval()
        said = [json.loads(json.dumps(parsing.to_mapping(each))) for each in (config, decoder)]
        theirs = Network(dimension, *said, classes=3, normalisation="zscore").eval()
        own = {n: t for n, t in theirs.state_dict().items() if n.startswith("head.")}
        theirs.load_state_dict({**net.state_dict(), **own}, strict=True)
        x = ramp(*(n * net.stride for n in (2, 3, 1)[:dimension]), batch=2)
        mine = theirs.head(net(normalise(x, "zscore"))[-1])
        assert (theirs(x) - mine).abs().max() <= 1e-5 * mine.abs().max()
        for how in ("none", "imagenet", "dataset"):
            theirs.normalisation = how
            torch.testing.assert_close(theirs.normalised(x), normalise(x, how))


def test_a_bundle_holds_no_name_and_says_what_it_is(run, volumes, tmp_path, capsys):
    out = tmp_path / "bundle"
    assert exported(run, out, "--licence", "CC-BY-4.0") == 0
    held = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    assert set(held) == set(FILES)
    said = json.loads(held["configs/metadata.json"].read_text())
    assert said["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "class1"}
    assert "CC-BY-4.0" in said["copyright"]
    assert "monai.bundle run" in held["docs/README.md"].read_text()
    for path in held.values():
        for word in (volumes.name, str(run), str(tmp_path), "c0.nii"):
            assert word.encode() not in path.read_bytes(), (path, word)
    (out / "scripts" / "__pycache__").mkdir()
    (out / "scripts" / "__pycache__" / "network.cpython.pyc").write_bytes(b"")
    assert exported(run, out) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert exported(run, out, "--force") == 0


def test_runs_that_a_bundle_cannot_hold_are_refused(volumes, tmp_path, capsys):
    keys = keys_of(volumes, tmp_path / "run", 3, {"name": "unet3d", "width": 2, "levels": 2})
    assert finetune(**keys, prepare={"spacing_mm": [2.0, 2.0, 2.0]})
    assert exported(tmp_path / "run", tmp_path / "bundle") == 2
    assert "prepare.spacing_mm (2.0, 2.0, 2.0); accepted" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "bundle").exists()
