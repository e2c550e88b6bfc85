"""Two processes: a target that follows, and terms over a part of the cells, under data parallelism."""

import json

import torch
import yaml
from tests.conftest import tiny_keys
from tests.forks import Fork, forked_rank

from foveate import cli
from foveate.runtime import launch


def test_pgl_trains_on_two_ranks_and_its_target_follows(cohorts, tmp_path, monkeypatch):
    method = {"name": "pgl", "global_weight": 0.5}
    keys = tiny_keys(3, cohorts[3], tmp_path / "run", steps=2, devices=2, method=method)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(keys))
    monkeypatch.setattr(launch, "start", forked_rank)
    process = Fork(cli.main, ["pretrain", "--config", str(config)], errors=tmp_path / "errors")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    state = torch.load(tmp_path / "run" / "checkpoints" / "step-000000002.ckpt", weights_only=True)["model"]
    assert all(torch.isfinite(value).all() for value in state.values())
    followers = [key for key in state if key.startswith("target.") and state[key].is_floating_point()]
    assert any(key.endswith("running_var") for key in followers)
    for key in followers:  # near the online values, and behind them
        online = state[key.removeprefix("target.")]
        assert not torch.equal(state[key], online), key
        if key.endswith("weight"):
            torch.testing.assert_close(state[key], online, rtol=0, atol=0.05)
