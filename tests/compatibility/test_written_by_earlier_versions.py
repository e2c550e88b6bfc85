"""What an earlier version wrote is still read: caches, weights, cards, run folders, checkpoints.

The archive was written by the commit in its name: a prepared cache of four noise volumes with a ball, two
steps of pre-training on it, two steps of fine-tuning; and what that version then answered.
"""

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import foveate
from foveate.cli import main

ARCHIVE = Path(__file__).parent / "written_by_bdd70da.zip"
COMMON = ("--size", "small", "--batch_size", "2", "--num_workers", "0", "--log_every", "1")
DEVICE = ("--accelerator", "cpu", "--precision", "32-true")


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """The folder as it was."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(folder):
    return json.loads((folder / "expected.json").read_text())


def test_weights_and_their_card(earlier):
    encoder = foveate.load_encoder("run")
    assert encoder.card["method"]["name"] == "simsiam"
    x = torch.linspace(-1, 1, 4096).reshape(1, 1, 16, 16, 16)
    with torch.no_grad():
        sums = [float(each.double().sum()) for each in encoder(x)]
    np.testing.assert_allclose(sums, expected(earlier)["encoder"], rtol=1e-5)


def test_a_run_goes_on_from_its_cache_and_checkpoint(earlier, capsys):
    command = ["pretrain", "--config", "run/run.yaml", "--data", "cache", "--out", "run", "--steps", "3"]
    assert main(command) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
    assert lines[-1]["step"] == 3  # and health at the end
    assert (earlier / "run" / "checkpoints" / "step-000000003.ckpt").exists()


def test_a_fine_tuning_goes_on_and_predicts(earlier):
    assert main(["predict", "--run", "tuned", "--data", "images", "--out", "masks"]) == 0
    mask = np.asarray(nib.load("masks/v0.nii.gz").dataobj)
    assert int(mask.sum()) == expected(earlier)["mask_voxels"]
    command = ["finetune", "--data", "labelled", "--task", "segmentation", "--init", "run", "--out", "tuned"]
    keys = ["--dimension", "3", *COMMON, *DEVICE, "--validate_every", "1", "--task.crops.grid", "[8,8,8]"]
    more = ["--split.val_share", "0.25", "--save_every", "1", "--keep_checkpoints", "2", "--steps", "3"]
    assert main([*command, *keys, *more]) == 2  # the defaults are others now, and the error names them
    before = ["--optim.schedule", "cosine", "--optim.warmup_steps", "20", "--task.crops.shift", "0"]
    assert main([*command, *keys, *more, *before, "--tuning.average", "0"]) == 0
    steps = {json.loads(line)["step"] for line in Path("tuned/metrics.jsonl").read_text().splitlines()}
    assert steps == {1, 2, 3}


@pytest.mark.parametrize(
    ("key", "value"),
    [("patient_pattern", "(v)"), ("encoder.width", "5")],
    ids=["new in this version", "known to the earlier one"],
)
def test_an_earlier_run_does_not_go_on_with_another_value(earlier, capsys, key, value):
    command = ["pretrain", "--config", "run/run.yaml", "--data", "cache", "--out", "run", "--steps", "3"]
    assert main([*command, f"--{key}", value]) == 2
    assert f"another configuration ({key}: " in capsys.readouterr().err
