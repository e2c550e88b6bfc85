"""Boxes that overlap: one of them stays, as a slow loop over all pairs says; several answers become one."""

import numpy as np
import pytest

from foveate.core.boxes.geometry import Boxes, iou
from foveate.core.boxes.suppression import fused, suppressed


def slow(boxes, most_iou):
    """Take the surest box that is left, throw away all of its class that overlap it too much, and again."""
    left, kept = list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda i: (boxes.score[i], -i))
        kept.append(best)
        one = boxes.picked([best])
        left = [
            i
            for i in left
            if i != best
            and not (boxes.label[i] == boxes.label[best] and iou(one, boxes.picked([i]))[0, 0] > most_iou)
        ]
    return kept


@pytest.mark.parametrize("seed", range(12))
def test_suppression_is_the_slow_loop(seed, monkeypatch):
    monkeypatch.setattr("foveate.core.boxes.suppression.BLOCK", 7)
    rng = np.random.default_rng(seed)
    n, count = 2 + seed % 2, seed * 5
    boxes = Boxes.of(
        rng.uniform(0, 6, (count, n)),
        rng.uniform(0.5, 4, (count, n)),
        rng.integers(0, 2, count),
        rng.integers(0, 9, count) / 8,  # with equal scores
        axes=n,
    )
    wanted = slow(boxes, 0.15)
    assert suppressed(boxes, 0.15).rows() == boxes.picked(wanted).rows()
    assert suppressed(boxes, 0.15, most=3).rows() == boxes.picked(wanted[:3]).rows()


def test_what_one_of_three_answers_finds_has_a_third_of_its_score():
    shared = [Boxes.of([[x, 4.0]], [[2.0, 2.0]], score=[s]) for x, s in ((4.0, 0.9), (4.4, 0.3), (4.2, 0.6))]
    alone = Boxes.of([[20.0, 4.0]], [[2.0, 2.0]], score=[0.9])
    both = Boxes.of(
        np.concatenate([shared[0].centre, alone.centre]),
        np.concatenate([shared[0].size, alone.size]),
        score=[0.9, 0.9],
    )
    found = fused([both, *shared[1:]], 0.1, 2)
    np.testing.assert_allclose(found.score, [0.6, 0.3])
    np.testing.assert_allclose(found.centre, [[(4 * 0.9 + 4.4 * 0.3 + 4.2 * 0.6) / 1.8, 4], [20, 4]])


def test_boxes_of_one_answer_or_of_two_classes_are_never_joined():
    near = Boxes.of([[4.0, 4], [4.1, 4]], [[2.0, 2], [2, 2]], score=[0.8, 0.4])
    assert len(fused([near, Boxes.of([], [], axes=2)], 0.1, 2)) == 2
    other = Boxes.of([[4.0, 4]], [[2.0, 2]], label=[1], score=[0.8])
    assert sorted(fused([near.picked([0]), other], 0.1, 2).label.tolist()) == [0, 1]
