"""Rows of all processes, for losses that look across the batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def joined(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks (W * B, E); alone, the rows themselves.

    The gradient of every process's loss reaches every process's rows. Where all compute the same loss of the
    joined rows, the mean of their gradients, as data-parallel training takes it, is that of one process with
    the joined batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    return _Joined.apply(rows)  # type: ignore[no-any-return,no-untyped-call]


class _Joined(torch.autograd.Function):
    """All-gather whose gradient is the sum over processes."""

    @staticmethod
    def forward(ctx: object, rows: Tensor) -> Tensor:  # noqa: ARG004 - torch hands it over
        every = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(every, rows.contiguous())
        return torch.cat(every)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        summed = gradients[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]
