"""What to do when memory runs out: one paragraph with the next command, instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from foveate.core.memory import is_out_of_memory
from foveate.core.types import FoveateError
from foveate.runtime.config import RunConfig

C = TypeVar("C", bound=RunConfig)
SHOWN = 160  # characters of the allocator's own words


@contextmanager
def shortage_explained(config: RunConfig, least: int) -> Iterator[None]:
    """Turn an allocator's error into a paragraph.

    Args:
        config: The run.
        least: The smallest batch that it can be trained with.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise FoveateError(advice(config, least, error)) from error


def advice(config: RunConfig, least: int, error: Exception) -> str:
    """What ran out, and what to give instead."""
    where = "GPU memory" if config.accelerator == "cuda" else "Memory"
    words = " ".join(str(error).split())[:SHOWN].rstrip(". ") or type(error).__name__
    ways = []
    if smaller := halved(config, least):
        samples = config.batch_size * config.accumulate
        ways.append(
            f"--batch_size {smaller.batch_size} --accumulate {smaller.accumulate}, which keeps the {samples} "
            "samples of a step"
        )
    if not config.activation_checkpointing:
        compiled = " --compile false" if config.compile else ""
        ways.append(f"--activation_checkpointing true{compiled}, which takes a third more time")
    if config.accelerator == "cuda" and config.precision == "32-true":
        ways.append("--precision bf16-mixed on a GPU that has bfloat16, in a new run")
    ways.append("smaller views or a smaller --encoder.width in a new run")
    return (
        f"{where} ran out with --batch_size {config.batch_size} --accumulate {config.accumulate} ({words}). "
        f"Give {'; or '.join(ways)}. A run that has a checkpoint resumes from it."
    )


def halved(config: C, least: int) -> C | None:
    """About half the batch for the same samples a step; None where the batch is as small as it can be."""
    samples = config.batch_size * config.accumulate
    fitting = [each for each in range(least, config.batch_size // 2 + 1) if samples % each == 0]
    if not fitting:
        return None
    return replace(config, batch_size=fitting[-1], accumulate=samples // fitting[-1])
