"""Encoders beyond the defaults carry a method: a step, a resume that is bit-equal, weights that come back."""

import pytest
import torch
from tests.conftest import stop_at

from foveate.commands.pretrain import run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.weights import store as weights

KINDS = {
    "swin": {"width": 12, "window": 4, "depths": [1, 1, 1, 1]},
    "resenc": {"width": 4, "blocks": [1, 1, 1], "widest": 8},
    "sononet": {"width": 4, "levels": 4},
    "resnet10": {"width": 4, "dilated": True, "shortcut": "pad"},
}
STRIDES = {"swin": (2, 4, 8, 16, 32), "resenc": (1, 2, 4), "resnet10": (2, 4, 8), "sononet": (1, 2, 4, 8)}


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        *((name, 2) for name in KINDS),
        *(pytest.param(name, 3, marks=() if name == "resnet10" else pytest.mark.slow) for name in KINDS),
    ],
)
def test_pcrlv2_trains_resumes_and_exports_with_every_encoder(tiny, dimension, name):
    stride = STRIDES[name][-1]
    grids = [max(n, stride) for n in (32, 8)]
    crops = {f"{k}_crops": {"grid": [g] * dimension} for k, g in zip(("global", "local"), grids, strict=True)}
    keys = {"encoder": {"name": name, **KINDS[name]}, "method": crops, "steps": 2}
    straight, broken = (tiny(dimension, out, **keys) for out in ("straight", "broken"))
    assert run.pretrain(straight)
    stop_at(broken, 1)
    assert run.pretrain(broken)
    file = "exported/weights.safetensors"
    assert (run.Path(straight.out) / file).read_bytes() == (run.Path(broken.out) / file).read_bytes()
    encoder = weights.load_encoder(straight.out)
    maps = encoder(torch.zeros(1, 1, *[64] * dimension))
    assert encoder.strides == STRIDES[name]
    assert [m.shape[1:] for m in maps] == [
        (c, *[64 // s] * dimension) for c, s in zip(encoder.channels, encoder.strides, strict=True)
    ]
    fresh = build_method(straight)
    report = weights.transfer(fresh.exported(), weights.read(straight.out)[0], min_share=1.0)
    assert not [*report.random, *report.unused]


@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize("name", ["swin", "resenc", "sononet"])
def test_every_size_of_a_new_encoder_can_be_built(name, size):
    config = SPEC.resolve({}, {"dimension": "3", "size": size, "encoder.name": name})
    assert ENCODERS[name].build(config.encoder, 3).channels[0] == config.encoder.width
