"""Average precision of boxes at a stated intersection over union.

Within an image and a class, boxes are taken from the surest on; each takes the true box that it overlaps most
among those nobody has taken, if by at least the stated share. Others are false, a second box on a taken one
too, unless they overlap a box that is ignored by as much: these count as nothing. Average precision is the
area under precision against recall, precision being the best at this recall or a larger one; equal scores are
one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveate.core.boxes.geometry import iou
from foveate.core.boxes.tasks import Scan

Floats = NDArray[np.float64]


class Taken(NamedTuple):
    """What the boxes of one image are."""

    score: Floats  # of the boxes that count
    right: NDArray[np.bool_]  # whether each of them took a true box
    label: NDArray[np.int64]
    truth: NDArray[np.int64]  # classes of the true boxes


def taken_of(scan: Scan, least_iou: float) -> Taken:
    """True and false boxes of an image."""
    found = scan.found.best_first()
    overlap = iou(found, scan.truth)
    overlap[found.label[:, None] != scan.truth.label[None]] = -1.0
    nothing = (iou(found, scan.ignored) >= least_iou).any(1)
    right = np.zeros(len(found), dtype=np.bool_)
    for row in range(len(found)):
        best = int(overlap[row].argmax()) if len(scan.truth) else -1
        if best >= 0 and overlap[row, best] >= least_iou:
            right[row] = True
            overlap[:, best] = -1.0
    counts = right | ~nothing
    return Taken(found.score[counts], right[counts], found.label[counts], scan.truth.label)


def average_precision(images: Sequence[Taken], label: int) -> float:
    """Of one class over some images; not a number where it has no true box."""
    total = sum(int((each.truth == label).sum()) for each in images)
    if not total:
        return float("nan")
    score = np.concatenate([each.score[each.label == label] for each in images])
    right = np.concatenate([each.right[each.label == label] for each in images])
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    hits = np.cumsum(right[order])[last]
    precision, recall = hits / (last + 1), hits / total
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())


def precision_metrics(images: Sequence[Taken], names: Sequence[str]) -> dict[str, float]:
    """`map`, the mean over classes that have true boxes, and `ap/NAME` of each."""
    found = {f"ap/{name}": average_precision(images, k) for k, name in enumerate(names)}
    known = [value for value in found.values() if not np.isnan(value)]
    return {"map": float(np.mean(known)) if known else float("nan"), **found}
