"""Two processes at one run, or at one comparison."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from tests.commands.compare.test_compare import cells, data, grid, resolve, write  # noqa: F401 - a fixture
from tests.forks import Fork

from foveate import cli
from foveate.commands.compare import run as compare, work
from foveate.commands.compare.folder import CLAIMS, Bench
from foveate.commands.pretrain import run as pretrain
from foveate.core.processes.claims import claim
from foveate.core.types import FoveateError
from foveate.train.logging import LOCK

HOLD = """
import sys
from pathlib import Path
from foveate.core.processes.claims import claim
with claim(Path(sys.argv[1])) as free:
    print(free, flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(path):
    """Another process that holds a claim: yields it."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        try:
            yield other
        finally:
            other.kill()


def test_a_claim_is_free_again_however_its_holder_ends(tmp_path):
    path = tmp_path / "below" / "claim"
    with held(path) as other:
        with claim(path) as free:
            assert not free
        other.kill()
        other.wait()
        with claim(path) as free:
            assert free
            if child := os.fork():  # a process that loads data ends before the run does
                os.waitpid(child, 0)
            else:
                os._exit(0)
            told = subprocess.run(
                [sys.executable, "-c", HOLD, str(path)], input="", capture_output=True, text=True, check=True
            )
            assert told.stdout == "False\n"
    with held(path):
        pass


def test_a_system_without_locks_lets_everybody_go_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with claim(tmp_path / "claim") as free:
        assert free


def test_contract_a_run_that_another_process_is_at_is_left_alone(tiny):
    config = tiny(2, steps=2)
    folder = pretrain.Path(config.out)
    assert pretrain.pretrain(config)
    before = (folder / "metrics.jsonl").read_bytes(), (folder / "train.log").read_bytes()
    more = tiny(2, steps=4)
    with held(folder / LOCK), pytest.raises(FoveateError, match="another process is at work on this run"):
        pretrain.pretrain(more)
    assert before == ((folder / "metrics.jsonl").read_bytes(), (folder / "train.log").read_bytes())
    assert pretrain.pretrain(more)


def one_seed(folder, data):  # noqa: F811
    """The file of a comparison of four runs."""
    return write(folder, grid(data=str(data)) | {"finetune_seeds": [0]})


@pytest.fixture(scope="module")
def waited(data, tmp_path_factory):  # noqa: F811
    """The folder of a comparison whose pre-training another process was at first; what was done by then."""
    home = tmp_path_factory.mktemp("waited")
    out, done = home / "out", []
    config = resolve(str(one_seed(home, data)), {"out": str(out)})
    with held(out / CLAIMS / "blobs-restoring-p0-pretrain") as other, pytest.MonkeyPatch.context() as patch:

        def slept(_seconds):
            done.append({path.stem for path in (out / "cells").iterdir()})
            other.kill()
            other.wait()

        patch.setattr(compare.time, "sleep", slept)
        assert compare.compare(config)
    return out, done


@pytest.mark.slow
def test_what_another_process_is_at_waits_and_the_rest_goes_on(waited):
    out, done = waited
    assert len(done) == 1
    assert len(done[0]) == 2  # scratch and scratch_long
    assert not any("restoring" in name for name in done[0])
    assert len(cells(out)) == 4


@pytest.mark.slow
def test_a_run_that_failed_here_and_is_tried_elsewhere_is_waited_for(data, tmp_path, monkeypatch):  # noqa: F811
    out = tmp_path / "out"
    config = resolve(str(one_seed(tmp_path, data)), {"out": str(out)})
    do, starts, taken, slept = work.work, Bench.needs, [], []

    def fails_once(bench, job):
        if job.kind == "pretrain" and not taken:
            other = held(out / CLAIMS / job.name)
            taken.append((other, job))
            raise RuntimeError("no memory")
        do(bench, job)

    def needs(bench, job):
        if job.kind == "test" and len(taken) == 1:  # by now the other process has begun with it
            taken.append(taken[0][0].__enter__())
        return starts(bench, job)

    def sleep(_seconds):
        slept.append({path.stem for path in (out / "cells").iterdir()})
        do(Bench.opened, taken[0][1])
        taken[1].kill()
        taken[1].wait()

    monkeypatch.setattr(work, "work", fails_once)
    monkeypatch.setattr(Bench, "needs", needs)
    monkeypatch.setattr(Bench, "opened", None, raising=False)
    monkeypatch.setattr(compare.time, "sleep", sleep)
    monkeypatch.setattr(
        compare, "Bench", lambda config: setattr(Bench, "opened", Bench(config)) or Bench.opened
    )
    assert compare.compare(config)
    assert len(slept) == 1
    assert not any("restoring" in name for name in slept[0])
    assert len(cells(out)) == 4


@pytest.mark.slow
def test_two_processes_share_a_comparison(waited, data, tmp_path):  # noqa: F811
    file = one_seed(tmp_path, data)
    command = ["compare", "--config", str(file), "--out", str(tmp_path / "out")]
    both = [Fork(cli.main, command, errors=tmp_path / f"errors-{i}") for i in range(2)]
    words = [each.communicate()[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], words
    found, alone = cells(tmp_path / "out"), cells(waited[0])
    assert found.keys() == alone.keys()
    for name, cell in found.items():
        log = (tmp_path / "out/runs" / name / "train.log").read_text()
        assert log.count("exported exported") == 1, name
        assert cell.get("validation") == alone[name].get("validation"), name
