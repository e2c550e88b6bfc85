"""Grad-CAM: where in an image the deepest maps speak for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.dims import LAYERS


@contextmanager
def listened(encoder: nn.Module) -> Iterator[dict[str, Tensor]]:
    """While open, the encoder's last input and its deepest map."""
    heard: dict[str, Tensor] = {}

    def hear(_module: nn.Module, given: tuple[Any, ...], maps: list[Tensor]) -> None:
        heard["input"], heard["deepest"] = given[0], maps[-1]

    handle = encoder.register_forward_hook(hear)
    try:
        yield heard
    finally:
        handle.remove()


def grad_cam(
    encoder: nn.Module, answer: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor
) -> Tensor:
    """Heat (B, *S) from 0 to 1 over images (B, C, *S) for the output `targets` (B,) of each.

    The deepest map's channels are weighted by the mean gradient of the output, summed, cut at 0 and
    interpolated to the image; an image whose map speaks against the output everywhere has heat 0.
    """
    with torch.enable_grad(), listened(encoder) as heard:
        logits = answer(images.detach().clone().requires_grad_())
        (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), heard["deepest"])
    space = tuple(range(2, gradient.ndim))
    heat = (heard["deepest"] * gradient.mean(space, keepdim=True)).sum(1, keepdim=True).relu().detach()
    heat = F.interpolate(heat, images.shape[2:], mode=LAYERS[images.ndim - 2].linear_interpolation)[:, 0]
    return heat / heat.flatten(1).amax(1).clamp_min(1e-12).reshape(-1, *[1] * (heat.ndim - 1))
