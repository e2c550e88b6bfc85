"""Interrupted and resumed equals uninterrupted, byte for byte; and what may be resumed at all."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from tests.conftest import stop_at, tiny_keys
from tests.forks import Fork

from foveate import cli
from foveate.commands.pretrain import config as settings, run
from foveate.core.types import FoveateError
from foveate.train import checkpoint

WEIGHTS = "exported/weights.safetensors"


def start(keys, folder):
    """The real command in a process of its own; in 3D a fork of this one."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(keys))
    if keys["dimension"] == 3:
        return Fork(cli.main, ["pretrain", "--config", str(config)], errors=folder / "errors")
    command = [sys.executable, "-m", "foveate.cli", "pretrain", "--config", str(config)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **quiet)


def finish(process):
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def last_step(out):
    path = out / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []  # the last may be half-written
    return json.loads(lines[-1])["step"] if lines else 0


@pytest.mark.parametrize(("dimension", "reach"), [(2, os.killpg), (3, os.kill)], ids=["2d-group", "3d-one"])
def test_twenty_steps_equal_6_and_sigterm_and_the_rest(cohorts, tmp_path, dimension, reach):
    keys = {name: tiny_keys(dimension, cohorts[dimension], tmp_path / name, steps=20) for name in ("a", "b")}
    keys["b"]["num_workers"] = (
        1  # neither the workers nor the interruption may matter, nor which process it is
    )
    assert run.pretrain(settings.SPEC.from_keys(keys["a"]))

    interrupted = start(keys["b"], tmp_path)
    while last_step(tmp_path / "b") < 6 and interrupted.poll() is None:
        time.sleep(0.01)
    reach(interrupted.pid, signal.SIGTERM)  # as `kill` and as a cluster, which reaches whoever loads data too
    code, errors = finish(interrupted)
    assert code == 130, errors
    assert "Traceback" not in errors
    assert "The same command resumes from it" in errors
    stopped = checkpoint.newest_step(tmp_path / "b" / "checkpoints")
    assert 6 <= stopped < 20
    assert not (tmp_path / "b" / WEIGHTS).exists()

    assert run.pretrain(settings.SPEC.from_keys(keys["b"]))
    for file in (WEIGHTS, "exported/card.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert last_step(tmp_path / "b") == 20


def test_negative_control_without_optimizer_state_the_bytes_differ(tiny, monkeypatch):
    """The comparison above can fail: forget the momentum and it does."""
    assert run.pretrain(tiny(3, "a", steps=4))
    part = tiny(3, "b", steps=4)
    stop_at(part, 2)
    original = checkpoint.load_newest

    def without_momentum(fabric, folder, state, say):
        known = {"model": state["model"], "step": 0}
        found = original(fabric, folder, known, say)
        state["step"] = known["step"]
        return found

    monkeypatch.setattr(checkpoint, "load_newest", without_momentum)
    assert run.pretrain(part)
    one, other = (run.Path(part.out).parent / name / WEIGHTS for name in ("a", "b"))
    assert one.read_bytes() != other.read_bytes()


def test_a_half_written_checkpoint_is_skipped_with_a_word(tiny, capsys):
    config = tiny(2, "run", steps=4, save_every=1)
    stop_at(config, 3)
    folder = run.Path(config.out) / "checkpoints"
    newest = checkpoint.path_of(folder, 3)
    newest.write_bytes(newest.read_bytes()[:2000])
    (folder / "step-000000009.partial").write_bytes(b"x")
    assert run.pretrain(config)
    assert "step-000000003.ckpt is incomplete or damaged; it is skipped" in capsys.readouterr().err
    assert run.pretrain(tiny(2, "straight", steps=4, save_every=1))
    assert (run.Path(config.out) / WEIGHTS).read_bytes() == (
        run.Path(config.out).parent / "straight" / WEIGHTS
    ).read_bytes()


def test_only_the_last_checkpoints_stay_and_hold_plain_tensors(tiny):
    config = tiny(2, "run", steps=4, save_every=1, keep_checkpoints=2)
    assert run.pretrain(config)
    folder = run.Path(config.out) / "checkpoints"
    assert [p.name for p in sorted(folder.iterdir())] == ["step-000000003.ckpt", "step-000000004.ckpt"]
    state = torch.load(folder / "step-000000004.ckpt", weights_only=True)
    assert state["step"] == 4


def test_a_larger_number_of_steps_continues_and_a_smaller_one_is_refused(tiny):
    assert run.pretrain(tiny(2, "run", steps=2))
    assert run.pretrain(tiny(2, "run", steps=4))
    rows = (run.Path(tiny(2, "run").out) / "metrics.jsonl").read_text().splitlines()
    assert [row["step"] for row in map(json.loads, rows) if "loss" in row] == [1, 2, 3, 4]
    with pytest.raises(FoveateError, match="at step 4 already"):
        run.pretrain(tiny(2, "run", steps=3))


def test_a_different_configuration_is_refused_with_the_keys_that_differ(tiny, capsys):
    assert run.pretrain(tiny(2, "run", steps=1))
    with pytest.raises(FoveateError, match=r"optim.lr: 0.003 -> 0.5.*choose another --out"):
        run.pretrain(tiny(2, "run", steps=2, optim={"lr": 0.5}))


def test_other_images_are_refused(tiny, cohorts, tmp_path):
    from tests.conftest import write_cohort

    data = write_cohort(tmp_path / "images", 2, 3)
    keys = tiny_keys(2, data, tmp_path / "run", steps=1)
    assert run.pretrain(settings.SPEC.from_keys(keys))
    (data / "p0.png").unlink()
    with pytest.raises(FoveateError, match="holds other images than when"):
        run.pretrain(settings.SPEC.from_keys({**keys, "steps": 2}))


def test_a_folder_with_other_things_in_it_is_not_taken_over(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(FoveateError, match="holds other files"):
        run.pretrain(tiny(2, "run"))


def test_init_starts_from_given_weights_and_reports(tiny, capsys):
    assert run.pretrain(tiny(2, "first", steps=1))
    source = run.Path(tiny(2, "first").out)
    assert run.pretrain(tiny(2, "second", steps=1, init=str(source), optim={"lr": 0.0}))
    assert "100% of the encoder initialised" in capsys.readouterr().err
    report = json.loads((source.parent / "second" / "transfer.json").read_text())
    assert report["share"] == 1
    assert not report["random"]
    tensors, cards = zip(
        *(run.weights.read(source.parent / name) for name in ("first", "second")), strict=True
    )
    assert cards[0]["initial_weights"] is None
    assert cards[1]["initial_weights"]["data_hash"] == cards[0]["data_hash"]
    assert cards[1]["views"] == {"global": [64, 64], "local": [32, 32]}
    assert cards[1]["patients"] is None  # a plain folder names nobody
    weight = "encoder.conv1.weight"
    assert torch.equal(tensors[0][weight], tensors[1][weight])


def test_init_from_nowhere_is_refused(tiny):
    with pytest.raises(FoveateError, match=r"nowhere: there is no such file; accepted: a run folder"):
        run.pretrain(tiny(2, "run", init="nowhere"))


def test_init_that_fits_badly_is_refused(tiny):
    assert run.pretrain(tiny(2, "first", steps=1))
    source = str(run.Path(tiny(2, "first").out))
    with pytest.raises(
        FoveateError, match=r"--init \S+ fills \d+% of the encoder, less than --min_transfer 0\.9"
    ):
        run.pretrain(tiny(2, "second", init=source, encoder={"width": 8}))
    assert not run.Path(tiny(2, "second").out).exists()  # so that the mended command may use the folder


def test_init_names_how_its_input_differed(tiny, capsys):
    assert run.pretrain(tiny(2, "first", steps=1))
    source = str(run.Path(tiny(2, "first").out))
    other = {"window": "range", "intensity_range": [0.0, 255.0]}
    assert run.pretrain(tiny(2, "second", steps=1, init=source, prepare=other))
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "intensity: profile by_modality in the weights, range 0 to 255 here" in shown
