"""Sweeps of frames: order by name, smoothing and retrieval against slow transcriptions."""

import math

import numpy as np
import pytest

from foveate.core.types import FoveateError
from foveate.scoring.protocols.sweeps import (
    Frame,
    check_smoothing,
    frame_of,
    retrieval,
    retrieved,
    smoothed,
)

NAMES = ("none", "heart", "head")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a/f9.png", "a/f10.png", True),
        ("a/f9.png", "b/f9.png", False),
        ("a/p1_f2.png", "a/p2_f2.png", False),
        ("cine#0.nii.gz", "cine#12.nii.gz", True),
        ("scan.png", "scan2.png", True),
        ("7.png", "12.png", True),
    ],
)
def test_names_that_differ_in_their_last_number_are_a_sweep(one, other, same):
    assert (frame_of(one).sweep == frame_of(other).sweep) is same
    assert frame_of("a/f9.png").number < frame_of("a/f10.png").number


def drawn(rng):
    """Frames of a few sweeps in any order, with gaps, ties and labels that are missing."""
    count = int(rng.integers(1, 30))
    keys = [(str(rng.integers(3)), int(n)) for n in rng.permutation(100)[:count]]
    answers = rng.integers(0, 5, (count, 3)) / 4
    labels = rng.choice([0.0, 0.0, 1.0, 2.0, math.nan], count)
    return [Frame(*key) for key in keys], answers, labels


def slow_smoothed(answers, frames, count):
    rows = []
    for frame in frames:
        own = sorted(f.number for f in frames if f.sweep == frame.sweep)
        place = own.index(frame.number)
        near = [n for at, n in enumerate(own) if abs(at - place) <= (count - 1) / 2]
        rows.append(sum(answers[frames.index(Frame(frame.sweep, n))] for n in near) / len(near))
    return np.array(rows)


def slow_retrieval(answers, labels, frames, plane):
    """One for each sweep that shows the plane and something else: whether its best frame shows it."""
    hits = []
    for sweep in {f.sweep for f in frames}:
        there = [i for i, f in enumerate(frames) if f.sweep == sweep and not math.isnan(labels[i])]
        if not any(labels[i] == plane for i in there) or all(labels[i] == plane for i in there):
            continue
        top = max(answers[i][plane] for i in there)
        first = min((i for i in there if answers[i][plane] == top), key=lambda i: frames[i].number)
        hits.append(labels[first] == plane)
    return hits


def test_oracle_smoothing_and_retrieval_are_their_slow_transcriptions():
    rng, seen = np.random.default_rng(0), 0
    for _ in range(200):
        frames, answers, labels = drawn(rng)
        count = int(rng.choice([1, 3, 5, 101]))
        found = smoothed(answers, frames, count)
        np.testing.assert_allclose(found, slow_smoothed(answers, frames, count))
        columns = retrieved(found, labels, frames, NAMES, NAMES[1:])
        scores = retrieval(columns, np.arange(len(frames)))
        for plane in (1, 2):
            hits = slow_retrieval(found, labels, frames, plane)
            seen += len(hits)
            assert scores[f"n/retrieval/{NAMES[plane]}"] == len(hits)
            said = scores[f"retrieval/{NAMES[plane]}"]
            assert said == pytest.approx(np.mean(hits)) if hits else math.isnan(said)
    assert seen > 100


def test_a_sweep_that_is_drawn_twice_counts_twice():
    frames = [Frame("a", 0), Frame("a", 1), Frame("b", 0), Frame("b", 1)]
    answers = np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    columns = retrieved(answers, np.array([1.0, 0, 0, 1]), frames, ("none", "heart"), ("heart",))
    assert retrieval(columns, np.arange(4))["retrieval/heart"] == 0.5
    assert retrieval(columns, np.array([0, 1, 0, 1, 2, 3]))["retrieval/heart"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [2, 0, -1])
def test_a_number_without_a_middle_is_refused(count):
    with pytest.raises(FoveateError, match=f"--smooth_frames {count}: accepted are odd numbers"):
        check_smoothing(count)
