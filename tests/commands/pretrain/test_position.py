"""`--method.kernel.gamma auto`: found from the images, said, recorded, and kept by a resumed run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from tests.conftest import tiny_keys

from foveate.commands.prepare.config import SPEC as PREPARE
from foveate.commands.prepare.run import prepare
from foveate.commands.pretrain import position, run
from foveate.commands.pretrain.config import SPEC
from foveate.core.types import FoveateError
from foveate.losses.places import Kernel
from foveate.nets.weights.store import read
from foveate.testing.cohorts import write_picture


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """Pictures that are brighter from left to right, and noise."""
    folder = tmp_path_factory.mktemp("aligned")
    for i in range(5):
        noise = np.random.default_rng(i).random((72, 80))
        write_picture(folder / f"p{i}.png", np.round(500 * noise + np.linspace(0, 500, 72)[:, None]))
    return folder


def config_of(data, out, **keys):
    method = {"name": "foveate", "cells": 2, "hidden": 8, "embedding": 4, "cells_weight": 0.0}
    return SPEC.from_keys(tiny_keys(2, data, out, method, health_every=0, **{"steps": 1, **keys}))


def test_a_run_finds_out_says_records_and_goes_on_as_it_began(aligned, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    assert run.pretrain(config_of(aligned, out))
    assert "across 5 images, patients unknown: positional term on (on from 0.18)" in capsys.readouterr().err
    card, kept = read(out)[1], json.loads((out / position.FILE).read_text())
    assert (card["method"]["kernel"]["gamma"], card["position"]) == (1.0, kept)
    assert yaml.safe_load((out / "run.yaml").read_text())["method"]["kernel"]["gamma"] == "auto"
    monkeypatch.setattr(position, "measure", lambda _cache: pytest.fail("measured again"))
    assert run.pretrain(config_of(aligned, out, steps=2))
    assert read(out)[1]["method"]["kernel"]["gamma"] == 1.0
    (out / position.FILE).write_text('{"explained": 1}')
    with pytest.raises(FoveateError, match=r"position\.json was changed"):
        run.pretrain(config_of(aligned, out, steps=3))


def test_it_is_off_where_position_says_nothing_and_a_number_overrides(aligned, tmp_path, monkeypatch, tiny):
    found = position.Position(explained=0.05, chance=0.02, patients=9, known=True)
    monkeypatch.setattr(position, "measure", lambda _cache: found)
    auto = config_of(aligned, tmp_path / "none")
    settled, said = position.settled(auto, None)
    assert (settled.method.kernel.gamma, settled.method.kernel.weight, said) == (0.0, 0.0, found)
    assert position.decision(found).endswith(
        "0.05 of appearance across 9 patients: positional term off (on from 0.18)"
    )
    fixed = replace(auto, method=replace(auto.method, kernel=Kernel(gamma=0.5)))
    assert position.settled(fixed, None) == (fixed, None)
    assert position.settled(tiny(2), None)[1] is None  # a method that does not ask
    wrapped = tiny(2, method={"name": "region_contrast", "base": {"name": "foveate"}})
    assert position.settled(wrapped, None)[0].method.base.kernel.gamma == 0.0


def test_auto_is_a_value_of_the_key():
    assert Kernel().weight == 1.0
    given = {"data": "x", "out": "y", "dimension": 2, "method": {"name": "foveate"}}
    for said, meant in (("auto", "auto"), ("0.25", 0.25), ("0", 0.0)):
        assert SPEC.resolve(given, {"method.kernel.gamma": said}).method.kernel.gamma == meant
    with pytest.raises(FoveateError, match="gamma"):
        SPEC.resolve(given, {"method.kernel.gamma": "often"})


def test_prepare_says_it(aligned, tmp_path, capsys):
    prepare(PREPARE.from_keys({"data": str(aligned), "out": str(tmp_path / "cache"), "dimension": 2}))
    assert "position explains 0." in capsys.readouterr().err
