"""Two processes over gloo: the same gradient as one, the same weights on both, and every end of a run."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from tests.conftest import tiny_keys, write_cohort
from tests.forks import Fork, forked_rank
from tests.runtime.ranks import digest, main
from tests.runtime.tuned import EXACT, half_supervised, half_supervised_values, newest, write_labelled

from foveate import cli
from foveate.commands.finetune import config as finetune_settings
from foveate.commands.finetune.run import finetune
from foveate.commands.pretrain import config as settings, run
from foveate.commands.pretrain.build import build_method
from foveate.core.types import Ending, FoveateError, LostPeerError
from foveate.runtime import launch, processes
from foveate.runtime.registries import METHODS
from foveate.train import checkpoint

SHARES = {
    "one": {"batch_size": 8},
    "two": {"batch_size": 4, "devices": 2},
    "both": {"batch_size": 2, "devices": 2, "accumulate": 2, "activation_checkpointing": True},
}


def gradient(out):
    """Of the first step, from the newest checkpoint."""
    (path,) = (out / "checkpoints").glob("step-*.ckpt")
    state = torch.load(path, weights_only=True)["optimizer"]["state"]
    return [state[i]["momentum_buffer"] for i in sorted(state)]


@pytest.fixture(scope="module")
def ran(cohorts, tmp_path_factory):
    """The folder in which two processes made all the runs that need no start of their own."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = {f"{share}{d}": (d, EXACT | SHARES[share]) for share in ("two", "both") for d in (2, 3)}
    cases |= {f"long{d}": (d, {"steps": 8, "devices": 2, "log_every": 8, "health_every": 4}) for d in (2, 3)}
    cases |= {f"method_{name}": (2, {"steps": 1, "devices": 2, "method": {"name": name}}) for name in METHODS}
    cases |= {name: (3, {"steps": 4, "devices": 2, "num_workers": 1}) for name in ("straight", "broken")}
    cases["spoilt"] = (2, {"steps": 6, "devices": 2, "log_every": 1, "save_every": 1})
    for name, (d, keys) in cases.items():
        text = yaml.safe_dump(tiny_keys(d, cohorts[d], folder / name, **keys))
        (folder / f"{name}.yaml").write_text(text)
    tuned = tiny_keys(2, write_labelled(folder / "labelled"), folder / "tuned", steps=6, devices=2)
    tuned |= {
        "task": {"name": "segmentation", "crops": {"grid": [64, 64]}},
        "init": "none",
        "validate_every": 3,
        "split": {"val_share": 0.5},
    }
    (folder / "tuned.yaml").write_text(yaml.safe_dump({k: v for k, v in tuned.items() if k != "method"}))
    semi = half_supervised(folder / "labelled", folder / "semi") | SHARES["both"]
    (folder / "semi.yaml").write_text(yaml.safe_dump(semi | {"batch_size": 2, "accumulate": 1}))
    values = half_supervised_values(folder / "labelled", folder / "semi_values") | SHARES["both"]
    (folder / "semi_values.yaml").write_text(yaml.safe_dump(values | {"batch_size": 2, "accumulate": 1}))
    config = settings.SPEC.from_keys(yaml.safe_load((folder / "two2.yaml").read_text()))
    known = launch.environment(config)
    pair = [
        Fork(main, folder, errors=folder / f"errors-{rank}", environment=known | {"LOCAL_RANK": str(rank)})
        for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=200)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], errors
    return folder


@pytest.mark.parametrize("dimension", [2, 3])
def test_gradient_equals_that_of_one_process(ran, cohorts, tmp_path, dimension):
    keys = tiny_keys(dimension, cohorts[dimension], tmp_path / "one", **EXACT, **SHARES["one"])
    assert run.pretrain(settings.SPEC.from_keys(keys))
    whole = gradient(tmp_path / "one")
    largest = max(float(g.abs().max()) for g in whole)
    assert len(whole) > 10
    for share in ("two", "both"):
        shared = gradient(ran / f"{share}{dimension}")
        apart = max(float((a - b).abs().max()) for a, b in zip(whole, shared, strict=True))
        assert apart <= 1e-5 * largest, share


@pytest.mark.parametrize("case", ["long2", "long3", *(f"method_{name}" for name in METHODS)])
def test_weights_are_equal_on_both(ran, case):
    first, second = (each[case] for each in seen(ran))
    assert first == second
    config = settings.SPEC.from_keys(yaml.safe_load((ran / f"{case}.yaml").read_text()))
    assert first != digest(build_method(config))  # they moved


@pytest.mark.parametrize(
    ("name", "build"), [("semi", half_supervised), ("semi_values", half_supervised_values)]
)
def test_semi_supervised_training_with_two_processes_is_that_of_one(ran, tmp_path, name, build):
    keys = build(ran / "labelled", tmp_path / "one") | {"batch_size": 2, "accumulate": 2}
    assert finetune(finetune_settings.SPEC.from_keys(keys))
    one, two = (newest(folder) for folder in (tmp_path / "one", ran / name))
    assert [each[name] for each in seen(ran)] == ["FINISHED"] * 2
    assert any(key.startswith("teacher.") for key in one)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)


