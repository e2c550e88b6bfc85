"""The GPU of a process of a comparison: one that no other process of it holds, as long as there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from rich.console import Console

from foveate.commands.compare.config import CompareConfig
from foveate.commands.compare.folder import CLAIMS, RUNS
from foveate.commands.compare.grid import example
from foveate.core.processes.claims import least_held
from foveate.runtime.resources.gpus import check_visible


@contextmanager
def claimed(config: CompareConfig, out: Path, console: Console) -> Iterator[tuple[int, ...]]:
    """The GPU of this process until the end of the block; none where no task is on GPUs.

    Args:
        config: The comparison.
        out: Its folder.
        console: Says which GPU it is.
    """
    nowhere = out / RUNS / "none"
    if all(example(config, name, nowhere).accelerator != "cuda" for name in config.tasks):
        yield ()
        return
    with ExitStack() as held:
        names = {name: gpu for gpu, name in names_of(config.grid.devices).items()}
        name, others = least_held(out / CLAIMS, names, held)
        gpu = names[name]
        shared = f", which {others} other processes of this comparison use as well" if others else ""
        console.print(f"GPU {gpu}{shared}", markup=False)
        torch.cuda.set_device(gpu)  # what is called "cuda" from here on, such as for the test images
        yield (gpu,)


def names_of(devices: tuple[int, ...]) -> dict[int, str]:
    """Index -> a name that every process has for that GPU, on any machine and whatever it sees of it."""
    check_visible(devices)
    return {
        gpu: f"gpu-{torch.cuda.get_device_properties(gpu).uuid}"
        for gpu in devices or range(torch.cuda.device_count())
    }
