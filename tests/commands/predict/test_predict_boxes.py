"""Predictions of a run whose answers are boxes: what is refused, in words that are true of it."""

from dataclasses import replace

import pytest
import torch
from tests.commands.predict.test_predict import given, write_scan  # noqa: F401 - a fixture

from foveate.core.types import FoveateError
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.runtime.finetuned import Model
from foveate.tasks.detection import Config, Detection


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("smooth_frames", "3", r"3: the answers are boxes; accepted for runs that answer whole images\.$"),
        ("window.blend", "flat", r"flat: the answers are boxes; accepted for runs that make masks\.$"),
        ("format", "rtstruct", r"rtstruct: the run makes no masks, .*; accepted: --format nifti"),
    ],
)
def test_what_boxes_have_no_use_for_is_refused(tmp_path, given, key, value, words):  # noqa: F811
    write_scan(tmp_path / "in/a.nii.gz")
    net = build_pyramid(UNetConfig(width=2, levels=3), DecoderConfig(skips=True), 3)
    task = Detection(net, replace(Config.preset(3, "small", "none"), classes=("a=1",)))
    card = {"task": {"name": "detection"}, "intensity": {}, "dimension": 3}
    with pytest.raises(FoveateError, match=f"^--{key} {words}"):
        given(tmp_path / "in", model=Model(task=task, card=card, device=torch.device("cpu")), **{key: value})
