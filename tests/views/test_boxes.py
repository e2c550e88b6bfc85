"""Boxes: rules at the border of the volume, overlap, containment and uniform positions."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from foveate.core.types import CropSpec, FoveateError
from foveate.views.boxes import (
    Box,
    check_fits,
    draw_boxes,
    draw_position,
    iou,
    padded_axes,
    place,
    share_size,
    union_box,
)

GLOBAL = CropSpec(
    count=2,
    grid=(64, 64, 32),
    source_sizes=((96, 96, 64), (96, 96, 96), (112, 112, 64), (64, 64, 32)),
    min_iou=0.3,
)
LOCAL = CropSpec(
    count=6, grid=(16, 16, 16), source_sizes=((32, 32, 16), (8, 8, 8), (32, 32, 32)), inside="global"
)


def everywhere(shape, margin=100):
    return Box(low=(-margin,) * len(shape), high=tuple(s + margin for s in shape))


def drawn(shape, specs, index, seed=0):
    return draw_boxes(shape, specs, seed=seed, index=index)


def within(box, outer):
    return all(a >= b for a, b in zip(box.low, outer.low, strict=True)) and all(
        a <= b for a, b in zip(box.high, outer.high, strict=True)
    )


@pytest.mark.parametrize("shape", [(300, 280, 260), (120, 110, 64), (100, 70, 40), (60, 90, 20)])
def test_overlap_and_containment(shape):
    specs = {"local": LOCAL, "global": GLOBAL}
    sizes = set()
    for index in range(60):
        boxes = drawn(shape, specs, index)
        a, b = boxes["global"]
        sizes.add(a.size)
        assert iou(a, b) >= 0.3
        outer = union_box((a, b))
        assert all(within(box, outer) for box in boxes["local"])
        volume = Box(low=(0, 0, 0), high=shape)
        padded = padded_axes(shape, GLOBAL)
        for axis in set(range(3)) - set(padded):
            assert a.low[axis] >= 0
            assert a.high[axis] <= shape[axis]
        assert all(within(box, volume) for box in boxes["local"])
    assert len(sizes) > 1


def test_more_than_two_views_overlap_the_first():
    spec = CropSpec(count=5, grid=(8, 8), source_sizes=((20, 20), (10, 10)), min_iou=0.5)
    for index in range(50):
        first, *others = drawn((64, 50), {"a": spec}, index)["a"]
        assert len(others) == 4
        assert all(iou(first, other) >= 0.5 for other in others)


def test_a_short_axis_is_padded_about_the_centre_and_not_magnified():
    boxes = drawn((70, 80, 20), {"global": GLOBAL}, 3)["global"]
    assert [(b.low[2], b.high[2]) for b in boxes] == [(-6, 26)] * 2
    assert padded_axes((70, 80, 20), GLOBAL) == (2,)
    assert padded_axes((64, 64, 32), GLOBAL) == ()


def test_a_size_below_the_grid_is_magnified_not_padded():
    spec = CropSpec(count=1, grid=(32, 32), source_sizes=((8, 24),))
    assert padded_axes((40, 20), spec) == ()
    (box,) = drawn((40, 20), {"a": spec}, 0)["a"]
    assert box.size == (8, 20)


@pytest.mark.parametrize(("axis_length", "accepted"), [(16, True), (15, False)])
def test_below_half_a_view_is_refused(axis_length, accepted):
    shape = (70, 80, axis_length)
    if accepted:
        check_fits(shape, {"global": GLOBAL})
    else:
        with pytest.raises(FoveateError, match=r"'global'.*15 voxels on axis 2.*at least 16"):
            check_fits(shape, {"global": GLOBAL})


@pytest.mark.parametrize("inside", ["nothing", "a", "b"])
def test_inside_must_name_an_independent_crop(inside):
    specs = {
        "a": CropSpec(count=1, grid=(4, 4), inside="b" if inside == "b" else inside),
        "b": CropSpec(count=1, grid=(4, 4), inside="a" if inside == "b" else ""),
    }
    with pytest.raises(FoveateError, match=r"'a'.*inside="):
        drawn((20, 20), specs, 0)


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(FoveateError, match=r"'global'.*2 axes"):
        check_fits((100, 100), {"global": GLOBAL})


def test_positions_of_the_first_box_are_uniform():
    spec = CropSpec(count=1, grid=(4, 4), source_sizes=((5, 4),))
    lows = Counter(drawn((9, 6), {"a": spec}, i)["a"][0].low for i in range(3000))
    assert set(lows) == set(itertools.product(range(5), range(3)))  # the last one included
    assert stats.chisquare(list(lows.values())).pvalue > 1e-3


@pytest.mark.parametrize(("size", "min_iou"), [((6, 4), 0.3), ((4, 7), 0.25), ((5, 5), 0.6), ((5, 5), 1.0)])
def test_conditional_positions_are_uniform_over_all_admissible_ones(size, min_iou):
    shape, first = (12, 10), Box(low=(2, 4), high=(7, 9))
    placement = place(np.array(size), (1, 1), shape, everywhere(shape))
    admissible = [
        low
        for low in itertools.product(*[range(s - e + 1) for s, e in zip(shape, size, strict=True)])
        if iou(first, Box(low=low, high=tuple(a + e for a, e in zip(low, size, strict=True)))) >= min_iou
    ]
    rng = np.random.default_rng(7)
    seen = Counter(draw_position(rng, first, placement, min_iou).low for _ in range(100 * len(admissible)))
    assert set(seen) == set(admissible)
    if len(admissible) > 1:
        assert stats.chisquare([seen[low] for low in admissible]).pvalue > 1e-3


def test_local_boxes_reach_both_ends_of_the_union():
    specs = {
        "g": CropSpec(count=1, grid=(8, 8), source_sizes=((8, 8),)),
        "l": CropSpec(count=4, grid=(4, 4), source_sizes=((6, 6),), inside="g"),
    }
    offsets = set()
    for index in range(200):
        boxes = drawn((30, 30), specs, index)
        offsets |= {box.low[0] - boxes["g"][0].low[0] for box in boxes["l"]}
    assert offsets == {0, 1, 2}


def test_shares_of_the_volume():
    spec = CropSpec(count=2, grid=(32, 32), volume_share=(0.3, 0.9), min_iou=0.4)
    shares, ratios = [], []
    for index in range(300):
        a, b = drawn((400, 300), {"a": spec}, index)["a"]
        assert iou(a, b) >= 0.4
        assert within(a, Box(low=(0, 0), high=(400, 300)))
        shares.append(a.size[0] * a.size[1] / 120_000)
        ratios.append(a.size[0] / a.size[1])
    assert stats.kstest(shares, stats.uniform(0.3, 0.6).cdf).pvalue > 1e-3
    assert min(ratios) < 0.9
    assert max(ratios) > 1.1


def test_the_whole_volume_is_a_share_of_one():
    spec = CropSpec(count=1, grid=(32, 16, 8))
    assert drawn((50, 20, 11), {"a": spec}, 0)["a"][0] == Box(low=(0, 0, 0), high=(50, 20, 11))
    assert share_size(1e-9, [1.0, 1.0], (10, 10)) == (1, 1)


def test_an_unreachable_share_pair_falls_back_to_the_first_size():
    spec = CropSpec(count=2, grid=(8, 8), volume_share=(0.05, 1.0), min_iou=1.0)
    a, b = drawn((2000, 2000), {"a": spec}, 1)["a"]
    assert a == b


def test_a_crop_does_not_move_when_another_is_added():
    alone = drawn((300, 280, 260), {"global": GLOBAL}, 5)
    assert drawn((300, 280, 260), {"local": LOCAL, "global": GLOBAL}, 5)["global"] == alone["global"]
    assert drawn((300, 280, 260), {"global": GLOBAL}, 6) != alone
