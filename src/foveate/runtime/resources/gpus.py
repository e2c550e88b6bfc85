"""Which GPUs of a machine a run takes."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Protocol, TypeVar

import torch

from foveate.core.types import FoveateError
from foveate.runtime.config import RunConfig
from foveate.runtime.precision import device_of

C = TypeVar("C", bound=RunConfig)


class OnDevices(Protocol):
    """A configuration that says where to compute."""

    @property
    def accelerator(self) -> str:
        """Type of device."""

    @property
    def devices(self) -> int:
        """How many."""

    @property
    def gpus(self) -> tuple[int, ...]:
        """Which; empty: the first ones."""


def check_gpus(config: OnDevices) -> None:
    """Refuse GPUs that cannot be taken."""
    if not config.gpus:
        return
    said = ",".join(map(str, config.gpus))
    if config.accelerator != "cuda":
        raise FoveateError(
            f"--devices {said} names GPUs, and --accelerator is {config.accelerator}; accepted: a number of "
            "devices, or --accelerator cuda."
        )
    if len(config.gpus) != config.devices or len(set(config.gpus)) < len(config.gpus):
        raise FoveateError(
            f"gpus {list(config.gpus)} with devices {config.devices}: accepted are different GPUs, as many "
            "as devices. --devices 0,2 sets both."
        )
    check_visible(config.gpus)


def check_visible(gpus: tuple[int, ...]) -> None:
    """Refuse GPUs that torch does not see, where it sees some."""
    count = torch.cuda.device_count()
    for gpu in gpus:
        if count and not 0 <= gpu < count:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            why = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r}, and counts anew from 0)"
            raise FoveateError(f"There is no GPU {gpu}{why}; accepted: 0 to {count - 1}.")


def take_gpu(accelerator: str, gpu: int) -> None:
    """Compute on this GPU from here on; 0 leaves it at the one that torch takes."""
    if gpu == 0:
        return
    if accelerator != "cuda":
        raise FoveateError(
            f"--gpu {gpu} names a GPU, and --accelerator is {accelerator}; accepted: --accelerator cuda."
        )
    device_of(accelerator)
    check_visible((gpu,))
    torch.cuda.set_device(gpu)


def on_one_device(config: C) -> C:
    """The same run in one process, for a probe of it."""
    return replace(config, devices=1, num_nodes=1, gpus=config.gpus[:1])
