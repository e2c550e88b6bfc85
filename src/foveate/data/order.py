"""Which image a sample is of: a function of the seed and the sample's global index alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import ceil
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foveate.core.rng import key, stream

SHORTEST = 32  # samples of a block


@lru_cache(maxsize=64)  # one for each data set of a run
def _orders(seed: int, count: int) -> Callable[[int], NDArray[Any]]:
    @lru_cache(maxsize=2)  # a batch may straddle two epochs
    def order(epoch: int) -> NDArray[Any]:
        return stream(seed, "volume order", epoch).permutation(count)

    return order


def volume_of(seed: int, index: int, count: int) -> int:
    """The position of global sample `index` among `count` volumes: each once per epoch, newly shuffled."""
    epoch, place = divmod(index, count)
    return int(_orders(seed, count)(epoch)[place])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """One of the data sets that a run draws from by weight."""

    name: str
    share: Fraction  # of the samples; those of all sets sum to 1
    images: int


@final
@dataclass(frozen=True, slots=True)
class Mix:
    """How samples are drawn from several data sets, whose volumes follow each other in a cache.

    Samples come in blocks. Block b holds of every set as many as its share of all samples up to the block's
    end demands, less those that came before, in an order of its own; so both which set a sample is of and how
    many of that set came before it are known without a look at any other block. Within a set every volume is
    seen once per epoch of the set's own.
    """

    sets: tuple[Weighted, ...]

    @property
    def length(self) -> int:
        """Samples of a block: at least two of the rarest set, which keeps all quotas above 0."""
        return max(SHORTEST, ceil(2 / min(each.share for each in self.sets)))

    def before(self, block: int) -> list[int]:
        """How many samples of every set lie before a block."""
        samples, ends, share = block * self.length, [0], Fraction(0)
        for each in self.sets:
            share += each.share
            ends.append(int(samples * share))
        return [end - start for start, end in pairwise(ends)]

    def block(self, seed: int, number: int) -> NDArray[Any]:
        """The set of every sample of a block."""
        first, end = self.before(number), self.before(number + 1)
        quotas = [after - before for before, after in zip(first, end, strict=True)]
        numbers = np.repeat(np.arange(len(quotas)), quotas)
        return stream(seed, "order of data sets", number).permutation(numbers)

    def drawn(self, seed: int, samples: int) -> list[int]:
        """How many of the first samples are of every set."""
        number, place = divmod(samples, self.length)
        inside = _block(self, seed, number)[:place]
        return [n + int((inside == i).sum()) for i, n in enumerate(self.before(number))]

    def position(self, seed: int, index: int) -> int:
        """The position in the cache of global sample `index`."""
        number, place = divmod(index, self.length)
        chosen = int(_block(self, seed, number)[place])
        own, earlier = self.sets[chosen], self.drawn(seed, index)[chosen]
        first = sum(each.images for each in self.sets[:chosen])
        return first + volume_of(key(seed, f"data set {own.name}") >> 1, earlier, own.images)

    def kept(self, keep: Sequence[bool]) -> Mix:
        """The same for a cache of which only some volumes are kept."""
        starts = np.cumsum([0, *(each.images for each in self.sets)])
        counts = [sum(keep[a:b]) for a, b in pairwise(starts)]
        return Mix(tuple(replace(s, images=n) for s, n in zip(self.sets, counts, strict=True)))


@lru_cache(maxsize=4)
def _block(mix: Mix, seed: int, number: int) -> NDArray[Any]:
    return mix.block(seed, number)
