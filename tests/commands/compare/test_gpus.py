"""Which GPU the processes of a comparison and the runs of a machine take."""

import subprocess
import sys
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
from rich.console import Console
from tests.commands.compare.test_claims import held
from tests.commands.compare.test_compare import data, grid, resolve, write  # noqa: F401 - fixtures

from foveate.commands.compare.arms import SCRATCH
from foveate.commands.compare.folder import CLAIMS, Bench, StoppedError
from foveate.commands.compare.gpus import claimed
from foveate.commands.compare.grid import jobs_of
from foveate.commands.compare.held import held_out
from foveate.commands.compare.work import work
from foveate.commands.pretrain import run as pretrain
from foveate.core.processes.claims import least_held
from foveate.runtime.resources import cpus

WORKER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from foveate.core.processes.claims import least_held
with ExitStack() as held:
    print(*least_held(Path(sys.argv[1]), ["one", "other"], held), flush=True)
    sys.stdin.read()
"""


@contextmanager
def worker(folder):
    """Another process of a comparison: yields the GPU that it took and how many had it before."""
    command = [sys.executable, "-c", WORKER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            yield other.stdout.readline().strip()
        finally:
            other.kill()


def test_every_process_takes_a_gpu_of_its_own_and_then_the_least_used(tmp_path):
    with worker(tmp_path) as first, worker(tmp_path) as second, worker(tmp_path) as third:
        assert [first, second, third] == ["one 0", "other 0", "one 1"]
    with ExitStack() as held:  # the others are gone, however they ended
        assert least_held(tmp_path, ["one", "other"], held) == ("one", 0)


@pytest.fixture
def three_gpus(monkeypatch):
    """Torch as on a machine with three GPUs and 8 CPUs; the list of what was made the current one."""
    current = []
    for name, said in {
        "device_count": lambda: 3,
        "is_available": lambda: True,
        "get_device_capability": lambda: (8, 0),
        "get_device_properties": lambda gpu: SimpleNamespace(uuid=f"GPU-{gpu}"),
        "set_device": current.append,
    }.items():
        monkeypatch.setattr(f"torch.cuda.{name}", said)
    monkeypatch.setattr(cpus, "own_cpus", lambda _environment: 8)
    return current


def test_the_runs_of_a_process_are_on_the_gpu_that_it_claimed(data, tmp_path, three_gpus, monkeypatch):  # noqa: F811
    content = grid(data=str(data))
    content["tasks"]["blobs"]["both"] = {"size": "small", "encoder": {"width": 4}, "accelerator": "cuda"}
    config = resolve(write(tmp_path, content), {"out": str(tmp_path / "out"), "devices": "1,2"})
    bench, seen = Bench(config), []
    bench.open()
    held_out(bench, "blobs")

    def stopped(run):
        seen.append((run.gpus, run.devices, run.num_workers))
        return False

    monkeypatch.setattr(pretrain, "pretrain", stopped)
    pretraining = next(job for job in jobs_of(config) if job.kind == "pretrain")
    scratch = next(job for job in jobs_of(config) if job.kind == "test" and job.arm == SCRATCH)
    with held(bench.out / CLAIMS / "gpu-GPU-1-0"), claimed(config, bench.out, Console()) as bench.gpus:
        with pytest.raises(StoppedError):
            work(bench, pretraining)
        tuning = bench.tuning(scratch, tmp_path / "run")
    assert three_gpus == [2]
    assert seen == [((2,), 1, 3)]  # eight CPUs for the processes on two GPUs
    assert (tuning.gpus, tuning.num_workers) == ((2,), 3)


def test_a_comparison_on_cpus_claims_nothing(data, tmp_path):  # noqa: F811
    config = resolve(write(tmp_path, grid(data=str(data))), {"out": str(tmp_path / "out")})
    with claimed(config, tmp_path, Console()) as found:
        assert found == ()
