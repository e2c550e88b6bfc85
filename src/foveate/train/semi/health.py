"""What health says of label maps: masks by class, and how far two of them agree."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.core.tasks import DenseTask


def masks_of(task: DenseTask, labels: Tensor) -> dict[str, Tensor]:
    """Where each class of the task is, by its name; the background is none."""
    outputs, codebook = task.class_names, task.codebook
    names = {k: name for k, name in enumerate(outputs) if k or task.activation != "softmax"}
    values = {name: [v for v, held in codebook.items() if k in held] for k, name in names.items()}
    return {
        name: torch.isin(labels, torch.tensor(each, device=labels.device)) for name, each in values.items()
    }


def overlap(one: Tensor, other: Tensor) -> float | None:
    """Dice of two masks; None where both are empty."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else None
