"""How long the device had nothing to do because the next batch was not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

import torch


class Mark(Protocol):
    """A point in the work of a device, as `torch.cuda.Event` is one."""

    def record(self) -> None:
        """Put the point behind everything that was asked of the device so far."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has come to it."""
        ...

    def elapsed_time(self, end: Self, /) -> float:
        """Milliseconds of the device from this point to another."""
        ...


@dataclass(kw_only=True)
class Waiting:
    """Adds up how long a device waited for batches.

    A device that works behind the host's back still has the step before to do while the host waits for a
    batch: only what lies between the end of that work and the batch's arrival is lost. On a CPU the host is
    the device, and its wait the device's.

    Attributes:
        new_mark: Makes a point in the work of such a device; None on a CPU.
    """

    new_mark: Callable[[], Mark] | None = None
    seconds: float = 0.0
    done: Mark | None = None  # behind the newest step
    open: list[tuple[float, Mark, Mark]] = field(default_factory=list)  # of batches whose gap is not read yet

    def worked(self) -> None:
        """All work on a batch was asked of the device."""
        if self.new_mark:
            self.done = self.new_mark()
            self.done.record()

    def came(self, waited: float) -> None:
        """A batch is there, for which the host waited so many seconds."""
        if self.new_mark is None or self.done is None:
            self.seconds += waited
            return
        arrival = self.new_mark()
        arrival.record()
        self.open.append((waited, self.done, arrival))

    def total(self) -> float:
        """Seconds since the last call; waits for the device to come to the newest batch."""
        for waited, done, arrival in self.open:
            arrival.synchronize()
            self.seconds += min(waited, done.elapsed_time(arrival) / 1000)
        found, self.seconds, self.open = self.seconds, 0.0, []
        return found


def waiting_of(device: torch.device) -> Waiting:
    """For a device."""
    if device.type != "cuda":
        return Waiting()
    return Waiting(new_mark=lambda: torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
