"""Pre-training from Python's own objects: a module as the encoder, arrays as the data."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import ResNet, SegResNet, SwinUNETR
from torch import nn

import foveate
from foveate.core.files import read_json
from foveate.core.types import FoveateError
from foveate.data.arrays import write_arrays
from foveate.data.cache.profiles import PrepareConfig
from foveate.nets.encoders.given import described
from foveate.nets.encoders.monai import MonaiEncoder
from foveate.testing.cohorts import blobs
from foveate.testing.runs import tiny_keys

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
SPACING = (1.0, 1.0, 1.5)


class Arrays:
    """Volumes that are made when they are asked for."""

    def __init__(self, count=6):
        self.asked, self.count = [], count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.asked.append(i)
        return torch.from_numpy(blobs((24, 26, 20), i)).float(), SPACING


def small(dimension=3):
    conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[dimension]
    return nn.Sequential(conv(1, 4, 3, stride=2, padding=1), norm(4), nn.ReLU(), conv(4, 8, 3, 2, 1))


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 8, 3, 2, 1)

    def forward(self, x):
        fine = self.first(x)
        return {"coarse": self.second(fine), "fine": fine}


def keys_of(out, **more):
    keys = tiny_keys(3, "unused", out, steps=2)
    del keys["encoder"], keys["data"], keys["dimension"]
    return {**keys, "accelerator": "cpu", **more}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(data, module, weights before, run): a run on arrays with a module."""
    torch.manual_seed(0)
    data, module, out = Arrays(), Named(), tmp_path_factory.mktemp("objects") / "run"
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert foveate.pretrain(data=data, encoder=module, **keys_of(out))
    return data, module, before, out


@torch.no_grad()
def test_contract_the_module_has_the_trained_weights(trained):
    _, module, before, out = trained
    assert all(not torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())
    card = read_json(out / "exported" / "card.json")
    assert card["encoder"] == {
        "name": "module",
        "in_channels": 1,
        "width": 4,
        "channels": [4, 8],
        "strides": [1, 2],
    }
    assert card["images"] == 6
    encoder, x = foveate.load_encoder(out, module=Named()), torch.rand(1, 1, 8, 8, 8)
    fine, coarse = encoder(x)
    found = module.eval()(x)
    assert torch.equal(fine, found["fine"])
    assert torch.equal(coarse, found["coarse"])


def test_a_run_of_a_module_says_that_it_needs_it(trained):
    with pytest.raises(FoveateError, match=r"accepted: foveate.load_encoder\(RUN, module=MODULE\)"):
        foveate.load_encoder(trained[3])
    with pytest.raises(FoveateError, match=r"no such encoder"):
        foveate.pretrain(data=Arrays(), encoder="module", **keys_of(trained[3].parent / "other"))


def test_contract_the_same_call_resumes_and_other_arrays_are_refused(trained):
    data, module, _, out = trained
    data.asked.clear()
    assert foveate.pretrain(data=data, encoder=module, **keys_of(out))
    assert set(data.asked) == set(range(6))
    with pytest.raises(FoveateError, match=r"images|data"):
        foveate.pretrain(data=Arrays(5), encoder=module, **keys_of(out))


def test_contract_arrays_are_the_images_of_files(trained, tmp_path):
    for i in range(6):
        image = nib.Nifti1Image(blobs((24, 26, 20), i).astype(np.float32), np.diag([*SPACING, 1]))
        (tmp_path / "files").mkdir(exist_ok=True)
        nib.save(image, tmp_path / "files" / f"{i}.nii.gz")
    assert foveate.pretrain(data=tmp_path / "files", encoder={"width": 2}, **keys_of(tmp_path / "run"))
    cards = [read_json(run / "exported" / "card.json") for run in (trained[3], tmp_path / "run")]
    assert cards[0]["data_hash"] == cards[1]["data_hash"]
    assert cards[0]["spacing_mm"] == cards[1]["spacing_mm"] == list(SPACING)


@pytest.mark.parametrize(
    ("module", "channels", "strides"),
    [
        (small(), (8,), (4,)),
        (MonaiEncoder(SegResNet(spatial_dims=3, init_filters=8)), (8, 16, 32, 64), (1, 2, 4, 8)),
        (
            MonaiEncoder(ResNet("basic", [1, 1, 1, 1], [4, 8, 16, 32], n_input_channels=1, conv1_t_stride=2)),
            (4, 4, 8, 16, 32),
            (2, 4, 8, 16, 32),
        ),
    ],
)
def test_contract_maps_are_described(module, channels, strides):
    found = described(module, 3, 1)
    assert (found.channels, found.strides) == (channels, strides)
    assert module.training


def test_what_gives_no_maps_is_refused():
    pooled = nn.Sequential(nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    for module, words in (
        (pooled, "the sizes"),
        (nn.Conv3d(1, 4, 3, stride=3), "different powers of 2"),
        (nn.Conv3d(1, 4, 3, padding=1), "one of them 2 or more"),
        (nn.Conv3d(2, 4, 3), "does not take images"),
    ):
        with pytest.raises(FoveateError, match=words):
            described(module, 3, 1)
    with pytest.raises(FoveateError, match="MonaiEncoder: Linear is not known"):
        MonaiEncoder(nn.Linear(2, 2))
    assert "swinViT" in dict(
        MonaiEncoder(SwinUNETR(1, 2, feature_size=12, spatial_dims=2)).parts.named_children()
    )


def test_items_that_are_no_images_are_said_by_their_number(tmp_path):
    good = (blobs((24, 26, 20), 0), SPACING)
    for item, words in (
        (np.ones((4, 4, 4)), r"data\[1\] is ndarray|a positive spacing"),
        ((np.ones((4, 4)), (1, 1, 1)), r"data\[1\]: an array of shape \(4, 4\)"),
        ((np.array(["a"] * 4), (1,)), r"data\[1\]"),
        ({"picture": 3}, r'data\[1\] is dict; accepted: .* a mapping with "image"'),
    ):
        with pytest.raises(FoveateError, match=words):
            write_arrays([good, item], tmp_path / "cache", PrepareConfig(), lambda *_: None)
    broken = np.full((8, 8, 8), np.nan)
    found = write_arrays([good, (broken, SPACING)], tmp_path / "cache", PrepareConfig(), lambda *_: None)
    assert found == ["data[1]: 512 of 512 voxels are NaN or infinite"]
    with pytest.raises(FoveateError, match="none of its 1 images can be used"):
        write_arrays([(broken, SPACING)], tmp_path / "cache", PrepareConfig(), lambda *_: None)
    with pytest.raises(FoveateError, match="holds no image"):
        foveate.pretrain(data=[], out=tmp_path / "run")


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if "MonaiEncoder" in block]
    known = {}
    exec(compile(code, str(PAGE), "exec"), known)
    assert (tmp_path / "run" / "exported" / "weights.safetensors").is_file()
    assert known["encoder"].channels == (8, 16, 32, 64)
