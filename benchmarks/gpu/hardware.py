"""What the machine is, and the most that convolutions reach on it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

Row = dict[str, str | int | float]
Measures = Iterator[tuple[str, Callable[[], Row]]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a section is to be measured.

    Attributes:
        accelerator: Where.
        miniature: Whether only the command itself is tried.
        scratch: A folder that all sections share.
        fixtures: Folder of recordings of the authors' PCRLv2; empty where there are none.
        launcher: A Python program that starts further ones; empty where Python does.
        before: The rows of the sections that were measured before.
    """

    accelerator: str
    miniature: bool
    scratch: Path
    fixtures: str = ""
    launcher: str = ""
    before: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Whether this is about a GPU."""
        return self.accelerator == "cuda"

    @property
    def workers(self) -> int:
        """Processes that load: a core stays for the one that trains."""
        return 0 if self.miniature else min(16, max(1, len(os.sched_getaffinity(0)) - 1))

    def wait(self) -> None:
        """Until the device has done all that it was asked."""
        if self.cuda:
            torch.cuda.synchronize()


def environment(setting: Setting) -> Measures:
    """The machine and the versions."""
    facts: dict[str, Callable[[], str | int | float]] = {
        "foveate": lambda: version("foveate"),
        "commit": lambda: said("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
        "Python": platform.python_version,
        "torch": lambda: torch.__version__,
        "Fabric": lambda: version("lightning-fabric"),
        "MONAI": lambda: version("monai"),
        "cores of this process": lambda: len(os.sched_getaffinity(0)),
        "memory, GiB": lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "miniature": lambda: str(setting.miniature),
        "accelerator": lambda: setting.accelerator,
    }
    if setting.cuda:
        facts |= {
            "GPUs": torch.cuda.device_count,
            "GPU": torch.cuda.get_device_name,
            "capability": lambda: ".".join(map(str, torch.cuda.get_device_capability())),
            "GPU memory, GiB": lambda: torch.cuda.mem_get_info()[1] / 2**30,
            "CUDA of torch": lambda: str(torch.version.cuda),
            "cuDNN": lambda: str(torch.backends.cudnn.version()),
            "NCCL": lambda: (
                str(torch.cuda.nccl.version()) if torch.distributed.is_nccl_available() else "none"
            ),
            "driver, MIG, clocks": lambda: said(
                "nvidia-smi",
                "--query-gpu=driver_version,mig.mode.current,clocks.max.sm,power.limit",
                "--format=csv,noheader",
            ),
        }
    for name, find in facts.items():
        yield name, lambda find=find: {"value": find()}


def said(*command: str) -> str:
    """What a program prints; that it is not there where it is not."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"not known ({type(error).__name__})"


def ceiling(setting: Setting) -> Measures:
    """Forward and backward of one large convolution, in both layouts; the larger rate counts."""
    for dimension in (2, 3):
        for layout in ("contiguous", "channels_last"):
            what = f"{dimension}D convolution, bfloat16, {layout}"
            yield what, partial(convolved, setting, dimension, layout)
    yield "matrix product, bfloat16", partial(multiplied, setting)


def convolved(setting: Setting, dimension: int, layout: str) -> Row:
    """Of 3 x 3 (x 3) voxels."""
    batch, channels, size = {2: (64, 256, 64), 3: (16, 128, 32)}[dimension]
    if setting.miniature:
        batch, channels, size = 2, 4, 8
    kind = {2: nn.Conv2d, 3: nn.Conv3d}[dimension]
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    order = formats[dimension] if layout == "channels_last" else torch.contiguous_format
    conv = kind(channels, channels, 3, padding=1).to(setting.accelerator, torch.bfloat16)
    conv = conv.to(memory_format=order)
    x = torch.randn(batch, channels, *[size] * dimension).to(setting.accelerator, torch.bfloat16)
    x = x.to(memory_format=order).requires_grad_()
    gradient = torch.ones_like(x)

    def once() -> None:
        conv(x).backward(gradient)

    voxels = batch * size**dimension
    return rate(setting, once, 3 * 2 * voxels * channels**2 * 3**dimension)


def multiplied(setting: Setting) -> Row:
    """Of square matrices."""
    size = 32 if setting.miniature else 8192
    a: Tensor = torch.randn(size, size).to(setting.accelerator, torch.bfloat16)
    return rate(setting, lambda: a @ a, 2 * size**3)


def rate(setting: Setting, once: Callable[[], object], operations: int) -> Row:
    """TFLOP/s of about a second of it."""
    for _ in range(1 if setting.miniature else 5):
        once()
    setting.wait()
    started, count, seconds = time.perf_counter(), 0, 0.0
    while seconds < (0.0 if setting.miniature else 1.0) or not count:
        for _ in range(1 if setting.miniature else 10):
            once()
            count += 1
        setting.wait()
        seconds = time.perf_counter() - started
    return {"TFLOP/s": count * operations / seconds / 1e12}


def highest(setting: Setting, dimension: int) -> float:
    """The ceiling of a dimension, as it was measured before; 0 where it was not."""
    rows = [row for row in setting.before.get("ceiling", []) if str(row["what"]).startswith(f"{dimension}D")]
    return max((float(row["TFLOP/s"]) for row in rows if "TFLOP/s" in row), default=0.0)
