"""Of boxes that show the same thing, one: within an answer, and of several answers together.

Own code (ADR 83): torchvision, which has this for two axes, is no part of the core.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.core.boxes.geometry import Boxes, iou, joined

BLOCK = 1024  # boxes that are compared with all others at once


def suppressed(boxes: Boxes, most_iou: float, most: int = 0) -> Boxes:
    """Boxes without those that overlap a surer one of their class by more than `most_iou`; the surest first.

    Args:
        boxes: Scored.
        most_iou: The largest intersection over union of two boxes that are both kept.
        most: Keep no more than so many; 0: all.
    """
    ordered = boxes.best_first()
    alive = np.ones(len(ordered), dtype=np.bool_)
    kept: list[int] = []
    for start in range(0, len(ordered), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(ordered)))
        same = ordered.label[rows, None] == ordered.label[None]
        close = (iou(ordered.picked(rows), ordered) > most_iou) & same
        for place, row in enumerate(rows.tolist()):
            if not alive[row]:
                continue
            kept.append(row)
            if most and len(kept) == most:
                return ordered.picked(kept)
            alive[row + 1 :] &= ~close[place, row + 1 :]
    return ordered.picked(kept)


def fused(answers: Sequence[Boxes], least_iou: float, axes: int) -> Boxes:
    """Several answers for one image as one; the surest first.

    A box joins the surest group of its class that it overlaps by more than `least_iou` and that has no box of
    the same answer yet. A group is the mean of its boxes, weighted by their scores, and its score the sum of
    theirs over the number of answers: what one of three networks finds has a third of its score.
    """
    every = joined(answers, axes)
    member = np.repeat(np.arange(len(answers)), [len(each) for each in answers])
    order = np.argsort(-every.score, kind="stable")
    every, member = every.picked(order), member[order]
    overlap = iou(every, every)
    groups: list[list[int]] = []
    for row in range(len(every)):
        for group in groups:
            first = group[0]
            fits = every.label[row] == every.label[first] and overlap[row, first] > least_iou
            if fits and member[row] not in member[group]:
                group.append(row)
                break
        else:
            groups.append([row])
    found = [_mean(every, np.array(group), len(answers)) for group in groups]
    return joined(found, axes).best_first()


def _mean(boxes: Boxes, group: NDArray[np.int64], answers: int) -> Boxes:
    weight = np.maximum(boxes.score[group], np.finfo(np.float64).tiny)
    centre, size = (np.average(each[group], axis=0, weights=weight) for each in (boxes.centre, boxes.size))
    score = boxes.score[group].sum() / answers
    return Boxes.of(centre[None], size[None], boxes.label[group[:1]], [score])
