"""A disk that is full, a folder for temporary files that is gone: a paragraph, and the run goes on later."""

import errno
import os
import tempfile
from pathlib import Path

import pytest
import torch

from foveate.cli import main
from foveate.commands.pretrain import run
from foveate.core import config as parsing
from foveate.train import checkpoint


def words_of(config):
    """The command line of a configuration, by way of a file."""
    file = Path(f"{config.out}.yaml")
    file.write_text(parsing.to_yaml(config))
    return ["pretrain", "--config", str(file)]


def weights_of(config):
    return (Path(config.out) / "exported" / "weights.safetensors").read_bytes()


@pytest.fixture
def full(monkeypatch):
    """Makes the disk full from the n-th file on that is waited for."""

    def fill(number):
        calls, fsync = [], os.fsync

        def fail(place):
            calls.append(place)
            if len(calls) >= number:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(place)

        monkeypatch.setattr(os, "fsync", fail)
        return calls

    return fill


@pytest.mark.parametrize("number", [4, 6])  # before `run.yaml`, and at a checkpoint
def test_a_full_disk_at_any_file_is_one_paragraph_and_the_same_command_goes_on(
    tiny, full, capsys, monkeypatch, number
):
    whole = tiny(2, "whole", steps=2, save_every=1)
    assert run.pretrain(whole)
    config = tiny(2, steps=2, save_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", os.fsync)
        calls = full(number)
        assert main(words_of(config)) == 2
        assert len(calls) >= number
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("foveate: ")
    assert "full" in said
    assert not [*Path(config.out).rglob("*.tmp"), *Path(config.out).rglob("*.partial")]
    assert main(words_of(config)) == 0
    assert weights_of(config) == weights_of(whole)


def test_checkpoints_do_not_go_by_the_folder_for_temporary_files(tmp_path, monkeypatch):
    from lightning_fabric import Fabric

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    net = torch.nn.Linear(2, 2)
    path = checkpoint.save(Fabric(accelerator="cpu", devices=1), tmp_path, {"model": net, "step": 1}, keep=1)
    assert torch.load(path, weights_only=True)["step"] == 1


def test_a_full_disk_leaves_the_checkpoint_of_before_as_it_was(tmp_path, full):
    from lightning_fabric import Fabric

    fabric, state = Fabric(accelerator="cpu", devices=1), {"model": torch.nn.Linear(2, 2), "step": 1}
    before = checkpoint.save_best(fabric, tmp_path, state).read_bytes()
    full(1)
    state["model"].weight.data.zero_()
    with pytest.raises(OSError, match="No space"):
        checkpoint.save_best(fabric, tmp_path, state)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.BEST]
    assert (tmp_path / checkpoint.BEST).read_bytes() == before
