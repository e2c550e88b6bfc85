"""Communication between the processes of one run, and errors when one of them is gone.

Everything here goes over gloo and the CPU, so that no agreement ever waits for a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast, final

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import nn

from foveate.core.types import FoveateError, LostPeerError

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # a validation of whole images may take hours; a dead peer is noticed at once
SIGNS = ("gloo", "nccl", "closed by peer", "reset by peer", "broken pipe", "tcpstore", "monitoredbarrier")


@final
class Peers:
    """The processes of a run. Every one of them must make every call, in the same order."""

    def __init__(self, fabric: Fabric) -> None:
        self.world, self.rank = fabric.world_size, fabric.global_rank
        self.group: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if self.world > 1 else None

    def highest(self, value: float) -> float:
        """The largest value of any process."""
        if self.group is None:
            return value
        known = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(known, dist.ReduceOp.MAX, self.group)
        return float(known)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over the processes; the names are the same everywhere."""
        if self.group is None:
            return dict(values)
        known = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(known, dist.ReduceOp.SUM, self.group)
        return dict(zip(values, (known / self.world).tolist(), strict=True))

    def from_first(self, value: T) -> T:
        """What process 0 holds."""
        if self.group is None:
            return value
        held = [value]
        dist.broadcast_object_list(held, 0, self.group)
        return held[0]

    def gathered(self, value: T) -> list[T]:
        """What each process holds, by rank."""
        if self.group is None:
            return [value]
        held: list[T | None] = [None] * self.world
        dist.all_gather_object(held, value, self.group)
        return cast(list[T], held)

    def same_buffers(self, module: nn.Module) -> None:
        """Those of process 0 on all: running statistics come from each process's own samples."""
        if self.group is None:
            return
        mine = {name: buffer.cpu() for name, buffer in module.named_buffers()} if self.rank == 0 else {}
        known = self.from_first(mine)
        for name, buffer in module.named_buffers():
            buffer.copy_(known[name])

    def barrier(self) -> None:
        """Go on when all are here."""
        self.highest(0.0)


def check_same(peers: Peers, value: str, what: str) -> None:
    """Refuse a run whose processes do not hold the same; every process raises, the first one in its words."""
    different = value != peers.from_first(value)
    if peers.highest(float(different)) == 0:
        return
    if different:
        raise FoveateError(f"Process {peers.rank} sees other {what} than process 0.")
    raise LostPeerError(f"Not all processes see the same {what}.")


@contextmanager
def lost_peers_explained() -> Iterator[None]:
    """Turn what gloo and NCCL raise when a process is gone into a paragraph."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        if not dist.is_initialized() or not (
            isinstance(error, dist.DistError) or any(sign in text for sign in SIGNS)
        ):
            raise
        raise LostPeerError(
            "Another process of this run ended or cannot be reached; what it said last tells why. The last "
            "checkpoint is good, and the same command goes on from there."
        ) from error
