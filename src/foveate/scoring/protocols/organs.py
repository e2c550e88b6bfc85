"""How far named organs are from where they are said to be: walls and centres of boxes, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from foveate.core.boxes.geometry import iou
from foveate.core.boxes.tasks import Scan
from foveate.core.types import Array
from foveate.scoring.metrics import NAN, mean

NEAR_MM = 10.0  # of a centre that counts as found
PRESENT = 0.5  # the least probability of an organ that is said to be there


class OrganErrors(NamedTuple):
    """Of K organs in one image; NaN where the organ is not there or no box is said for it."""

    wall: Array  # mean distance between walls, mm
    centre: Array  # distance between centres, mm
    overlap: Array  # intersection over union
    there: Array  # bool: in the label
    said: Array  # bool: in the answer


def organ_errors(scan: Scan, organs: int) -> OrganErrors:
    """Every organ's surest box against its true one.

    Distances count for an organ whatever the answer says of its presence: an organ that is hard to find is
    not gained by calling it absent.
    """
    errors = OrganErrors(*(np.full(organs, NAN) for _ in range(3)), *np.zeros((2, organs), dtype=bool))
    for k in range(organs):
        truth = scan.truth.picked(scan.truth.label == k)
        found = scan.found.picked(scan.found.label == k).best_first()
        errors.there[k], errors.said[k] = len(truth) > 0, bool((found.score >= PRESENT).any())
        if len(truth) and len(found):
            one, other = truth.picked([0]), found.picked([0])
            walls = np.abs([one.low - other.low, one.high - other.high])
            errors.wall[k] = walls.mean()
            errors.centre[k] = np.linalg.norm(one.centre - other.centre)
            errors.overlap[k] = iou(one, other)[0, 0]
    return errors


def organ_metrics(errors: Sequence[OrganErrors], names: Sequence[str]) -> dict[str, float]:
    """Metrics of some images for every organ, and their means over the organs for which they are defined.

    `wall_mm`, `centre_mm` and `box_iou` are means over the images that show the organ; `rate_1cm` is the
    share of these in which it is said to be there with its centre less than 1 cm away; `presence_acc` the
    share of all images in which it is rightly said to be there or not; `n/NAME` counts those that show it.
    """
    rows: dict[str, dict[str, float]] = {}
    for k, name in enumerate(names):
        shown = [each for each in errors if each.there[k]]
        near = [bool(each.said[k] and each.centre[k] < NEAR_MM) for each in shown]
        right = [bool(each.said[k] == each.there[k]) for each in errors]
        rows[name] = {
            "wall_mm": mean([each.wall[k] for each in shown]),
            "centre_mm": mean([each.centre[k] for each in shown]),
            "box_iou": mean([each.overlap[k] for each in shown]),
            "rate_1cm": mean(near),
            "presence_acc": mean(right),
        }
    metrics = next(iter(rows.values()), {})
    means = {metric: mean([rows[name][metric] for name in names]) for metric in metrics}
    each_organ = {f"{metric}/{name}": rows[name][metric] for metric in metrics for name in names}
    counts = {f"n/{name}": float(sum(e.there[k] for e in errors)) for k, name in enumerate(names)}
    return means | each_organ | counts


def organ_row(errors: OrganErrors, names: Sequence[str]) -> dict[str, float]:
    """One image: distances of every organ and their means; whether it is said to be there, and is."""
    cells: dict[str, float] = {"wall_mm": mean(errors.wall), "centre_mm": mean(errors.centre)}
    for k, name in enumerate(names):
        cells[f"wall_mm/{name}"] = float(errors.wall[k])
        cells[f"centre_mm/{name}"] = float(errors.centre[k])
        cells[f"said/{name}"] = float(errors.said[k])
        cells[f"there/{name}"] = float(errors.there[k])
    return cells