def seen(folder):
    """What either process wrote down."""
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


def test_a_signal_to_one_stops_both_and_resuming_is_bit_equal(ran):
    for each in seen(ran):
        assert (each["broken ended"], each["broken again"]) == ("STOPPED", "FINISHED")
    weights = "exported/weights.safetensors"
    assert (ran / "straight" / weights).read_bytes() == (ran / "broken" / weights).read_bytes()


def test_finetuning_stops_on_sigusr1_to_one_with_the_word_to_requeue_and_goes_on(ran):
    assert [each["tuned"] for each in seen(ran)] == [["REQUEUE", "FINISHED"]] * 2
    rows = [json.loads(line) for line in (ran / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert (ran / "tuned" / "exported" / "weights.safetensors").exists()


def test_validation_is_shared_and_its_scores_are_those_of_one_process(ran):
    """Batch norm has other statistics on either, until those of the first are taken."""
    first, second = (each["validated"] for each in seen(ran))
    assert first == second
    three = [row for row in first if row[0] == 3]  # one process judges two, the other one; other runs have 1
    assert len(three) == 2
    for _, found, alone in three:
        assert found == alone
        assert 0 < found["score"] < 1


def test_a_loss_that_is_not_finite_on_one_is_saved_by_neither(ran):
    (kind, text), (other, story) = (each["spoilt"] for each in seen(ran))
    assert (kind, other) == ("LostPeerError", "FoveateError")
    assert "another process is not finite" in text
    assert "not finite at step 2" in story
    assert checkpoint.newest_step(ran / "spoilt" / "checkpoints") == 2


def test_processes_that_see_other_images_are_refused(ran):
    kinds = [(each["same"][0], each["other"][0]) for each in seen(ran)]
    assert kinds == [("nothing", "LostPeerError"), ("nothing", "FoveateError")]
    assert "Process 1 sees other images than process 0" in seen(ran)[1]["other"][1]


def begin(keys, folder):
    """The command, which starts the two."""
    (folder / "config.yaml").write_text(yaml.safe_dump(keys))
    command = ["pretrain", "--config", str(folder / "config.yaml")]
    return Fork(cli.main, command, errors=folder / "errors")


def ended(process, seconds=30):
    """Exit code and words."""
    errors = process.communicate(timeout=seconds)[1]
    assert "Traceback" not in errors
    return process.returncode, errors


def until_step(out, step, process):
    path = out / "metrics.jsonl"
    while process.poll() is None:
        with suppress(OSError, ValueError, IndexError, KeyError):
            if json.loads(path.read_text().splitlines()[-1])["step"] >= step:
                return
        time.sleep(0.02)


def rank_pids(process):
    """Process ids of the two, in the order in which they were started, which is that of their ranks."""
    first, second = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(first), int(second)


def gone(pid):
    """Whether a process has ended, waited for or not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def wait_gone(pids):
    deadline = time.monotonic() + 30
    while not all(gone(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(gone(pid) for pid in pids)


def test_sigterm_to_one_then_the_death_of_the_starter_then_one_process(cohorts, tmp_path):
    out = tmp_path / "run"
    keys = tiny_keys(2, cohorts[2], out, steps=5000, devices=2, save_every=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "start", forked_rank)
        process = begin(keys, tmp_path)
    until_step(out, 3, process)
    os.kill(rank_pids(process)[1], signal.SIGTERM)
    code, errors = ended(process)
    assert code == 130, errors
    assert errors.count("The same command resumes from it") == 1
    first = checkpoint.newest_step(out / "checkpoints")
    assert first >= 3

    process = begin(keys, tmp_path)  # with interpreters of their own, as users have them
    until_step(out, first + 2, process)
    pids = rank_pids(process)
    process.kill()
    process.communicate()
    wait_gone(pids)
    second = checkpoint.newest_step(out / "checkpoints")
    assert second >= first + 2  # nobody is left behind, and nothing is lost

    with pytest.raises(FoveateError, match="is 2 and was 4 when"):
        run.pretrain(settings.SPEC.from_keys(keys | {"devices": 1}))
    alone = keys | {"devices": 1, "accumulate": 2, "steps": second + 2}
    assert run.pretrain(settings.SPEC.from_keys(alone))
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert set(range(1, second + 3)) <= set(steps)


@pytest.mark.slow
def test_a_bad_file_ends_both_with_one_message_and_the_run_goes_on(tmp_path):
    """In the suite: what one process says (`spoilt` above), and how the whole says it (`ending_of` below)."""
    out, data = tmp_path / "run", write_cohort(tmp_path / "images", 3, 4)
    keys = tiny_keys(3, data, out, steps=5000, devices=2, save_every=2)
    alone = keys | {"devices": 1, "batch_size": 4}
    assert run.pretrain(settings.SPEC.from_keys(alone | {"steps": 2}))
    volume = min((tmp_path / "foveate-cache").rglob("volumes/*.npy"))
    whole = volume.read_bytes()
    volume.write_bytes(b"x" * 80 + whole[80:])
    code, errors = ended(begin(keys, tmp_path), seconds=120)  # two starts of Python are in it
    assert code == 2
    named = r"\nfoveate: Process \d of 2: Sample \d+ from v\d\.nii\.gz .* All processes were stopped\.\n"
    assert re.search(named, errors)
    assert errors.count("foveate: ") == 1

    volume.write_bytes(whole)
    assert run.pretrain(settings.SPEC.from_keys(alone | {"steps": 3}))


def test_kill_9_ends_both_with_one_message_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "start", forked_rank)
    out, data = tmp_path / "run", write_cohort(tmp_path / "images", 3, 4)
    keys = tiny_keys(3, data, out, steps=5000, devices=2, save_every=2)
    alone = keys | {"devices": 1, "batch_size": 4}
    process = begin(keys, tmp_path)
    until_step(out, 6, process)
    os.kill(rank_pids(process)[1], signal.SIGKILL)
    code, errors = ended(process)
    assert code == 2
    assert "foveate: Process 1 of 2 was ended by SIGKILL" in errors
    assert errors.count("foveate: ") == 1
    done = checkpoint.newest_step(out / "checkpoints")
    assert f"The same command resumes from step {done}." in errors
    assert run.pretrain(settings.SPEC.from_keys(alone | {"steps": done + 1}))


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (2, False)])
def test_the_cluster_script_requeues_after_sigusr1_only(tmp_path, code, requeued):
    for name, text in (
        ("srun", f'echo "$@" > srun.txt; exit {code}'),
        ("scontrol", 'echo "$@" > scontrol.txt'),
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = Path(__file__).parents[2] / "docs" / "foveate.sbatch"
    known = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    known |= {"SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}
    command = ["bash", str(script), "--out", "a folder"]
    assert subprocess.run(command, cwd=tmp_path, env=known, check=False).returncode == code
    said = (tmp_path / "srun.txt").read_text()
    assert "foveate pretrain --devices 4 --num_nodes 2 --out a folder" in said
    assert (tmp_path / "scontrol.txt").exists() == requeued


def test_one_of_many_says_that_another_is_gone(monkeypatch, capsys):
    def lost(_command, _arguments):
        raise LostPeerError("Another process of this run ended.")

    monkeypatch.setattr(cli, "execute", lost)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["pretrain"]) == 2
    assert capsys.readouterr().err.count("Another process") == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"devices": 0}, "--devices 0: accepted are whole numbers from 1"),
        ({"devices": 2, "strategy": "fsdp"}, "--strategy fsdp is not there yet.*Accepted: ddp"),
        ({"devices": 2, "sync_batchnorm": True}, "torch has it on GPUs only"),
        ({"num_nodes": 2}, "without torchrun or SLURM: set MASTER_ADDR"),
    ],
)
def test_what_cannot_be_started_is_refused_before_anything_is(tiny, keys, words):
    config = tiny(2, **keys)
    with pytest.raises(FoveateError, match=words):
        run.pretrain(config)
    assert not run.Path(config.out).exists()


def test_processes_started_by_others_must_be_as_many_as_were_asked_for(tiny, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    config = tiny(2, devices=2)
    with pytest.raises(FoveateError, match=r"foveate started 4 processes.*says 2"):
        processes.check_processes(config, {"WORLD_SIZE": "4"})
    assert not launch.needs_processes(config)


@pytest.mark.parametrize(
    ("codes", "received", "ending"),
    [
        ([0, 0], [], Ending.FINISHED),
        ([130, 130], [signal.SIGTERM], Ending.STOPPED),
        ([75, 75], [signal.SIGUSR1], Ending.REQUEUE),
        ([-15, -15], [signal.SIGTERM], Ending.STOPPED),
        ([75, 2], [signal.SIGUSR1], Ending.REQUEUE),
    ],
)
def test_the_whole_ends_as_its_processes_did(codes, received, ending, tmp_path):
    words = {rank: launch.ExitMessage(lost=True, text="gone") for rank, code in enumerate(codes) if code == 2}
    assert launch.ending_of(codes, words, first=0, received=received, out=tmp_path) is ending


def test_a_crash_is_named_by_its_exit_code_and_the_same_words_are_said_once(tmp_path):
    with pytest.raises(FoveateError, match=r"Process 1 of 2 failed with exit code 1; its traceback"):
        launch.ending_of([-9, 1], {}, first=1, received=[], out=tmp_path)
    both = {rank: launch.ExitMessage(lost=False, text="No such folder.") for rank in (0, 1)}
    with pytest.raises(FoveateError, match=r"^No such folder\.$"):
        launch.ending_of([2, 2], both, first=0, received=[], out=tmp_path)


def test_processes_share_the_cpus_that_were_given_to_the_job(tiny, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(6)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert launch.environment(tiny(2, devices=2))["OMP_NUM_THREADS"] == "3"
    assert launch.environment(tiny(2, devices=8))["OMP_NUM_THREADS"] == "1"
