"""Organs through `predict` with an ideal network: millimetres of the file's own world, and what is absent."""

import csv
import json
from dataclasses import replace
from types import MethodType

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.commands.predict.test_predict import given  # noqa: F401 - a fixture
from tests.scoring.test_grids import oblique

from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.runtime import finetuned as models
from foveate.tasks.localization import Config, Localization

SHAPE, LOW, HIGH = (12, 20, 8), (2, 5, 1), (5, 16, 6)  # of the file; the organ has the voxels [LOW, HIGH)


def found_by_eye(task, images):
    """Walls around what is bright, in cells; the first organ is there, the second is not."""
    bright = (images[0, 0] > 0.5).nonzero()
    walls = torch.cat([bright.min(0).values - 0.5, bright.max(0).values + 0.5])
    rows = [torch.cat([walls, torch.tensor([logit])]) for logit in (4.0, -4.0)]
    return torch.stack(rows)[None]


def ideal(shape):
    """A task whose view has the voxels of the image as it is seen, RAS+."""
    preset = Config.preset(3, "small", "none")
    config = replace(preset, crops=replace(preset.crops, grid=shape), classes=("organ=1", "other=2"))
    net = build_pyramid(UNetConfig(width=2, levels=2), DecoderConfig(skips=True), 3)
    task = Localization(net, config)
    task.outputs = MethodType(found_by_eye, task)
    card = {"task": {"name": "localization"}, "intensity": {}, "dimension": 3}
    return models.Model(task=task, card=card, device=torch.device("cpu"))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_property_an_oblique_flipped_volume_gets_its_box_in_millimetres(tmp_path, given, orientation):  # noqa: F811
    affine = oblique(orientation, (0.8, 1.1, 3.0))
    image = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.int16)
    image[tuple(map(slice, LOW, HIGH))] += 800
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "in/a.nii.gz")
    order = np.argsort(nib.io_orientation(affine)[:, 0])  # axes of the image as it is seen
    shape = tuple(np.array(SHAPE)[order].tolist())
    finished, out = given(tmp_path / "in", model=ideal(shape))
    assert finished
    before = (out / "boxes.json").read_bytes()
    (out / "boxes.json").unlink()  # the same command makes again what is gone
    assert given(tmp_path / "in", model=ideal(shape)) == (True, out)
    assert (out / "boxes.json").read_bytes() == before
    (listed,) = json.loads((out / "boxes.json").read_text())["images"]
    organ, other = listed["boxes"]
    middle = (np.array(LOW) + HIGH) / 2 - 0.5
    np.testing.assert_allclose(organ["centre"], (affine @ [*middle, 1])[:3], atol=1e-3)
    sides = (np.array(HIGH) - LOW) * np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(organ["size"], sides[order], atol=1e-3)
    assert (organ["class"], organ["present"]) == ("organ", True)
    assert other == {"class": "other", "present": False}
    rows = list(csv.DictReader((out / "boxes.csv").open()))
    assert [(row["class"], row["present"], bool(row["x"])) for row in rows] == [
        ("organ", "true", True),
        ("other", "false", False),
    ]
