"""Memory and time that this process has used so far, and the memory that is free."""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch

LIMIT, USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def peaks_mib(cuda: bool) -> tuple[float, float]:
    """The peak of this process (of its device where it has one), and of its largest ended child."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    own, child = (
        resource.getrusage(w).ru_maxrss / unit for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return (torch.cuda.max_memory_reserved() / 2**20 if cuda else own), child


def age_seconds() -> float:
    """How long ago this process began, its imports included; its own CPU time where that is not known."""
    with suppress(OSError, IndexError, ValueError):
        ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        since_boot = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return since_boot - ticks / os.sysconf("SC_CLK_TCK")
    return time.process_time()


def room_mib(cuda: bool) -> float:
    """What is free now: on the device, or on the machine and in this process's share of it."""
    if cuda:
        free, _ = torch.cuda.mem_get_info()
        return float((free + torch.cuda.memory_reserved()) / 2**20)
    rooms = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20]
    with suppress(OSError, IndexError, ValueError):
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        rooms.append(int(text.split("MemAvailable:")[1].split()[0]) / 2**10)
    with suppress(OSError, ValueError):  # "max" where there is no limit
        rooms.append((int(LIMIT.read_text()) - int(USED.read_text())) / 2**20)
    return max(0.0, min(rooms))


def found_accelerator() -> Literal["cpu", "cuda"]:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
