"""Every logger really writes, into the run folder, without naming the machine, its user or a path."""

import getpass
import importlib.util
import os
import socket
from pathlib import Path

import pytest

from foveate.core.types import FoveateError
from foveate.train import loggers
from foveate.train.logging import RunLog

ROWS = [
    {"step": 5, "loss": 2.5, "loss/pixel": 2.0},
    {"step": 10, "loss": 1.5, "loss/pixel": float("nan"), "verdict": "healthy"},
    {"step": 10, "features/stride4/std": 0.25},
]


def written(name, folder, rows=ROWS):
    (logger,) = loggers.open_loggers(name, folder)
    for row in rows:
        logger.metrics(row)
    logger.close()


def nothing_leaks(folder):
    """No host, user, home or folder in any file's name or bytes."""
    words = {socket.gethostname(), getpass.getuser(), str(Path.home()), str(folder), str(Path.cwd())}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        found = [w for w in words if len(w) > 2 and (w.encode() in path.read_bytes() or w in path.name)]
        if found == ["root"] and b"root" in path.read_bytes():
            continue  # a user of that name cannot be told from a word
        assert not found, path.relative_to(folder)


def test_tensorboard_without_tensorflow(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    written("tensorboard", tmp_path)
    (file,) = (tmp_path / "tensorboard").iterdir()
    found = [
        (e.step, v.tag, v.tensor.float_val[0])
        for e in EventFileLoader(str(file)).Load()
        for v in e.summary.value
    ]
    assert found == [
        (5, "loss", 2.5),
        (5, "loss/pixel", 2.0),
        (10, "loss", 1.5),
        (10, "features/stride4/std", 0.25),
    ]
    nothing_leaks(tmp_path)


def test_mlflow_goes_on_in_the_same_run(tmp_path):
    written("mlflow", tmp_path, ROWS[:1])
    written("mlflow", tmp_path, ROWS[1:])
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(tmp_path / "mlruns"))
    (run,) = store.search_runs(["0"], "", 1)
    history = [(m.step, m.value) for m in store.get_metric_history(run.info.run_id, "loss")]
    assert history == [(5, 2.5), (10, 1.5)]
    assert run.data.metrics["features.stride4.std"] == 0.25
    nothing_leaks(tmp_path)


def test_wandb_is_offline_whatever_the_environment_says(tmp_path, monkeypatch):
    """Four seconds, most of them its own service process that starts and stops."""
    monkeypatch.setenv("WANDB_MODE", "online")
    written("wandb", tmp_path)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"features/stride4/std" in file.read_bytes()
    assert os.environ["WANDB_MODE"] == "offline"
    nothing_leaks(tmp_path)


def test_an_unknown_or_missing_logger_is_named(monkeypatch):
    with pytest.raises(FoveateError, match="accepted are tensorboard, mlflow, wandb"):
        loggers.names_of("tensorboard,neptune")
    monkeypatch.setattr(
        loggers, "find_spec", lambda name: None if name == "wandb" else importlib.util.find_spec(name)
    )
    with pytest.raises(FoveateError, match=r"foveate\[loggers\]"):
        loggers.names_of("wandb")
    assert loggers.names_of("") == []
    assert loggers.names_of(" tensorboard, mlflow") == ["tensorboard", "mlflow"]


def test_the_log_of_a_run_writes_to_its_loggers_too(tmp_path):
    with RunLog(tmp_path, 10, loggers="tensorboard") as log:
        log.measured({"step": 5, "pull/pixel": 0.5, "health_seconds": 1.0})
        log.validated(5, {"score": float("nan")})
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"pull/pixel" in file.read_bytes()
    assert '"val/score": null' in (tmp_path / "metrics.jsonl").read_text()
