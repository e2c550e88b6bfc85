"""What is searched beside the learning rate, and whether trainings were long enough."""

import json

import pytest
from tests.commands.compare.test_compare import data, grid, resolve, write

from foveate.commands.compare import folder as compare_bench, report as compare_report, run as compare
from foveate.commands.compare.grid import jobs_of
from foveate.core.files import write_json
from foveate.core.types import FoveateError
from foveate.nets.weights import store as weights

__all__ = ["data"]


def test_warm_up_and_transferred_parts_are_searched_as_well(data, tmp_path):
    search = {"optim.warmup_steps": [0, 5], "tuning.transfer": ["encoder", "encoder_decoder"]}
    content = grid(data=str(data), choice_labels=2, search=search)
    content["arms"]["again"] = {"planted": "no_gain"}
    config = resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out")})
    bench, jobs = compare_bench.Bench(config), jobs_of(config)
    (tmp_path / "out/cells").mkdir(parents=True)
    tried = {arm: [job for job in jobs if (job.kind, job.arm) == ("choice", arm)] for arm in config.everyone}
    assert {arm: len(found) for arm, found in tried.items()} == {
        "scratch": 2,
        "scratch_long": 2,
        "restoring": 4,
        "again": 2,
    }
    assert len({job.name for found in tried.values() for job in found}) == 10
    for found in tried.values():
        for score, job in enumerate(found):
            write_json(tmp_path / f"out/cells/{job.name}.json", {"validation": score})
    test = next(job for job in jobs if (job.kind, job.arm) == ("test", "restoring"))
    keys = bench.keys(test)
    assert (keys["optim.warmup_steps"], keys["tuning.transfer"]) == (5, "encoder_decoder")
    scratch = bench.keys(next(job for job in jobs if (job.kind, job.arm) == ("test", "scratch")))
    assert (scratch["optim.warmup_steps"], "tuning.transfer" in scratch) == (5, False)
    content["arms"]["restoring"] = {"method": "context_restoration", "finetune": {"optim.warmup_steps": 3}}
    with pytest.raises(FoveateError, match="is searched for every arm"):
        resolve(str(write(tmp_path, content)), {"out": "x"})
    for wrong, words in (
        ({"steps": [1, 2]}, "cannot be searched"),
        ({"tuning.transfer": "encoder"}, "a list"),
    ):
        with pytest.raises(FoveateError, match=words):
            resolve(str(write(tmp_path, grid(data=str(data), choice_labels=2, search=wrong))), {"out": "x"})


def test_an_arm_that_was_still_gaining_is_named():
    cell = {"task": "t", "way": "full", "labels": 3, "kind": "test"}
    cells = [
        {**cell, "arm": "slow", "late_gain": 0.05},
        {**cell, "arm": "slow", "late_gain": 0.01},
        {**cell, "arm": "slow", "late_gain": 0.0, "labels": 10},
        {
            **cell,
            "arm": "slow",
            "late_gain": 0.5,
            "kind": "choice",
        },  # perhaps not with the rate that it takes
        {**cell, "arm": "done", "late_gain": 0.01},
        {**cell, "arm": "brief"},
    ]
    assert compare_report.plateau(cells).endswith("train longer): t/slow/full/3 +0.030.")
    assert compare_report.plateau(cells[2:]).endswith(": none.")
    assert "was not checked" in compare_report.plateau(cells[5:])


@pytest.mark.slow
def test_every_run_validates_late_and_leaves_its_last_weights(data, tmp_path):
    content = grid(data=str(data))
    content["tasks"]["blobs"]["finetune"] |= {"steps": 5}
    config = resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out"), "only": "scratch"})
    assert compare.compare(config)
    for cell in (tmp_path / "out/cells").glob("*.json"):
        found = json.loads(cell.read_text())
        run = tmp_path / "out/runs" / found["name"]
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        scores = {row["step"]: row["val/score"] for row in rows if "val/score" in row}
        assert set(scores) == {4, 5}
        assert found["late_gain"] == scores[5] - scores[4]
        assert found["validation"] == scores[5]
        assert weights.read(run)[1]["validation_score"] is None  # not the best of the two
