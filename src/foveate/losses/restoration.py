"""How far a restored image is from the clean one."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Error = Literal["l2", "l1", "huber"]
ERRORS = {"l2": F.mse_loss, "l1": F.l1_loss, "huber": F.smooth_l1_loss}


def restoration_error(
    restored: Tensor, clean: Tensor, error: Error = "l2", weights: Tensor | None = None
) -> Tensor:
    """The mean error over voxels, weighted where weights are given.

    Args:
        restored: (B, C, *S).
        clean: the same shape.
        error: squared, absolute, or Huber's with its bend at 1.
        weights: (B, *S), of every voxel; they are divided by their mean, so that equal ones change nothing.
    """
    if weights is None:
        return ERRORS[error](restored, clean)
    errors = ERRORS[error](restored, clean, reduction="none").mean(1)
    return (errors * weights).sum() / weights.sum()
