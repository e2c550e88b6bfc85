"""The CPUs of a process, and how many of them load data."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MOST_WORKERS = 16  # more fill shared memory with batches sooner than they help one GPU


def own_cpus(environment: Mapping[str, str] = os.environ) -> int:
    """The CPUs that this process may use: those of its job, where SLURM or a container gives it some.

    A cluster that does not confine its jobs says in SLURM_CPUS_ON_NODE what was asked for; a container's
    `--cpus 4` is a quota of time, which leaves all CPUs visible.
    """
    known = [len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1, quota()]
    if environment.get("SLURM_CPUS_ON_NODE", "").isdigit():
        known.append(int(environment["SLURM_CPUS_ON_NODE"]))
    return max(1, math.floor(min(known)))


def quota() -> float:
    """CPUs that this process's control group and those above it allow it."""
    most = math.inf
    with suppress(OSError, ValueError, IndexError):
        line = next(each for each in OWN_CGROUP.read_text(encoding="ascii").splitlines() if each[:3] == "0::")
        folder = CGROUPS / line[3:].strip("/")
        for each in (folder, *folder.parents):
            with suppress(OSError, ValueError):
                allowed, period = (each / "cpu.max").read_text(encoding="ascii").split()
                most = min(most, int(allowed) / int(period))  # "max" is no number, and no limit
    return most


def cpus_of_process(devices: int, environment: Mapping[str, str] = os.environ) -> int:
    """This process's share, where there is one process for each device of the machine.

    SLURM's tasks have their own CPUs already. Whoever else starts processes gives each those of all.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    each = environment.get("SLURM_CPUS_PER_TASK", "")
    if tasks.isdigit() and int(tasks) > 1 and each.isdigit():
        return max(1, min(own_cpus(environment), int(each)))
    return max(1, own_cpus(environment) // max(1, devices))


def usual_workers(accelerator: str, devices: int) -> int:
    """Worker processes of a run where nothing is said.

    A GPU leaves the CPUs alone and waits for them: all but one, which the training process needs. On a CPU
    the network takes the cores, and much longer than the making of its batch (180 ms against 22 in the
    smallest steps, benchmarks/RESULTS.md): one worker, and more would only take turns with the network.
    """
    return min(MOST_WORKERS, max(1, cpus_of_process(devices) - 1)) if accelerator == "cuda" else 1
