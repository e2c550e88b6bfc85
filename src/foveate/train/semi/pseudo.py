"""Pseudo-labels: what a network says of a window, as values of label files, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from foveate.core.tasks import DenseTask
from foveate.core.types import Activation
from foveate.scoring.postprocess import largest_component

Codebook = Mapping[int, Sequence[int]]  # label value -> the outputs that hold there


def pseudo_labels(
    outputs: Tensor, activation: Activation, codebook: Codebook, lean: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The likeliest label value of every voxel and its probability, (B, *S) each, from outputs (B, K, *S).

    Where several outputs may hold, a value is as likely as the least likely of its answers; of equally likely
    ones that count whose product is larger. `lean`, one for each value of the codebook, is added to the
    logarithms of their probabilities before the likeliest is taken.
    """
    entries = tuple((value, tuple(held)) for value, held in codebook.items())
    values, holds = tables(entries, outputs.shape[1], outputs.device)
    outputs = outputs.float()
    axes = [1] * (outputs.ndim - 2)
    more = torch.zeros(1, device=outputs.device) if lean is None else lean.float()
    more = more.view(1, -1, *axes)
    if activation == "softmax":
        sure, place = (outputs + more).softmax(1).max(1)
        return values[place], sure
    states = holds.view(1, *holds.shape, *axes)  # (1, values, K, 1...)
    agree = torch.where(states, outputs[:, None], -outputs[:, None])
    place = (torch.nn.functional.logsigmoid(agree).sum(2) + more).argmax(1)  # (B, *S)
    sure = agree.sigmoid().amin(2).gather(1, place[:, None])[:, 0]
    return values[place], sure


@lru_cache(maxsize=8)
def tables(
    entries: tuple[tuple[int, tuple[int, ...]], ...], count: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The label values (V,), and which of `count` outputs hold at each (V, count).

    Made once: to copy them to a GPU waits for all that it was asked before.
    """
    holds = torch.zeros(len(entries), count, dtype=torch.bool)
    for row, (_, held) in enumerate(entries):
        holds[row, list(held)] = True
    return torch.tensor([value for value, _ in entries]).to(device), holds.to(device)


@torch.no_grad()
def labelled_by(network: DenseTask, images: Tensor, lean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pseudo-labels and their probabilities (B, *S) of clean images (B, C, *S)."""
    return pseudo_labels(network.outputs(images), network.activation, network.codebook, lean)


def largest_only(labels: Tensor) -> Tensor:
    """Of every value but 0 in each map (B, *S) the largest component, the rest 0; the host computes it."""
    maps = labels.cpu().numpy().copy()
    for one in maps:
        for value in set(one.flat) - {0}:
            mask = one == value
            one[mask & ~largest_component(mask)] = 0
    return torch.from_numpy(maps).to(labels.device)
