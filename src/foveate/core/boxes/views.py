"""The boxes of the labels that a view shows, found by the loader's workers while the device computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foveate.core.boxes.geometry import HALF, Boxes
from foveate.core.boxes.tasks import BoxConfig
from foveate.core.contracts import Draw
from foveate.core.labels import LABELS
from foveate.core.types import Batch

NONE = -2  # the class of a row that holds no box


@dataclass(frozen=True)
class ViewBoxes(Draw):
    """Boxes of every view of a crop, in cells of its grid, as many rows for each view: B * V = R views.

    `centre` and `size` (R, N, n); `label` (R, N), `IGNORED` where a box does not count and `NONE` where there
    is none; `whole` (R, N), 0 where a box reaches the rim of the view, beyond which it may go on.
    """

    crop: str
    config: BoxConfig

    def draw(self, batch: Batch, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing of it is random: it depends on what the views show alone."""
        maps = batch["regions"][f"{LABELS}/{self.crop}"].flatten(0, 1).cpu().numpy()
        return as_rows(
            [self.config.boxes_of(each, np.unique(each).tolist()) for each in maps], maps.shape[1:]
        )


def as_rows(views: list[Boxes], grid: tuple[int, ...]) -> dict[str, Tensor]:
    """Boxes of several views of one grid as tensors."""
    most, n = max(1, *(len(boxes) for boxes in views)), len(grid)
    centre, size = np.zeros((len(views), most, n)), np.ones((len(views), most, n))
    label, whole = np.full((len(views), most), NONE), np.zeros((len(views), most))
    for i, boxes in enumerate(views):
        k = len(boxes)
        centre[i, :k], size[i, :k], label[i, :k] = boxes.centre, boxes.size, boxes.label
        within = (boxes.low > -HALF) & (boxes.high < np.asarray(grid) - HALF)
        whole[i, :k] = within.all(1)
    arrays = {"centre": centre, "size": size, "label": label, "whole": whole}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
