"""What is not a number: losses and weights are looked at before anything is saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from foveate.core.types import FoveateError, LostPeerError
from foveate.train import checkpoint
from foveate.train.logging import RunLog
from foveate.train.peers import Peers

ADVICE = "Try a lower --optim.lr, --optim.clip_norm 1, or look at these volumes."
WEIGHTS, LOSS = 1.0, 2.0  # what is not finite, by how much it explains


@dataclass(kw_only=True)
class Terms:
    """The loss terms of every step since they were last looked at, and the samples of its micro-batches."""

    losses: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)
    indices: list[Sequence[int]] = field(default_factory=list)

    def samples(self, place: int) -> list[int]:
        """Indices of the samples of one of the steps."""
        micro = len(self.indices) // len(self.losses)
        of_step = slice(place * micro, None) if place == -1 else slice(place * micro, (place + 1) * micro)
        return [index for each in self.indices[of_step] for index in each]


def check_finite(
    recent: Terms, net: nn.Module, name_volumes: Callable[[list[int]], str], log: RunLog, peers: Peers
) -> None:
    """Stop every process before anything that is not a number is saved.

    The one that met it names the first step, its terms and its volumes. Its gradient has reached the others
    already, whose own losses may be finite still; the weights may be bad while every loss is finite yet.
    """
    every = torch.stack([value for _, losses in recent.losses for value in losses.values()])
    losses_fine = bool(torch.isfinite(every).all())  # one wait for all of them
    fine = losses_fine and checkpoint.are_finite(net.state_dict())
    worst = peers.highest(0.0 if fine else WEIGHTS if losses_fine else LOSS)
    if worst == 0:
        return
    if fine or (losses_fine and worst == LOSS):  # bad weights then come from the gradient of the other
        log.measured({"step": recent.losses[-1][0], "loss": math.nan})
        raise LostPeerError("The loss of another process is not finite; its own message says more.")
    place, what = first_bad(recent) if not losses_fine else (-1, "")
    step = recent.losses[place][0]
    log.measured({"step": step, "loss": math.nan})
    said = (
        f"The loss is not finite at step {step}: {what}."
        if what
        else f"The weights are not finite after step {step}, whose loss still was."
    )
    raise FoveateError(
        f"{said} Volumes of that batch: {name_volumes(recent.samples(place))}. Nothing of this step was "
        f"saved; {checkpoint.newest_finite(log.folder / 'checkpoints')}. {ADVICE}"
    )


def first_bad(recent: Terms) -> tuple[int, str]:
    """The first step of which a term is not finite, and all of its terms in words."""
    for place, (_, losses) in enumerate(recent.losses):
        values = {name: float(value) for name, value in losses.items()}
        if not all(map(math.isfinite, values.values())):
            return place, ", ".join(f"{name} {value:g}" for name, value in values.items())
    raise AssertionError("every term is finite")
