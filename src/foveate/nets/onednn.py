"""Which networks oneDNN, the library behind torch's convolutions on CPUs, computes rightly in bfloat16.

In torch 2.13 the bfloat16 gradient of two kinds of convolution reads and writes memory that is not its own:
those with a stride and a kernel larger than 1, and those of volumes over one or two planes. All others agree
with float32. Without oneDNN they all agree, and are ten to fifteen times as slow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

FEWEST_PLANES = 3


def sound_in_bfloat16(model: nn.Module) -> bool:
    """Prepare a network for bfloat16 on a CPU, in place; whether oneDNN may compute it.

    Convolutions of volumes compute in float32 where they see too few planes: on the coarsest maps.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    if any(set(m.stride) != {1} and set(m.kernel_size) != {1} for m in convolutions):
        return False
    of_volumes: list[nn.Module] = [m for m in convolutions if isinstance(m, nn.Conv3d)]
    for conv in of_volumes:
        # A partial of bound methods: a deep copy of the module, such as a teacher, then calls its own.
        conv.forward = partial(in_full_over_few_planes, conv, conv.forward)
    return True


def in_full_over_few_planes(conv: nn.Module, forward: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """One convolution, in float32 where the image has fewer planes than `FEWEST_PLANES`."""
    if image.shape[2] >= FEWEST_PLANES:
        return forward(image)
    with torch.autocast("cpu", enabled=False):
        return forward(image.to(next(conv.parameters()).dtype))
