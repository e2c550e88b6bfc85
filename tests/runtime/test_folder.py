"""When a run folder is refused, and which of several reasons is given."""

from __future__ import annotations

import pytest
from tests.conftest import tiny_keys

from foveate.commands.pretrain import config as settings
from foveate.core.types import FoveateError
from foveate.runtime import folder


def test_the_folder_of_another_method_is_named_before_anything_else(cohorts, tmp_path):
    out = tmp_path / "run"
    folder.prepare_out(settings.SPEC.from_keys(tiny_keys(2, cohorts[2], out, steps=1)), out, "hash")
    keys = {**tiny_keys(2, cohorts[2], out, steps=1), "seed": 5}
    with pytest.raises(FoveateError, match=r"another configuration \(seed: 0 -> 5\)"):
        folder.check_resumable(settings.SPEC.from_keys(keys), out)
    other = settings.SPEC.from_keys({**keys, "method": {"name": "simsiam"}})
    with pytest.raises(FoveateError) as found:
        folder.check_resumable(other, out)
    assert str(found.value) == (
        f"--out {out} is the folder of a run with --method pcrlv2, and this one is with --method simsiam; "
        "accepted: another --out, or a new or empty folder."
    )


def test_the_folder_of_another_command(tmp_path):
    with pytest.raises(FoveateError, match=r"run with --method pgl, and this one is with another command"):
        folder.refuse_other_kind({"method.name": "pgl"}, {"task.name": "segmentation"}, tmp_path)
