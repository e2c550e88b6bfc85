"""What this process may use: CPUs, memory, disk, GPUs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from foveate.core.types import FoveateError
from foveate.runtime.memory import room_mib
from foveate.runtime.precision import BFLOAT16_FROM
from foveate.runtime.resources.cpus import own_cpus, usual_workers

GIB = 2**30
FEW_WORKERS = 4
LITTLE_DISK, LITTLE_MEMORY, LITTLE_SHARED = 10.0, 4.0, 1.0  # GiB
SHARED = Path("/dev/shm")  # where batches go from worker to process


@dataclass(frozen=True)
class Finding:
    """One line, and what to do about it, if anything."""

    line: str
    advice: str = ""


def free_gib(folder: Path) -> float:
    """Free space of the disk that holds a folder."""
    try:
        return shutil.disk_usage(folder).free / GIB
    except OSError as error:
        raise FoveateError(f"--folder: {error.strerror}; accepted: a folder that exists.") from None


def cpus() -> Finding:
    """CPUs."""
    return Finding(f"CPUs: {own_cpus()} for this process, of {os.cpu_count() or 1}")


def memory() -> Finding:
    """Memory that is free for this process, limits of containers counted."""
    free = room_mib(cuda=False) / 1024
    few = free < LITTLE_MEMORY
    return Finding(
        f"memory: {free:.1f} GiB free", "little memory: --size small, smaller batches" if few else ""
    )


def disks(folder: Path) -> list[Finding]:
    """Space for runs, for temporary files and for batches on their way."""
    here = free_gib(folder)
    found = [
        Finding(
            f"disk of --folder: {here:.0f} GiB free",
            "little disk: `foveate plan` says what a run needs" if here < LITTLE_DISK else "",
        ),
        Finding(f"disk of temporary files: {free_gib(Path(tempfile.gettempdir())):.0f} GiB free"),
    ]
    if SHARED.is_dir():
        shared = free_gib(SHARED)
        words = "little shared memory: a container wants --shm-size 8g or --ipc host, else --num_workers 0"
        line = f"shared memory: {shared:.1f} GiB free"
        found.append(Finding(line, words if shared < LITTLE_SHARED else ""))
    writable = os.access(folder, os.W_OK)
    return found if writable else [*found, Finding("--folder cannot be written to", "choose another --out")]


def gpus() -> list[Finding]:
    """Every GPU, or why there is none."""
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            return [Finding(f"GPU: none; torch {torch.__version__} is built for CPUs")]
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
        why = "CUDA_VISIBLE_DEVICES is empty" if hidden else "the driver may be older than torch's CUDA"
        return [Finding(f"GPU: none found by torch {torch.__version__} (CUDA {torch.version.cuda})", why)]
    count = torch.cuda.device_count()
    workers = usual_workers("cuda", count)
    few = "few for a GPU: ask the job for 8 CPUs or more for each" if workers < FEW_WORKERS else ""
    return [*map(gpu, range(count)), Finding(f"workers that load data for each GPU: {workers}", few)]


def gpu(index: int) -> Finding:
    """One GPU."""
    known, (free, whole) = torch.cuda.get_device_properties(index), torch.cuda.mem_get_info(index)
    capability = f"capability {known.major}.{known.minor}"
    line = f"GPU {index}: {known.name}, {whole / GIB:.0f} GiB, {free / GIB:.0f} free, {capability}"
    plain = (known.major, known.minor) < BFLOAT16_FROM
    return Finding(line, "no bfloat16: runs compute in float32" if plain else "")


def safely(look: Callable[[], list[Finding]], what: str) -> list[Finding]:
    """What a look finds; a driver that answers with an error is a finding."""
    try:
        return look()
    except RuntimeError as error:
        return [Finding(f"{what}: cannot be asked", " ".join(str(error).split())[:200])]
