"""Encoders and decoders compiled in place: weights keep their names, and what cannot be runs as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from foveate.nets.recompute import parts_of

BACKEND = "inductor"
LONGEST = 160  # characters of torch's reason


def compile_parts(model: nn.Module, warn: Callable[[str], None]) -> int:
    """Let every encoder and decoder be compiled at its first call; how many there are.

    Where torch cannot, all go on uncompiled and `warn` is told once. A copy of a module is uncompiled.
    """
    import torch._functorch.config as functorch

    functorch.donated_buffer = False  # health takes several gradients of one graph, which keeps its maps
    parts = parts_of(model)

    def give_up(error: Exception) -> None:
        for part in parts:
            part._compiled_call_impl = None
        reason = " ".join(str(error).split())[:LONGEST]
        warn(f"--compile true: torch cannot compile the network here; it runs uncompiled ({reason})")

    for part in parts:
        part._compiled_call_impl = Attempt(part, give_up)
    return len(parts)


@final
class Attempt:
    """What a call of a module does: the compiled code, or the module's own once that has failed."""

    def __init__(self, module: nn.Module, give_up: Callable[[Exception], None]) -> None:
        self.plain: Callable[..., list[Tensor]] = module._call_impl
        self.give_up = give_up
        self.norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
        # Not dynamic: views have few shapes, and code for one is faster.
        self.fast: Callable[..., list[Tensor]] = torch.compile(self.plain, backend=BACKEND, dynamic=False)

    def __call__(self, *inputs: Tensor | list[Tensor] | int) -> list[Tensor]:
        """Only what goes wrong while compiling is caught: other errors are the network's own."""
        from torch._dynamo.exc import TorchDynamoException

        if any(norm.momentum is None for norm in self.norms):  # `cumulative_statistics`: a few batches
            return self.plain(*inputs)
        try:
            return self.fast(*inputs)
        except TorchDynamoException as error:
            self.give_up(error)
        return self.plain(*inputs)
