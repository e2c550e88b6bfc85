"""Random numbers as named counter streams: a draw is a function of its name, never of history.

A stream is keyed by (seed, purpose, counters). Two draws with different purposes or counters are
independent, and adding a draw elsewhere changes nothing: this is what makes resume bit-equal and a
batch independent of the number of workers and ranks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray
from torch import Tensor


def key(seed: int, purpose: str, *counters: int) -> int:
    """A 64-bit key for a named draw.

    >>> key(0, "flip", 3) == key(0, "flip", 3), key(0, "flip", 3) == key(0, "flip", 4)
    (True, False)
    """
    text = f"{seed}|{purpose}|{'|'.join([str(int(c)) for c in counters])}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class _Words(ISeedSequence):
    """A key as the words that Philox asks a seed for.

    The numbers are those of `Philox(key=...)`, which first fetches a seed from the system and throws it away:
    three quarters of the time.
    """

    def __init__(self, value: int) -> None:
        self.value = value

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> NDArray[Any]:
        """The low word is the key, the rest is 0."""
        return np.array([self.value, *[0] * (n_words - 1)], dtype)


def stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A NumPy generator of its own for a named draw."""
    words = _Words(key(seed, purpose, *counters))
    return np.random.Generator(np.random.Philox(words))  # type: ignore[arg-type]  # stubs want SeedSequence


class _Reused(threading.local):
    """A generator that is given another key for every draw, which is a fourth of making one."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(_Words(0))  # type: ignore[arg-type]  # stubs want SeedSequence
        self.generator = np.random.Generator(self.bits)
        self.start = self.bits.state


_REUSED = _Reused()


def uniforms(seed: int, purpose: str, *counters: int, width: int) -> NDArray[np.float64]:
    """The first numbers of a stream, uniform in [0, 1).

    >>> (uniforms(0, "flip", 3, width=2) == stream(0, "flip", 3).random(2)).all()
    np.True_
    """
    start: Any = _REUSED.start
    start["state"]["key"][0] = key(seed, purpose, *counters)
    _REUSED.bits.state = start
    return _REUSED.generator.random(width)


def torch_stream(device: torch.device, seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A torch generator on `device` for bulk draws such as noise."""
    generator = torch.Generator(device=device)
    generator.manual_seed(key(seed, purpose, *counters) & 0x7FFF_FFFF_FFFF_FFFF)
    return generator


def torch_streams(
    device: torch.device, seed: int, purpose: str, counters: Sequence[int]
) -> Iterator[torch.Generator]:
    """The same for many counters: one generator under the key of each in turn, so draw before the next."""
    generator = torch.Generator(device=device)
    for counter in counters:
        yield generator.manual_seed(key(seed, purpose, counter) & 0x7FFF_FFFF_FFFF_FFFF)


def rows_to_draw(
    bulk: Tensor, seed: int, purpose: str, counters: Sequence[int], together: int = 1
) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Rows of a tensor on any device, and the generator to fill them with before the next are asked for.

    Args:
        bulk: what is filled, one row for each counter.
        seed: of the run.
        purpose: name of the draw.
        counters: the keys of the rows.
        together: how many rows, one after the other, belong to one sample. On a CPU every row has the stream
            of its own counter all the same; elsewhere they are drawn at once from that of the first, as every
            draw of its own is an operation that the host asks for.
    """
    rows = 1 if bulk.device.type == "cpu" else together
    streams = torch_streams(bulk.device, seed, purpose, counters[::rows])
    return zip(torch.split(bulk, rows), streams, strict=True)
