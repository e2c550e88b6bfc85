"""`make compare-small` ends with `agree.py`: what it lets pass and what it catches."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/evidence/fewlabel/agree.py"
TRUTH = {("3", "a"): 0.80, ("3", "b"): 0.81, ("3", "c"): 0.79, ("10", "a"): 0.83, ("10", "b"): 0.84}
NUMBERS = ("score_mean", "score_seed_sd", "score_seeds")
SPREAD = {"3": 0.02, "10": 0.005}  # of trainings: fewer labels, more chance


@pytest.fixture(scope="module")
def agree():
    spec = importlib.util.spec_from_file_location("agree", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(rng, *, moved=(), seeds=2):
    """Lines of a comparison as the CSV has them; `moved` is (labels, arm, by how much)."""
    rows = {}
    for (labels, arm), truth in TRUTH.items():
        scores = truth + SPREAD[labels] * rng.normal(size=seeds)
        mean = scores.mean() + (moved[2] if (labels, arm) == tuple(moved[:2]) else 0)
        sd = scores.std(ddof=1) if seeds > 1 else ""
        values = map(str, (mean, sd, seeds))
        rows["hippocampus", "full", labels, arm] = dict(zip(NUMBERS, values, strict=True))
    return rows


def write(path, rows):
    names = ("task", "way", "labels", "arm")
    with path.open("w", newline="") as stream:
        out = csv.DictWriter(stream, [*names, *NUMBERS])
        out.writeheader()
        out.writerows(dict(zip(names, line, strict=True), **row) for line, row in rows.items())
    return path


def test_an_honest_repeat_agrees_95_times_in_100(agree):
    rng = np.random.default_rng(0)
    wrong = np.mean([bool(agree.disagreeing(table(rng), table(rng))) for _ in range(2000)])
    assert 0.02 < wrong < 0.065  # 5 % and three standard errors; far below it the reach would be slack


@pytest.mark.parametrize(("labels", "by", "at_least"), [("10", 0.05, 0.9), ("3", 0.2, 0.9)])
def test_a_line_that_moved_is_caught(agree, labels, by, at_least):
    rng = np.random.default_rng(1)
    pairs = [(table(rng, moved=(labels, "b", by)), table(rng)) for _ in range(300)]
    named = [("hippocampus", "full", labels, "b") in agree.disagreeing(*pair) for pair in pairs]
    assert np.mean(named) > at_least


def test_one_seed_each_is_refused(agree):
    rng = np.random.default_rng(2)
    with pytest.raises(SystemExit, match="two are needed"):
        agree.reaches(table(rng, seeds=1), table(rng, seeds=1))


def test_exit_codes(agree, tmp_path, capsys):
    rows = table(np.random.default_rng(3))
    committed = write(tmp_path / "committed.csv", rows)
    assert agree.main(committed, committed) == 0
    assert "5 lines compared, 0 disagree, 0 are missing" in capsys.readouterr().out
    line = ("hippocampus", "full", "10", "b")
    moved = {**rows, line: {**rows[line], "score_mean": "0.5"}}
    assert agree.main(write(tmp_path / "moved.csv", moved), committed) == 1
    assert "hippocampus full 10 b" in capsys.readouterr().out
    fewer = {key: row for key, row in rows.items() if key != line}
    assert agree.main(write(tmp_path / "fewer.csv", fewer), committed) == 1
    assert "hippocampus full 10 b is missing" in capsys.readouterr().out
    assert agree.main(write(tmp_path / "none.csv", {}), write(tmp_path / "nothing.csv", {})) == 1
