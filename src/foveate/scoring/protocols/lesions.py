"""Masks piece by piece: which lesions were found, how well, and what is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from foveate.core.types import Array, FoveateError
from foveate.scoring.metrics import NAN, mean

MEANS = {"mean_lesion_f1": "lesion_f1", "mean_lesion_dice": "lesion_dice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionConfig:
    """Whether and how masks are scored lesion by lesion: connected pieces, corners included.

    Attributes:
        match: Which pieces of label and prediction are the same lesion. "none" does not ask; "overlap" takes
            a piece as found where enough of it lies in the other mask, so that one may stand for several;
            "iou" pairs them one to one by intersection over union, the largest first.
        least: What is enough: more than this share of the piece, or this intersection over union. 0 is any
            common voxel.
    """

    match: Literal["none", "overlap", "iou"] = "none"
    least: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.least < 1:
            raise FoveateError(f"lesions.least {self.least}: accepted are 0 and more, below 1.")


class Pieces(NamedTuple):
    """Pieces of two masks, and the pairs of them that have voxels in common."""

    true: Array  # voxels of every piece of the label
    predicted: Array  # of the prediction
    pairs: Array  # (P, 2): a piece of the label and one of the prediction
    common: Array  # (P,): their common voxels


def pieces_of(predicted: Array, truth: Array) -> Pieces:
    """Connected pieces, corners included, of two masks of one shape."""
    from scipy import ndimage

    corners = np.ones((3,) * truth.ndim, dtype=bool)
    one, two = (ndimage.label(mask, structure=corners)[0] for mask in (truth, predicted))
    both = predicted & truth
    pairs, common = np.unique(np.stack([one[both], two[both]], 1) - 1, axis=0, return_counts=True)
    return Pieces(np.bincount(one.ravel())[1:], np.bincount(two.ravel())[1:], pairs, common)


def lesion_metrics(predicted: Array, truth: Array, config: LesionConfig) -> dict[str, float]:
    """Of one class in one image: F1 and Dice over lesions, how many there are, are missed, and are none.

    F1 is the harmonic mean of the share of lesions that are found and the share of predicted pieces that are
    right. `lesion_dice` is the sum over found lesions of the Dice of each with what it was matched to, over
    the number of lesions and false pieces. Both are NaN where neither mask holds a piece.
    """
    pieces = pieces_of(predicted, truth)
    found, right, matched = (by_overlap if config.match == "overlap" else one_to_one)(pieces, config.least)
    i, j = pieces.pairs[matched].T
    inside = np.bincount(i, pieces.common[matched], len(found))
    dice = 2 * inside / (pieces.true + np.bincount(i, pieces.predicted[j], len(found)))
    false, both = int((~right).sum()), len(found) + len(right)
    share, precise = (float(each.mean()) if each.size else 0.0 for each in (found, right))
    f1 = 2 * share * precise / (share + precise) if share + precise else 0.0
    return {
        "lesion_f1": f1 if both else NAN,
        "lesion_dice": float(dice[found].sum()) / (len(found) + false) if both else NAN,
        "lesions": float(len(found)),
        "lesions_missed": float((~found).sum()),
        "lesions_false": float(false),
    }


def by_overlap(pieces: Pieces, least: float) -> tuple[Array, Array, Array]:
    """Which lesions are found, which predicted pieces are right, and which pairs belong together: all."""
    (i, j), (n, m) = pieces.pairs.T, (len(pieces.true), len(pieces.predicted))
    found = np.bincount(i, pieces.common, n) > least * pieces.true
    right = np.bincount(j, pieces.common, m) > least * pieces.predicted
    return found, right, np.ones(len(pieces.pairs), dtype=bool)


def one_to_one(pieces: Pieces, least: float) -> tuple[Array, Array, Array]:
    """The same where no piece stands for two: pairs in falling order of intersection over union."""
    i, j = pieces.pairs.T
    iou = pieces.common / (pieces.true[i] + pieces.predicted[j] - pieces.common)
    found, right = np.zeros(len(pieces.true), dtype=bool), np.zeros(len(pieces.predicted), dtype=bool)
    matched = np.zeros(len(iou), dtype=bool)
    for place in np.argsort(-iou, kind="stable"):
        if iou[place] > least and not (found[i[place]] or right[j[place]]):
            matched[place] = found[i[place]] = right[j[place]] = True
    return found, right, matched


def lesion_rows(
    predicted: Mapping[str, Array], truth: Mapping[str, Array], config: LesionConfig
) -> dict[str, float]:
    """`lesion_metrics` of every class as `METRIC/NAME`, means of F1 and Dice; none where not asked for."""
    if config.match == "none":
        return {}
    rows = {
        f"{metric}/{name}": value
        for name in truth
        for metric, value in lesion_metrics(predicted[name], truth[name], config).items()
    }
    means = {key: mean([rows[f"{metric}/{name}"] for name in truth]) for key, metric in MEANS.items()}
    return means | rows
