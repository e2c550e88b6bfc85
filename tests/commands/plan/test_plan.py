"""What `foveate plan` says follows from what it measured."""

import re
from dataclasses import replace

import pytest
from tests.test_cli import flags_of

from foveate.cli import main
from foveate.commands.plan import run as plan


def probe(**keys):
    known = {"images": 100, "cached_mib": [1.0, 3.0], "decoding": 0.5, "steps": [1.0] * 10, "once": 20.0}
    return plan.Probe(**known | {"save": 2.0, "empty": 100.0, "small": 300.0, "room": 4000.0} | keys)


def test_the_whole_is_the_sum_of_its_parts(tiny):
    config = replace(tiny(2), steps=1000, save_every=100, preview_every=500, health_every=0)
    found = probe(preview=3.0, health=1000.0)
    assert plan.total_seconds(config, found, 1.0) == 100 * 0.5 + 20 + 1000 + 10 * 2 + 2 * 3
    lines = "\n".join(plan.report(config, found, True))
    assert "cache: 200 MiB, made in 0.8 min" in lines
    assert "run of 1000 steps: 0.30 h, likely 0.28 to 0.33 h" in lines


def test_a_batch_that_does_not_fit_is_split_into_one_that_does(tiny):
    config = replace(tiny(2), batch_size=64, accumulate=2)
    assert "--batch_size 16 --accumulate 8" in plan.suggestion(config, probe())  # 31 would fit
    assert "64 x 2 fits; up to about 4" in plan.suggestion(config, probe(room=60000.0))
    assert "NOT fit" in "\n".join(plan.report(config, probe(), False))


def test_spread_widens_with_the_steps():
    calm, wild = plan.spread([1.0] * 10), plan.spread([0.5, 1.5] * 5)
    assert calm == (1.0, 0.9, 1.1)
    assert wild[0] == 1.0
    assert wild[2] > calm[2]


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_command_measures_and_writes_nothing(dimension, tiny, cohorts, tmp_path, capsys):
    from tests.conftest import tiny_keys

    keys = tiny_keys(dimension, cohorts[dimension], tmp_path / "run", devices=2, steps=50)
    assert main(["plan", *flags_of(keys)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"step: 0\.\d+ s \(0\.\d+ to \d+\.\d+ in 10 steps\)", text)
    assert "2 processes: each needs this memory" in text
    assert list(tmp_path.iterdir()) == []
