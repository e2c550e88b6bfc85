"""Samples of several data sets: how many are of each, and which image each is of, without a look back."""

from collections import Counter
from fractions import Fraction

import pytest

from foveate.data.loader import Share
from foveate.data.order import Mix, Weighted


def mix(counts, weights):
    total = sum(map(Fraction, weights))
    sets = [
        Weighted(name=f"s{i}", share=Fraction(weight) / total, images=images)
        for i, (images, weight) in enumerate(zip(counts, weights, strict=True))
    ]
    return Mix(tuple(sets))


def set_of(position, counts):
    return next(i for i in range(len(counts)) if position < sum(counts[: i + 1]))


@pytest.mark.parametrize("weights", [("0.5", "0.5"), ("0.7", "0.2", "0.1"), ("1", "3", "0.003")])
def test_shares_are_kept_at_every_point_of_a_run(weights):
    counts = [5, 3, 2][: len(weights)]
    drawn, seen = mix(counts, weights), Counter()
    for index in range(2000):
        if index % 97 == 0:
            assert drawn.drawn(7, index) == [seen[i] for i in range(len(counts))]
            expected = [float(each.share) * index for each in drawn.sets]
            assert all(abs(seen[i] - n) <= drawn.length / 2 + 1 for i, n in enumerate(expected))
        seen[set_of(drawn.position(7, index), counts)] += 1
    for block in range(2000 // drawn.length):  # at the end of a block it is exact, but for rounding
        exact = [each.share * block * drawn.length for each in drawn.sets]
        assert all(abs(n - m) < 1 for n, m in zip(drawn.before(block), exact, strict=True))


def test_every_image_of_a_set_is_seen_once_per_epoch_of_the_set():
    counts = [7, 40]
    drawn = mix(counts, ("0.5", "0.5"))
    positions = [drawn.position(3, index) for index in range(400)]
    for first, images in ((0, 7), (7, 40)):
        own = [position for position in positions if first <= position < first + images]
        epochs = [own[start : start + images] for start in range(0, len(own) - images + 1, images)]
        assert len(epochs) > 3
        assert all(sorted(epoch) == list(range(first, first + images)) for epoch in epochs)
        assert epochs[0] != epochs[1]


def test_two_processes_take_different_samples_of_one_order():
    drawn = mix([100, 300], ("0.25", "0.75"))
    taken = [
        [
            drawn.position(5, index)
            for step in range(10)
            for index in Share(batch_size=4, rank=rank, world=2).indices(step, 0)
        ]
        for rank in range(2)
    ]
    assert not set(taken[0]) & set(taken[1])  # fewer samples than an epoch of either set
    assert sorted(taken[0] + taken[1]) == sorted(drawn.position(5, index) for index in range(80))


def test_the_order_is_of_the_seed_and_a_kept_part_has_the_same_shares():
    drawn = mix([4, 4], ("0.5", "0.5"))
    first, second = ([drawn.position(seed, index) for index in range(32)] for seed in (1, 2))
    assert first != second
    kept = drawn.kept([True] * 4 + [True, False, True, False])
    assert [(each.images, each.share) for each in kept.sets] == [(4, Fraction(1, 2)), (2, Fraction(1, 2))]
