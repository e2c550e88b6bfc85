"""A batch on its way from a worker to the main process: its small tensors travel as one.

Every tensor that goes from process to process is a file of its own, which one side opens and hands over and
the other maps: some tenths of a millisecond on both, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast, final

import torch
from torch import Tensor

from foveate.core.types import Batch, Drawn

SMALL = 1 << 16  # bytes: what is larger is not copied once more
ALIGNED = 16  # bytes: any number may begin there


@final
@dataclass(frozen=True, slots=True)
class Place:
    """Where a small tensor is among the others; no tuple, as the thread that pins batches rebuilds those."""

    start: int
    dtype: torch.dtype
    shape: torch.Size


class Sent(NamedTuple):
    """A batch with places for its small tensors, and those; a named tuple, as torch pins what is in one."""

    batch: Batch
    small: Tensor  # bytes


def packed(batch: Batch) -> Sent:
    """The batch as a worker sends it."""
    parts: list[Tensor] = []

    def put(value: Tensor | Place) -> Tensor | Place:
        if isinstance(value, Place) or value.nbytes > SMALL:
            return value
        start = sum(map(len, parts))
        parts.append(value.contiguous().flatten().view(torch.uint8))
        parts.append(torch.zeros(-value.nbytes % ALIGNED, dtype=torch.uint8))
        return Place(start, value.dtype, value.shape)

    made = cast(Batch, each_tensor(batch, put))
    return Sent(made, torch.cat(parts) if parts else torch.zeros(0, dtype=torch.uint8))


def unpacked(sent: Sent) -> Batch:
    """The batch as it was packed; pinned where what was sent is."""

    def take(value: Tensor | Place) -> Tensor | Place:
        if not isinstance(value, Place):
            return value
        length = value.shape.numel() * value.dtype.itemsize
        return sent.small[value.start : value.start + length].view(value.dtype).reshape(value.shape)

    return cast(Batch, each_tensor(sent.batch, take))


def each_tensor(value: object, do: Callable[[Tensor | Place], Tensor | Place]) -> object:
    """The same with every tensor, or the place of one, as `do` gives it."""
    if isinstance(value, Tensor | Place):
        return do(value)
    if isinstance(value, Drawn):
        return Drawn._make(each_tensor(part, do) for part in value)
    if isinstance(value, Mapping):
        return {key: each_tensor(part, do) for key, part in value.items()}
    return value
