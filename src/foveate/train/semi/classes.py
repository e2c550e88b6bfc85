"""What the labeller says of each class, over the last steps: how sure it is, and how often the class comes.

Class-wise thresholds follow FlexMatch (Zhang et al., NeurIPS 2021) and FreeMatch (Wang et al., ICLR 2023),
shares of classes the distribution alignment of ReMixMatch (Berthelot et al., ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor, nn

KEPT = 0.99  # of the sums at every step
MOST_OFTEN = 10.0  # a class is said at most so many times more, or less, likely than the network says


@final
class ClassFigures(nn.Module):
    """Sums over voxels that decay from step to step, a column for each label value.

    The rows are the certainty of pseudo-labels, their voxels, and the voxels of labels. What a step adds
    counts from the next step on, over all processes: then the order of micro-batches does not matter.
    """

    sums: Tensor
    values: Tensor

    def __init__(self, values: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(3, len(values), dtype=torch.float64))
        self.register_buffer("values", torch.tensor(list(values)), persistent=False)
        self.now: Tensor | None = (
            None  # no buffer: those of process 0 are copied to the others at every forward
        )

    def places(self, labels: Tensor) -> Tensor:
        """The column of every label (...), and one more for those that are no class."""
        alike = labels[..., None] == self.values
        return torch.where(alike.any(-1), alike.int().argmax(-1), len(self.values))

    def saw(self, row: int, labels: Tensor, amounts: Tensor) -> None:
        """Add amounts (...), one for every label (...), to a row."""
        found = torch.zeros(len(self.values) + 1, dtype=torch.float64, device=labels.device)
        found.index_add_(0, self.places(labels).flatten(), amounts.flatten().double())
        now = torch.zeros_like(self.sums) if self.now is None else self.now
        now[row] += found[:-1]
        self.now = now

    def saw_labels(self, labels: Tensor) -> None:
        """Count the voxels of labels."""
        self.saw(2, labels, torch.ones_like(labels))

    def saw_pseudo_labels(self, labels: Tensor, sure: Tensor) -> None:
        """Count the voxels of pseudo-labels, and how sure the labeller was of them."""
        self.saw(0, labels, sure)
        self.saw(1, labels, torch.ones_like(labels))

    @torch.no_grad()
    def step(self) -> None:
        """Let what was seen count from now on."""
        now = torch.zeros_like(self.sums) if self.now is None else self.now
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(now)
        self.sums.mul_(KEPT).add_(now)
        self.now = None

    @property
    def easiness(self) -> Tensor:
        """Mean certainty of each class as a share of the highest (V,); 0 of a class that was never said."""
        means: Tensor = self.sums[0] / self.sums[1].clamp_min(1)
        return means / means.max().clamp_min(1e-6)

    @property
    def wanting(self) -> Tensor:
        """How many times more often a class comes in labels than in pseudo-labels, among marked voxels (V,).

        Windows of labelled images are centred on classes, others are not: only shares among the classes can
        be compared, and the background has 1. So has everything before anything was marked.
        """
        marked = self.values != 0
        said, known = self.sums[1] * marked, self.sums[2] * marked
        ratio = (known / known.sum().clamp_min(1)) / (said / said.sum().clamp_min(1)).clamp_min(1e-9)
        compared = marked & (known > 0) & (said.sum() > 0)
        return torch.where(compared, ratio.clamp(1 / MOST_OFTEN, MOST_OFTEN), 1.0)
