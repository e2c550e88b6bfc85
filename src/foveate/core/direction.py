"""Which way a metric is better: a task names those of which less is."""

from __future__ import annotations

from collections.abc import Collection


def is_less_better(metric: str, named: Collection[str]) -> bool:
    """Whether less of a metric is better, by the names of those; a name stands for NAME/CLASS as well.

    >>> [is_less_better(metric, ["wall_mm"]) for metric in ("wall_mm", "wall_mm/liver", "box_iou")]
    [True, True, False]
    """
    return metric in named or metric.partition("/")[0] in named


def compared_as(metric: str, named: Collection[str]) -> str:
    """What is compared, more being better, for people.

    >>> compared_as("wall_mm", ["wall_mm"]), compared_as("auroc", ["wall_mm"])
    ('minus wall_mm', 'auroc')
    """
    return f"minus {metric}" if is_less_better(metric, named) else metric
