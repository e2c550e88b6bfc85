"""How sure an answer is: the entropy of its probabilities, and how far its members disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from foveate.core.types import Activation
from foveate.scoring.inference import zeros
from foveate.scoring.members.shares import levels_of

Asked = Literal["none", "numbers", "map"]


def entropy_of(mean: Tensor, *, exclusive: bool) -> Tensor:
    """Entropy of probabilities (K, *S) as a share of the largest possible: 0 is sure, 1 knows nothing.

    Of one softmax, or the mean over classes that are decided apart.
    """
    yes: Tensor = torch.special.entr(mean)
    if exclusive:
        return yes.sum(0) / math.log(max(2, len(mean)))
    no: Tensor = torch.special.entr(1 - mean)
    return (yes + no).mean(0) / math.log(2)


@final
class Doubt:
    """Entropy and disagreement of a whole volume, from parts of it."""

    def __init__(self, shape: Sequence[int], *, exclusive: bool, wanted: Asked) -> None:
        self.exclusive = exclusive
        self.map = zeros(shape, np.uint16) if wanted == "map" else None  # entropy up to `LEVELS`
        self.total = self.count = 0.0
        self.common: dict[tuple[int, int, int], int] = {}  # class, member, member -> voxels of both

    def enter(self, here: Sequence[slice], shares: Tensor, mean: Tensor) -> None:
        """Enter a part from the probabilities of all members (M, K, *S) and their mean."""
        entropy = entropy_of(mean, exclusive=self.exclusive)
        if self.map is not None:
            self.map[tuple(here)] = levels_of(entropy).cpu().numpy()
        chosen = shares.argmax(1)
        found = chosen.any(0) if self.exclusive else (shares > 0.5).flatten(0, 1).any(0)
        self.total += float(entropy[found].double().sum())
        self.count += int(found.sum())
        members = range(len(shares))
        pairs = [*((i, i) for i in members), *combinations(members, 2)] if len(members) > 1 else []
        for k in range(int(self.exclusive), shares.shape[1]):
            claims = chosen == k if self.exclusive else shares[:, k] > 0.5
            for i, j in pairs:
                both = int((claims[i] & claims[j]).sum())
                self.common[k, i, j] = self.common.get((k, i, j), 0) + both

    @property
    def entropy(self) -> float:
        """The mean over the voxels where a member finds something; not a number where none does."""
        return self.total / self.count if self.count else math.nan

    @property
    def disagreement(self) -> float:
        """1 - the mean Dice of two members, over pairs and then over classes that a member finds.

        0 where none finds anything; not a number where there is one member.
        """
        if not self.common:
            return math.nan
        by_class: dict[int, list[float]] = {}
        for (k, i, j), both in self.common.items():
            size = self.common[k, i, i] + self.common[k, j, j]
            if i != j and size:
                by_class.setdefault(k, []).append(2 * both / size)
        means = [sum(dice) / len(dice) for dice in by_class.values()]
        return 1 - sum(means) / len(means) if means else 0.0


def doubt_of_values(opinions: Tensor, mean: Tensor, activation: Activation) -> dict[str, float]:
    """The same of an answer for a whole image, from what its members say (M, K).

    The disagreement is the standard deviation over the members, of the output where it is largest.
    """
    found: dict[str, float] = {}
    if activation != "none":
        found["entropy"] = float(entropy_of(mean, exclusive=activation == "softmax"))
    if len(opinions) > 1:
        found["disagreement"] = float(opinions.std(0, correction=0).max())
    return found
