"""What predictions are worth: masks against masks, scores against labels, values against values.

Every metric has a defined value for every input; NaN means "this case has nothing to say" and is excluded
of a mean. docs/metrics.md holds the rules for empty references and lone classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Activation, Array, FoveateError

Floats = NDArray[np.float64]
NAN = float("nan")
THRESHOLD = 0.5  # of a probability, where a yes or no is asked for


def dice(predicted: Array, truth: Array) -> float:
    """Twice the common voxels over the sum of both; NaN where both masks are empty.

    >>> dice(np.array([1, 1, 0], bool), np.array([0, 1, 0], bool))
    0.6666666666666666
    """
    total = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(predicted & truth)) / total if total else NAN


def surface_distances(first: Array, second: Array, spacing_mm: Sequence[float]) -> tuple[Floats, Floats]:
    """Millimetres from every surface voxel of one mask to the other's surface, both ways; none is empty.

    A voxel lies on the surface when a face neighbour is outside the mask; outside the image nothing is.
    """
    from scipy import ndimage

    (box,) = ndimage.find_objects((first | second).astype(np.uint8))
    masks = [np.pad(mask[box], 1) for mask in (first, second)]
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    away = [ndimage.distance_transform_edt(~surface, sampling=spacing_mm) for surface in surfaces]
    return away[1][surfaces[0]], away[0][surfaces[1]]


def surface_metrics(
    predicted: Array, truth: Array, spacing_mm: Sequence[float], tolerance_mm: float
) -> dict[str, float]:
    """`nsd` and `hd95` of two masks.

    `nsd`: share of both surfaces that lies within the tolerance of the other. `hd95`: of the two 95th
    percentiles of surface distances the larger, in mm. Both masks empty: NaN. One of them empty: nsd 0
    and hd95 the diagonal of the image, the largest error there could be.
    """
    some = bool(predicted.any()), bool(truth.any())
    if not any(some):
        return {"nsd": NAN, "hd95": NAN}
    if not all(some):
        diagonal = float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
        return {"nsd": 0.0, "hd95": diagonal}
    away = surface_distances(predicted, truth, spacing_mm)
    close = sum(int(np.count_nonzero(each <= tolerance_mm)) for each in away)
    hd95 = max(float(np.percentile(each, 95)) for each in away)
    return {"nsd": close / sum(each.size for each in away), "hd95": hd95}


def mask_metrics(
    predicted: Mapping[str, Array],
    truth: Mapping[str, Array],
    spacing_mm: Sequence[float],
    tolerance_mm: float = 1.0,
) -> dict[str, float]:
    """Metrics of one image, `dice/NAME`, `nsd/NAME` and `hd95/NAME` for every class, and their means."""
    rows: dict[str, float] = {}
    for name in truth:
        one, two = predicted[name], truth[name]
        if one.shape != two.shape:
            raise FoveateError(f"class {name}: the prediction has shape {one.shape}, the label {two.shape}.")
        found = {"dice": dice(one, two), **surface_metrics(one, two, spacing_mm, tolerance_mm)}
        rows |= {f"{metric}/{name}": value for metric, value in found.items()}
    means = {"mean_fg_dice": "dice", "mean_nsd": "nsd", "mean_hd95": "hd95"}
    return {key: mean([rows[f"{metric}/{name}"] for name in truth]) for key, metric in means.items()} | rows


def mean(values: Sequence[float] | Array) -> float:
    """Mean of the values that are not NaN; NaN where none is left.

    >>> mean([1.0, float("nan"), 3.0]), mean([])
    (2.0, nan)
    """
    array = np.asarray(values, dtype=np.float64)
    kept = array[~np.isnan(array)]
    return float(kept.mean()) if kept.size else NAN


def auroc(scores: Array, labels: Array) -> float:
    """Chance that a positive scores above a negative, ties counting half; NaN where one of them is absent."""
    from scipy.stats import rankdata

    positive = np.asarray(labels) > 0
    there, absent = int(positive.sum()), int((~positive).sum())
    if not there or not absent:
        return NAN
    ranks = float(rankdata(scores)[positive].sum())
    return (ranks - there * (there + 1) / 2) / (there * absent)


def average_precision(scores: Array, labels: Array) -> float:
    """Precision averaged over the positives as the threshold falls; NaN without a positive."""
    scores, positive = np.asarray(scores), np.asarray(labels) > 0
    if not positive.any():
        return NAN
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.r_[np.flatnonzero(np.diff(scores[order])), scores.size - 1]  # of every group of equal scores
    found = hits[last]
    gained = np.diff(found, prepend=0)
    return float((gained * found / (last + 1)).sum() / found[-1])


def recall(predicted: Array, truth: Array) -> float:
    """Share of the true ones that are predicted; NaN where there is none."""
    return float((predicted & truth).sum() / truth.sum()) if truth.any() else NAN


def f1(predicted: Array, truth: Array) -> float:
    """Dice of yes and no over cases; NaN where nothing is true and nothing predicted."""
    return dice(predicted, truth)


def multiclass_metrics(shares: Array, labels: Array, names: Sequence[str]) -> dict[str, float]:
    """Metrics of one class per case.

    Args:
        shares: (N, K) probabilities.
        labels: (N,) class indices; NaN or negative: missing.
        names: Of the K classes.
    """
    known = known_labels(labels)
    shares, labels = np.asarray(shares)[known], np.asarray(labels)[known].astype(int)
    chosen = shares.argmax(1) if len(shares) else np.zeros(0, int)
    rows: dict[str, float] = {}
    for k, name in enumerate(names):
        rows[f"auroc/{name}"] = auroc(shares[:, k], labels == k)
        rows[f"ap/{name}"] = average_precision(shares[:, k], labels == k)
        rows[f"recall/{name}"] = recall(chosen == k, labels == k)
        rows[f"f1/{name}"] = f1(chosen == k, labels == k)
    return {"n": float(known.sum()), **_means(rows, names, {"balanced_acc": "recall"})} | rows


def multilabel_metrics(shares: Array, labels: Array, names: Sequence[str]) -> dict[str, float]:
    """Metrics of independent yes-or-no labels; shares and labels (N, K), NaN or negative: missing."""
    rows: dict[str, float] = {}
    for k, name in enumerate(names):
        known = known_labels(np.asarray(labels)[:, k])
        score, truth = np.asarray(shares)[known, k], np.asarray(labels)[known, k] > 0
        chosen = score > THRESHOLD
        both = recall(chosen, truth), recall(~chosen, ~truth)
        rows[f"auroc/{name}"] = auroc(score, truth)
        rows[f"ap/{name}"] = average_precision(score, truth)
        rows[f"balanced_acc/{name}"] = NAN if np.isnan(both).any() else sum(both) / 2
        rows[f"f1/{name}"] = f1(chosen, truth)
        rows[f"n/{name}"] = float(known.sum())
    return _means(rows, names, {"balanced_acc": "balanced_acc"}) | rows


def regression_metrics(values: Array, labels: Array, names: Sequence[str]) -> dict[str, float]:
    """`mae` and `r2` per target; values and labels (N, K), NaN: missing; r2 of a constant target is NaN."""
    rows: dict[str, float] = {}
    for k, name in enumerate(names):
        known = ~np.isnan(np.asarray(labels, dtype=np.float64)[:, k])
        guess, truth = np.asarray(values)[known, k], np.asarray(labels)[known, k]
        spread = float(((truth - truth.mean()) ** 2).sum()) if truth.size else 0.0
        rows[f"mae/{name}"] = mean(np.abs(guess - truth))
        rows[f"r2/{name}"] = 1 - float(((guess - truth) ** 2).sum()) / spread if spread > 0 else NAN
        rows[f"n/{name}"] = float(known.sum())
    return {key: mean([rows[f"{key}/{name}"] for name in names]) for key in ("mae", "r2")} | rows


def answer_metrics(
    answers: Array, labels: Array, names: Sequence[str], activation: Activation
) -> dict[str, float]:
    """The metrics above that belong to an activation; answers (N, K), labels (N, targets)."""
    if activation == "softmax":
        return multiclass_metrics(answers, labels[:, 0], names)
    judge = multilabel_metrics if activation == "sigmoid" else regression_metrics
    return judge(answers, labels, names)


def known_labels(labels: Array) -> NDArray[np.bool_]:
    """Where a class or a finding is known: neither NaN nor negative."""
    values = np.asarray(labels, dtype=np.float64)
    return ~np.isnan(values) & (np.nan_to_num(values) >= 0)


def _means(rows: Mapping[str, float], names: Sequence[str], more: Mapping[str, str]) -> dict[str, float]:
    """Unweighted means over the classes for which a metric is defined."""
    columns = {"auroc": "auroc", "ap": "ap", "f1": "f1", **more}
    return {key: mean([rows[f"{column}/{name}"] for name in names]) for key, column in columns.items()}
