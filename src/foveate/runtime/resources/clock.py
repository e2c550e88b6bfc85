"""The clock for what a device does."""

from __future__ import annotations

import time

import torch


def device_clock(accelerator: str) -> float:
    """Seconds, read when the device has done all that was asked of it.

    A GPU works behind the host's back: the host's own clock would say how long it takes to ask.
    """
    if accelerator == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
