"""A detector with ideal outputs: what its network would say is read from the labels."""

import numpy as np
import torch

from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.views import as_rows
from foveate.losses.centres import targets_of
from foveate.scoring.boxes.peaks import PeakRule, as_cells, boxes_in


class Ideal:
    """A volume whose channels are what an ideal network says of its voxels' cells."""

    def __init__(self, shape, boxes, stride, classes):
        grid = tuple(-(-size // stride) for size in shape)
        cells = Boxes.of(*as_cells(boxes.centre, boxes.size, stride), boxes.label, axes=len(shape))
        rows = as_rows([cells], grid)
        rows["whole"][:] = 1  # what reaches the rim of an image counts as well
        goal = targets_of(*(rows[name] for name in ("centre", "size", "label", "whole")), grid, classes)
        heat = torch.logit(goal.heat.clamp(1e-6, 1 - 1e-6))
        maps = torch.cat([heat, goal.offset, goal.size], 1)[0]
        for axis in range(1, maps.ndim):
            maps = maps.repeat_interleave(stride, axis)
        self.maps = maps[(slice(None), *(slice(0, size) for size in shape))].numpy()
        self.shape = shape

    def read(self, low, high):
        return self.maps[(slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))].astype(
            np.float32
        )


def ideal_answer(stride):
    """What the network says is there already, once for every cell."""

    def answer(images):
        return images[(slice(None), slice(None), *([slice(None, None, stride)] * (images.ndim - 2)))]

    return answer


def found_in(shape, boxes, patch, stride, classes=2, **keys):
    """The boxes that come out of windows of ideal maps."""
    rule = PeakRule(classes=classes, stride=stride, least_score=0.5, most_iou=0.1, most_boxes=50)
    volume, device = Ideal(shape, boxes, stride, classes), torch.device("cpu")
    return boxes_in(volume, ideal_answer(stride), patch, rule, overlap=0.5, device=device, **keys)
