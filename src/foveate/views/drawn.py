"""What is drawn on the host for a batch: made where the batch is made, found again where it is used.

The workers of the loader draw while the device computes, and what they drew travels with the batch from
pinned memory: no step waits for the host to draw, nor the host for a copy.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from foveate.core.contracts import Draw
from foveate.core.types import Batch, Drawn

WITHOUT_FLOAT64 = ("mps",)


def draw_ahead(batch: Batch, draws: Sequence[Draw], seed: int) -> Batch:
    """The same batch with what its step will ask for: 64-bit numbers in one tensor, others as they are."""
    numbers, start = [torch.zeros(0, dtype=torch.int64)], 0
    places: dict[Hashable, dict[str, tuple[int, bool, tuple[int, ...]]]] = {}
    maps: dict[Hashable, dict[str, Tensor]] = {}
    for each in dict.fromkeys(draws):
        places[each], maps[each] = {}, {}
        for name, value in each.draw(batch, seed).items():
            if value.dtype.itemsize != numbers[0].dtype.itemsize:
                maps[each][name] = value
                continue
            places[each][name] = (start, value.is_floating_point(), tuple(value.shape))
            numbers.append(value.contiguous().view(torch.int64).flatten())
            start += value.numel()
    drawn = Drawn(tuple(batch["index"]), seed, torch.cat(numbers), places, maps)
    return {**batch, "drawn": drawn}


def drawn(batch: Batch, draw: Draw, seed: int, device: torch.device) -> dict[str, Tensor]:
    """What a draw gives for a batch, on the device of its step; drawn here and now unless it came along.

    A batch of other samples than it was drawn for, such as a part of it, has nothing with it.
    """
    found = batch.get("drawn")
    fits = found is not None and found.seed == seed and list(found.samples) == list(batch["index"])
    if found is None or not fits or draw not in found.places or device.type in WITHOUT_FLOAT64:
        return on_device(draw.draw(batch, seed), device)
    here = on_device(found.maps[draw], device)
    numbers = found.numbers.to(device, non_blocking=True)
    for name, (start, floating, shape) in found.places[draw].items():
        value = numbers[start : start + math.prod(shape)]
        here[name] = (value.view(torch.float64) if floating else value).reshape(shape)
    return here


def on_device(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same numbers there, as exact as the device has them."""
    narrow = device.type in WITHOUT_FLOAT64
    exact = {k: v.float() if narrow and v.is_floating_point() else v for k, v in values.items()}
    return {name: value.to(device, non_blocking=True) for name, value in exact.items()}


def samples_at(batch: Batch, rows: slice) -> Batch:
    """Some samples of a batch; what was drawn for the whole batch does not come along."""
    parts: dict[str, object] = {}
    for name, part in batch.items():
        if isinstance(part, Mapping):
            parts[name] = {key: x[rows] for key, x in cast(Mapping[str, Tensor], part).items()}
        elif isinstance(part, Tensor):
            parts[name] = part[rows]
    return cast(Batch, {**parts, "index": batch["index"][rows]})
