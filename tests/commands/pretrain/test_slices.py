"""Pre-training in 2D on volumes: every method that differs in what it needs of a slice, and the messages."""

from __future__ import annotations

import numpy as np
import pytest
from tests.conftest import tiny_keys, write_cohort

import foveate
from foveate.commands.pretrain import run
from foveate.commands.pretrain.config import SPEC
from foveate.core.types import FoveateError
from foveate.nets.weights.store import read
from foveate.testing.cohorts import blobs, write_volume

SHAPE = (72, 64, 5)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Three volumes of five thick slices."""
    folder = tmp_path_factory.mktemp("volumes")
    for i in range(3):
        write_volume(folder / f"v{i}.nii.gz", np.stack([blobs(SHAPE[:2], 5 * i + j) for j in range(5)], -1))
    return folder


@pytest.mark.parametrize("method", ["pcrlv2", "context_restoration", "region_contrast"])
def test_a_method_is_trained_on_slices(volumes, tmp_path, capsys, method):
    named = {"name": method, "base": {"name": "simsiam"}} if "region" in method else {"name": method}
    more = {"slices": {"neighbours": 1}, "encoder": {"width": 4, "in_channels": 3}}
    given = tiny_keys(2, volumes, tmp_path / "run", named, steps=2, **(more if method == "pcrlv2" else {}))
    assert foveate.pretrain(**given)
    said = capsys.readouterr().err
    assert "seen as 15 slices (3 across z)" in said
    card = read(tmp_path / "run")[1]
    assert card["slices"] == {"axis": "auto", "neighbours": int(method == "pcrlv2")}
    assert (card["dimension"], card["spacing_mm"], card["images"]) == (2, [1.0, 1.0], 3)
    assert card["input"]["channels"] == card["in_channels"] == (3 if method == "pcrlv2" else 1)
    with pytest.raises(FoveateError, match=r"slices\.axis: auto -> x"):
        run.pretrain(SPEC.from_keys({**given, "slices": {"axis": "x"}}))


def test_a_resumed_run_ends_with_the_same_weights(volumes, tmp_path):
    from foveate.testing.runs import stop_at

    given = tiny_keys(2, volumes, tmp_path / "a", {"name": "context_restoration"}, steps=3)
    assert foveate.pretrain(**given)
    stopped = SPEC.from_keys({**given, "out": str(tmp_path / "b")})
    stop_at(stopped, 1)
    assert run.pretrain(stopped)
    one, other = (read(tmp_path / name)[0] for name in "ab")
    assert all((one[name] == other[name]).all() for name in one)


def test_a_prepared_cache_of_volumes_is_seen_as_slices(volumes, tmp_path, capsys):
    from foveate.commands.prepare.config import SPEC as PREPARE
    from foveate.commands.prepare.run import prepare

    prepare(PREPARE.from_keys({"data": str(volumes), "out": str(tmp_path / "cache")}))
    given = tiny_keys(2, tmp_path / "cache", tmp_path / "run", {"name": "context_restoration"}, steps=1)
    assert run.pretrain(SPEC.from_keys({**given, "slices": {"axis": "y"}}))
    assert "seen as 192 slices (3 across y)" in capsys.readouterr().err


def test_pictures_are_preferred_and_the_message_names_the_option(volumes, tmp_path, capsys):
    write_cohort(tmp_path / "data", 2, count=2)
    (tmp_path / "data" / "v.nii.gz").write_bytes((volumes / "v0.nii.gz").read_bytes())
    given = tiny_keys(2, tmp_path / "data", tmp_path / "run", {"name": "context_restoration"}, steps=1)
    assert foveate.pretrain(**given)
    said = " ".join(capsys.readouterr().err.split())
    assert "--dimension 2: 1 images of another dimension are excluded" in said
    assert "slices of volumes (--slices.axis) are used where --data holds volumes only" in said
    assert read(tmp_path / "run")[1]["slices"] is None


def test_slices_of_a_3d_run_are_refused(volumes, tmp_path):
    given = tiny_keys(3, volumes, tmp_path / "run", steps=1, slices={"neighbours": 1})
    with pytest.raises(FoveateError, match=r"--slices\.neighbours 1: accepted with --dimension 2 only"):
        foveate.pretrain(**given)
    assert not (tmp_path / "run" / "run.yaml").exists()
