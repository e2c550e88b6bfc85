"""A conversion that runs out of disk: the same command again goes on."""

import errno
import os

import pytest
from tests.nets.weights.untrained import write_run

from foveate import convert
from foveate.core.types import FoveateError


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_full_disk_at_any_file_leaves_no_weights_and_the_same_command_goes_on(
    tmp_path, monkeypatch, number
):
    write_run(tmp_path / "run", 2, "resnet18", width=2)
    calls, fsync, out = [], os.fsync, tmp_path / "new.safetensors"

    def fail(place):
        calls.append(place)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(FoveateError, match="No space left"):
            convert(tmp_path / "run", out=out)
    assert not out.exists()
    convert(tmp_path / "run", out=out)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("run", "new.safetensors", "new.card.json", "new.transfer.json")
    }
