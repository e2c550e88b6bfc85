"""Exported weights and the card beside them: a flipped bit is an error wherever they are loaded together."""

import json
import random
import shutil

import pytest
import torch
from tests.conftest import tiny_keys

from foveate.commands.pretrain import config as settings, run
from foveate.core.types import FoveateError
from foveate.nets.weights import store as weights

FLIPS = 30


@pytest.fixture(scope="module")
def exported(cohorts, tmp_path_factory):
    """The folder of a run of one step."""
    out = tmp_path_factory.mktemp("weights") / "run"
    assert run.pretrain(settings.SPEC.from_keys(tiny_keys(2, cohorts[2], out, steps=1)))
    return out


@pytest.fixture
def out(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "run")
    return tmp_path / "run"


def flip(path, place, bit):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_a_flipped_bit_anywhere_in_the_weights_is_an_error_through_the_run(out):
    path, draw = out / "exported/weights.safetensors", random.Random(0)
    good, (tensors, _) = path.read_bytes(), weights.read(out)
    for _ in range(FLIPS):
        flip(path, draw.randrange(len(good)), draw.randrange(8))
        with pytest.raises(FoveateError, match=r"weights\.safetensors is damaged.*backup"):
            weights.load_encoder(out)
        path.write_bytes(good)
    path.write_bytes(good[:-1])
    with pytest.raises(FoveateError, match="damaged"):
        weights.read(path)  # named itself, beside its card
    path.write_bytes(good)
    again, _ = weights.read(out)
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


def test_a_damaged_card_beside_is_an_error_and_none_is_not(out, tmp_path):
    card = out / "exported/card.json"
    content = json.loads(card.read_text())
    for text in (card.read_text()[:-3], "[" * 9000, "9" * 6000):
        card.write_text(text)
        with pytest.raises(FoveateError, match=r"card\.json is damaged"):
            weights.read(out)
    card.write_text(json.dumps({**content, "weights_sha256": "0" * 64}))
    with pytest.raises(FoveateError, match=r"another weights_sha256"):
        weights.read(out)
    del content["weights_sha256"]
    card.write_text(json.dumps(content))  # as an older version wrote it
    assert weights.read(out)[1] == content
    alone = shutil.copy(out / "exported/weights.safetensors", tmp_path)
    assert weights.read(alone)[1] == content
    card.unlink()
    assert weights.read(out)[1] == content


def test_a_crash_between_weights_and_card_leaves_good_weights(out, monkeypatch):
    """Exported over an earlier export: new weights are never judged by the old card."""
    encoder, card = weights.load_encoder(out), weights.read(out)[1]
    before = (out / "exported/weights.safetensors").read_bytes()
    for weight in encoder.parameters():
        weight.data *= 2

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "checksum", stop)
    with pytest.raises(KeyboardInterrupt):
        weights.save({"encoder": encoder}, card, out / "exported")
    monkeypatch.undo()
    assert (out / "exported/weights.safetensors").read_bytes() != before
    assert weights.read(out)[1] == card
