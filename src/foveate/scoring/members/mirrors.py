"""Answers to mirror images, mirrored back: side by side as members, or averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.core.types import FoveateError

Answer = Callable[[Tensor], Tensor]
Mirror = Literal["none", "x", "y", "z", "xy", "xz", "yz", "xyz", "all"]
LETTERS = "xyz"


def mirror_images(mirror: Mirror, dimension: int, cut: int | None = None) -> list[tuple[int, ...]]:
    """The axes that each image is mirrored over, the image itself first.

    >>> mirror_images("xy", 3)
    [(), (0,), (1,), (0, 1)]
    >>> mirror_images("all", 3, cut=2) == mirror_images("xy", 3)
    True

    Args:
        mirror: What was asked for.
        dimension: Of the images.
        cut: The axis across which a volume is seen as slices: what is next to what along it is not seen.
    """
    own = [axis for axis in range(dimension) if axis != cut]
    letters = "" if mirror == "none" else mirror
    axes = own if mirror == "all" else [LETTERS.index(letter) for letter in letters]
    if strange := [LETTERS[axis] for axis in axes if axis not in own]:
        seen = f"slices across {LETTERS[cut]}" if cut is not None else f"{dimension}D images"
        accepted = ", ".join(LETTERS[axis] for axis in own)
        raise FoveateError(
            f"--mirror {mirror}: the network sees {seen}, which have no axis {strange[0]} to mirror; "
            f"accepted: {accepted}, together or alone, all, none."
        )
    return [some for count in range(len(axes) + 1) for some in combinations(axes, count)]


def mirrored(answer: Answer, axes: Sequence[int]) -> Answer:
    """The answers to mirror images, mirrored back."""
    dims = [axis + 2 for axis in axes]

    def found(images: Tensor) -> Tensor:
        return answer(images.flip(dims)).flip(dims)

    return found if dims else answer


def side_by_side(answer: Answer, mirrors: Sequence[Sequence[int]]) -> Answer:
    """The answer to every mirror image as a member: (B, F * K, *S)."""
    each = [mirrored(answer, axes) for axes in mirrors]

    def found(images: Tensor) -> Tensor:
        return torch.cat([one(images) for one in each], 1)

    return found


def averaged(answer: Answer, mirrors: Sequence[Sequence[int]], members: int, *, exclusive: bool) -> Answer:
    """Logits of the mean probabilities over the mirror images, of each of M members: (B, M * K, *S)."""
    each = [mirrored(answer, axes) for axes in mirrors]

    def found(images: Tensor) -> Tensor:
        yes = no = torch.tensor(-torch.inf, device=images.device)
        shape = torch.Size()
        for one in each:
            logits = one(images).float()
            shape = logits.shape
            apart = logits.reshape(len(logits), members, -1, *shape[2:])
            yes = torch.logaddexp(yes, apart.log_softmax(2) if exclusive else F.logsigmoid(apart))
            if not exclusive:
                no = torch.logaddexp(no, F.logsigmoid(-apart))
        return (yes if exclusive else yes - no).reshape(shape)

    return found
