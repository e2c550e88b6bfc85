"""What is not a number: who is told of it and by which names, and that no checkpoint holds it."""

from dataclasses import replace

import pytest
import torch

from foveate.commands.prepare.config import SPEC as PREPARE
from foveate.commands.prepare.run import prepare
from foveate.commands.pretrain import run
from foveate.core.types import FoveateError
from foveate.train import checkpoint, loop


def poisoned(monkeypatch, after):
    """The optimizer writes NaN into the weights at its step number `after`, as a bad gradient does."""
    moves, move = [], loop.move

    def bad(fabric, net, *rest, **keys):
        found = move(fabric, net, *rest, **keys)
        moves.append(net)
        if len(moves) == after:
            next(net.parameters()).data.fill_(torch.nan)
        return found

    monkeypatch.setattr(loop, "move", bad)


def test_weights_that_are_not_finite_are_not_saved_and_the_good_checkpoint_is_named(tiny, monkeypatch):
    config = tiny(2, steps=8, log_every=8, save_every=2, keep_checkpoints=9)
    poisoned(monkeypatch, after=4)
    with pytest.raises(FoveateError, match=r"weights are not finite after step 3.*p\d\.png") as error:
        run.pretrain(config)
    folder = run.Path(config.out) / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step-000000002.ckpt"]
    assert "step-000000002.ckpt is the newest checkpoint with finite weights" in str(error.value)


def test_a_bad_checkpoint_of_before_is_not_called_good(tiny):
    config = tiny(2, steps=2, save_every=1, log_every=1)
    assert run.pretrain(config)
    newest = checkpoint.path_of(run.Path(config.out) / "checkpoints", 2)
    state = torch.load(newest, weights_only=True)
    next(iter(state["model"].values())).fill_(torch.nan)
    newest.unlink()
    torch.save(state, newest)
    with pytest.raises(FoveateError, match=r"loss is not finite at step 2") as error:
        run.pretrain(tiny(2, steps=4, save_every=1, log_every=1))
    text = str(error.value)
    assert "step-000000001.ckpt is the newest checkpoint with finite weights" in text
    assert "step-000000002.ckpt holds others: move it away" in text


def test_moco_with_few_samples_says_that_it_was_seen_not_to_learn(tiny, capsys):
    for size, said in ((4, True), (6, False)):
        config = tiny(2, f"run{size}", {"name": "moco"}, steps=1, batch_size=size)
        assert run.pretrain(config)
        words = "moco was seen not to learn with 4 samples in a batch"
        assert (words in capsys.readouterr().err) == said
        assert (words in (run.Path(config.out) / "train.log").read_text()) == said


def test_volumes_of_a_cache_are_named_by_their_hashes(tiny, tmp_path):
    config = tiny(2, steps=4, optim={"lr": 1e30, "name": "sgd"})
    cache = prepare(PREPARE.from_keys({"data": config.data, "out": str(tmp_path / "shared")}))
    with pytest.raises(FoveateError, match="not finite") as error:
        run.pretrain(replace(config, data=str(tmp_path / "shared")))
    assert any(f"image {volume.entry.id} of the cache" in str(error.value) for volume in cache), error.value
