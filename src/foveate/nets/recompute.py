"""Memory for time: the maps inside a block are not kept for the backward pass but computed a second time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from types import TracebackType
from typing import TypeVar, TypeVarTuple, final

from torch import nn
from torch.utils.checkpoint import checkpoint

from foveate.nets.layers import running_statistics

Inputs = TypeVarTuple("Inputs")
R = TypeVar("R")


def recompute_blocks(model: nn.Module) -> int:
    """Let every block of every encoder and decoder recompute; how many there are.

    Names and values of parameters stay as they are, and running statistics count what passes by once.
    """
    blocks = [block for part in parts_of(model) for block in blocks_of(part)]
    for block in blocks:
        # A partial of bound methods: a deep copy of the module, such as a teacher, then calls its own.
        block.forward = partial(recomputed, block, block.forward)
    return len(blocks)


def parts_of(model: nn.Module) -> list[nn.Module]:
    """Every encoder and decoder in a model."""
    return [m for name, m in model.named_modules() if name.rpartition(".")[2] in ("encoder", "decoder")]


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Sequences of layers, and the modules of lists that hold no list themselves: the levels of a network."""
    listed = isinstance(module, nn.ModuleList)
    for child in module.children():
        holds_lists = any(isinstance(inner, nn.ModuleList) for inner in child.modules())
        if isinstance(child, nn.Sequential) or (listed and not holds_lists):
            yield child
        else:
            yield from blocks_of(child)


@final
class _Unmoved(AbstractContextManager[None]):
    """Running statistics stay as they are; entered again by every backward pass through the same graph."""

    def __init__(self, block: nn.Module) -> None:
        self.block, self.inside = block, ExitStack()

    def __enter__(self) -> None:
        self.inside.enter_context(running_statistics(self.block, update=False))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inside.close()


def recomputed(block: nn.Module, forward: Callable[[*Inputs], R], *inputs: *Inputs) -> R:
    """Run a block and forget what is inside."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _Unmoved(block)

    outputs: R = checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)
    return outputs
