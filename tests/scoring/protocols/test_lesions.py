"""Lesion-wise metrics against a slow transcription that grows pieces voxel by voxel."""

import itertools
import math

import numpy as np
import pytest

from foveate.core.types import FoveateError
from foveate.scoring.protocols.lesions import LesionConfig, lesion_metrics, lesion_rows


def grown(mask):
    """Sets of voxels that touch, corners included."""
    left, pieces = {tuple(at) for at in np.argwhere(mask)}, []
    steps = list(itertools.product((-1, 0, 1), repeat=mask.ndim))
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            at = edge.pop()
            piece.add(at)
            for step in steps:
                near = tuple(a + s for a, s in zip(at, step, strict=True))
                if near in left:
                    left.remove(near)
                    edge.append(near)
        pieces.append(piece)
    return sorted(pieces, key=min)


def slow(predicted, truth, match, least):
    mine, theirs = grown(predicted), grown(truth)
    if match == "overlap":
        all_mine, all_theirs = set().union(*mine), set().union(*theirs)
        found = [len(t & all_mine) > least * len(t) for t in theirs]
        right = [len(p & all_theirs) > least * len(p) for p in mine]
        partners = [[p for p in mine if t & p] for t in theirs]
    else:
        scores = [(len(t & p) / len(t | p), -i, -j) for i, t in enumerate(theirs) for j, p in enumerate(mine)]
        pairs = {}
        for iou, i, j in sorted(scores, reverse=True):
            if iou > least and -i not in pairs and -j not in pairs.values():
                pairs[-i] = -j
        found = [i in pairs for i in range(len(theirs))]
        right = [j in pairs.values() for j in range(len(mine))]
        partners = [[mine[pairs[i]]] if i in pairs else [] for i in range(len(theirs))]
    false = right.count(False)
    if not mine and not theirs:
        return [math.nan, math.nan, 0, 0, 0]
    total = 0.0
    for t, yes, with_ in zip(theirs, found, partners, strict=True):
        joined = set().union(*with_)
        total += 2 * sum(len(t & p) for p in with_) / (len(t) + len(joined)) if yes else 0
    share = sum(found) / len(theirs) if theirs else 0
    precise = sum(right) / len(mine) if mine else 0
    f1 = 2 * share * precise / (share + precise) if share + precise else 0
    return [f1, total / (len(theirs) + false), len(theirs), found.count(False), false]


@pytest.mark.parametrize("match", ["overlap", "iou"])
def test_oracle_lesions_are_those_of_a_slow_loop(match):
    rng = np.random.default_rng(1)
    for _ in range(120):
        shape = rng.integers(1, 8, rng.choice([2, 3]))
        least = float(rng.choice([0.0, 0.1, 0.5]))
        share = rng.choice([0.0, 0.08, 0.2, 0.4], 2)
        predicted, truth = (rng.random(shape) < p for p in share)
        found = lesion_metrics(predicted, truth, LesionConfig(match=match, least=least))
        expected = slow(predicted, truth, match, least)
        np.testing.assert_allclose(list(found.values()), expected, err_msg=str((shape, least)))


def test_one_large_piece_finds_two_lesions_by_overlap_and_one_by_pairs():
    truth = np.array([[1, 1, 0, 0, 1]], bool)
    predicted = np.ones((1, 5), bool)
    rows = {
        match: lesion_rows({"a": predicted}, {"a": truth}, LesionConfig(match=match))
        for match in ("overlap", "iou", "none")
    }
    assert rows["overlap"]["lesion_f1/a"] == 1
    assert rows["iou"]["lesions_missed/a"] == 1
    assert rows["iou"]["mean_lesion_f1"] == pytest.approx(2 / 3)
    assert rows["overlap"]["mean_lesion_dice"] == pytest.approx((4 / 7 + 2 / 6) / 2)
    assert rows["none"] == {}


@pytest.mark.parametrize("least", [-0.1, 1.0])
def test_a_share_that_nothing_reaches_is_refused(least):
    with pytest.raises(FoveateError, match=r"lesions\.least"):
        LesionConfig(match="iou", least=least)
