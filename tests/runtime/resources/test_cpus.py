"""How many processes load data, and on which CPUs."""

import pytest
from tests.conftest import tiny_keys

from foveate.commands.pretrain import config as settings
from foveate.data import loader
from foveate.runtime import precision
from foveate.runtime.resources import cpus

EVERY = 64


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 64 CPUs, all of which this process may use; nobody limits its time."""
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _pid: set(range(EVERY)))
    monkeypatch.setattr(cpus.sys, "platform", "linux")
    monkeypatch.setattr(cpus, "CGROUPS", tmp_path)
    monkeypatch.setattr(cpus, "OWN_CGROUP", tmp_path / "cgroup")
    for name in ("SLURM_CPUS_ON_NODE", "SLURM_STEP_NUM_TASKS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_gpu_gets_all_cpus_but_one_and_a_cpu_one_worker(machine, monkeypatch):
    assert cpus.usual_workers("cuda", 1) == cpus.MOST_WORKERS
    assert cpus.usual_workers("cuda", 8) == 7
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _pid: {0, 1})
    assert cpus.usual_workers("cuda", 1) == 1
    assert cpus.usual_workers("cuda", 4) == 1
    assert cpus.usual_workers("cpu", 1) == 1


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"cpu.max": "max 100000"}, EVERY),
        ({"cpu.max": "600000 100000"}, 6),
        ({"cpu.max": "600000 100000", "job/cpu.max": "250000 100000", "job/step/cpu.max": "max 100000"}, 2),
        ({"job/step/cpu.max": "50000 100000"}, 1),
        ({}, EVERY),
    ],
)
def test_a_quota_of_time_counts_also_that_of_a_group_above(machine, files, allowed):
    (machine / "cgroup").write_text("1:name=other:/elsewhere\n0::/job/step\n")
    for name, text in files.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(f"{text}\n")
    assert cpus.own_cpus({}) == allowed


def test_a_cluster_that_confines_nobody_says_what_a_job_has(machine):
    job = {"SLURM_CPUS_ON_NODE": "24"}
    assert cpus.own_cpus(job) == 24
    assert cpus.cpus_of_process(4, job) == 6  # torchrun or foveate start four processes
    task = job | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_CPUS_PER_TASK": "5"}
    assert cpus.cpus_of_process(4, task) == 5  # srun has divided them already


def test_a_run_on_a_gpu_has_these_workers_and_keeps_what_is_said(machine, monkeypatch, cohorts, tmp_path):
    keys = tiny_keys(2, cohorts[2], tmp_path / "run")
    del keys["num_workers"]
    on_gpu = {**keys, "accelerator": "cuda"}
    assert settings.SPEC.from_keys(keys).num_workers == 1
    assert settings.SPEC.from_keys(on_gpu).num_workers == cpus.MOST_WORKERS
    assert settings.SPEC.from_keys({**on_gpu, "devices": 8}).num_workers == 7
    assert settings.SPEC.from_keys({**on_gpu, "num_workers": 3}).num_workers == 3
    assert precision.devices_of({"devices": "many"}) == 1


def test_a_gpu_has_more_batches_ahead(monkeypatch):
    asked = []

    def loader_of(*_, **options):
        asked.append(options["prefetch_factor"])
        raise InterruptedError

    monkeypatch.setattr(loader, "DataLoader", loader_of)
    for pin, workers in ((False, 1), (True, 1), (True, 0)):
        with pytest.raises(InterruptedError):
            next(
                loader.batches(
                    None,
                    None,
                    seed=0,
                    first_step=0,
                    steps=1,
                    batch_size=1,
                    num_workers=workers,
                    pin_memory=pin,
                )
            )
    assert asked == [2, 4, None]
