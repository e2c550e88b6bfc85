"""Weights of others and of another number of channels in a fine-tuning run."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.conftest import blobs
from tests.nets.weights import plain

from foveate.commands.convert.run import ConvertConfig, convert
from foveate.commands.finetune import config as finetune_settings
from foveate.commands.finetune.run import finetune
from foveate.core.types import FoveateError
from foveate.nets.weights import store as weights


@pytest.fixture
def labelled(tmp_path):
    """Six volumes with label maps, in the layout of nnU-Net."""
    for i in range(6):
        image = blobs((24, 26, 20), i)
        for folder, name, array in (
            ("imagesTr", f"c{i}_0000", image.astype(np.int16)),
            ("labelsTr", f"c{i}", (image > 500).astype(np.uint8)),
        ):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "data" / folder / f"{name}.nii.gz")
    return tmp_path / "data"


def run_from(labelled, init, **flags):
    keys = {
        "data": str(labelled),
        "out": str(labelled.parent / "tuned"),
        "task.name": "segmentation",
        "init": str(init),
        "size": "small",
        "steps": "1",
        "validate_every": "1",
        "batch_size": "2",
        "num_workers": "0",
        "task.crops.grid": "[16, 16, 16]",
        **flags,
    }
    return finetune_settings.SPEC.resolve({}, keys)


@pytest.mark.parametrize("channels", [1, 2])
def test_models_genesis_weights_start_a_segmenter_and_channels_are_adapted(tmp_path, labelled, channels):
    net = plain.randomised(plain.PlainUNet(skips=True))
    torch.save({"state_dict": net.state_dict()}, tmp_path / "genesis.pth")
    convert(tmp_path / "genesis.pth", ConvertConfig(out=str(tmp_path / "g.safetensors")))
    config = run_from(labelled, tmp_path / "g.safetensors", **{"encoder.in_channels": str(channels)})
    assert finetune(config)
    report = json.loads((tmp_path / "tuned" / "transfer.encoder.json").read_text())
    assert report["share"] == 1
    assert len(report["adapted"]) == channels - 1
    _, card = weights.read(tmp_path / "tuned")
    assert card["initial_weights"]["family"] == "models_genesis"
    assert "non-commercial" in card["initial_weights"]["weights_licence"]


def test_an_encoder_that_the_card_does_not_describe_is_refused(tmp_path, labelled):
    net = plain.PlainUNet(skips=True)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "genesis.pth")
    convert(tmp_path / "genesis.pth", ConvertConfig(out=str(tmp_path / "g.safetensors")))
    with pytest.raises(FoveateError, match=r"encoder\.width 6 contradicts the card"):
        run_from(labelled, tmp_path / "g.safetensors", **{"encoder.width": "6"})
