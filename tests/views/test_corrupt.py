"""Patch swap and cut-out against slow loops and their invariants."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from foveate.core.types import FoveateError
from foveate.views.corrupt import (
    cut_out,
    draw_holes,
    draw_sized_swaps,
    draw_sizes,
    draw_swaps,
    draw_windows,
    moved_voxels,
    paint,
    shuffle_maps,
    swap_map,
    swap_patches,
)

CASES = [((12, 9), (3, 4)), ((9, 12, 7), (4, 2, 3)), ((8, 6), (4, 5))]


def maps_of(shape, patch, count, seeds=(0, 1)):
    drawn = [draw_swaps(np.random.default_rng(s), shape, patch, count) for s in seeds]
    return drawn, torch.from_numpy(np.stack([swap_map(shape, patch, d) for d in drawn]))


def slow_swaps(image, patch, swaps):
    out = image.copy()
    for first, second in swaps.tolist():
        before = out.copy()
        for offset in np.ndindex(*patch):
            a = (slice(None), *(i + o for i, o in zip(first, offset, strict=True)))
            b = (slice(None), *(i + o for i, o in zip(second, offset, strict=True)))
            out[a], out[b] = before[b], before[a]
    return out


@pytest.mark.parametrize(("shape", "patch"), CASES)
def test_one_gather_equals_the_sequential_loop(shape, patch):
    drawn, maps = maps_of(shape, patch, 15)
    images = torch.rand(2, 3, *shape)
    before = images.clone()
    swapped = swap_patches(images, maps)
    assert torch.equal(images, before)
    for row in range(2):
        assert np.array_equal(swapped[row].numpy(), slow_swaps(images[row].numpy(), patch, drawn[row]))
    assert torch.equal(swapped.flatten(2).sort().values, images.flatten(2).sort().values)
    assert torch.equal((swapped != images).all(1), moved_voxels(maps))
    assert moved_voxels(maps).any()


@pytest.mark.parametrize(("shape", "patch"), CASES)
def test_patches_are_disjoint(shape, patch):
    (swaps, _), _ = maps_of(shape, patch, 500)
    assert (np.abs(swaps[:, 0] - swaps[:, 1]) >= np.array(patch)).any(1).all()


def test_no_swap_is_the_identity():
    _, maps = maps_of((6, 7), (2, 2), 0)
    images = torch.rand(2, 1, 6, 7)
    assert torch.equal(swap_patches(images, maps), images)
    assert not moved_voxels(maps).any()


def test_pairs_are_uniform_and_reach_the_last_position():
    shape, patch = (5, 4), (2, 3)
    swaps = draw_swaps(np.random.default_rng(3), shape, patch, 8000)
    seen = Counter(map(str, swaps.tolist()))
    places = [(i, j) for i in range(4) for j in range(2)]
    pairs = [str([list(a), list(b)]) for a in places for b in places if abs(a[0] - b[0]) >= 2]
    assert set(seen) == set(pairs)
    assert stats.chisquare([seen[p] for p in pairs]).pvalue > 1e-3


@pytest.mark.parametrize("patch", [(5, 5), (9, 1), (0, 2), (2,), (2, 2, 2)])
def test_impossible_patches_are_refused(patch):
    with pytest.raises(FoveateError, match=r"swap_patch .* view of \(8, 8\)"):
        draw_swaps(np.random.default_rng(0), (8, 8), patch, 1)


def test_cut_out_fills_whole_boxes_anywhere():
    rng, lows = np.random.default_rng(0), set()
    for _ in range(200):
        mask = draw_holes(rng, (5, 4), (2, 3), 1)
        assert mask.sum() == 6
        lows.add(tuple(np.argwhere(mask).min(0)))
    assert lows == {(i, j) for i in range(4) for j in range(2)}
    images = torch.rand(2, 3, 5, 4) + 1
    masks = torch.stack([torch.from_numpy(mask), torch.zeros(5, 4, dtype=torch.bool)])
    filled = cut_out(images, masks)
    assert torch.equal(filled == 0, masks[:, None].expand(-1, 3, -1, -1))
    assert torch.equal(filled[1], images[1])


@pytest.mark.parametrize("size", [(6, 1), (0, 1), (2,)])
def test_holes_that_do_not_fit_are_refused(size):
    with pytest.raises(FoveateError, match="cutout_size"):
        draw_holes(np.random.default_rng(0), (5, 4), size, 1)


RANGE = ((2, 1, 2), (4, 3, 5))


@pytest.mark.parametrize(("shape", "smallest", "largest"), [((9, 12, 7), *RANGE), ((12, 9), (2, 3), (5, 4))])
def test_swaps_of_drawn_sizes_are_disjoint_exact_and_equal_the_slow_loop(shape, smallest, largest):
    rng = np.random.default_rng(5)
    sizes = draw_sizes(rng, shape, smallest, largest, 300)
    swaps = draw_sized_swaps(rng, shape, sizes)
    assert (np.abs(swaps[:, 0] - swaps[:, 1]) >= sizes).any(1).all()
    assert (swaps >= 0).all()
    assert (swaps + sizes[:, None] <= shape).all()
    for axis in range(len(shape)):
        assert set(sizes[:, axis]) == set(range(smallest[axis], largest[axis] + 1))
    image = rng.normal(size=(2, *shape))
    expected = image.copy()
    for pair, size in zip(swaps[:20], sizes[:20], strict=True):
        expected = slow_swaps(expected, size, pair[None])
    maps = torch.from_numpy(swap_map(shape, sizes[:20], swaps[:20]))[None]
    swapped = swap_patches(torch.from_numpy(image)[None], maps)[0]
    assert np.array_equal(swapped.numpy(), expected)
    assert np.array_equal(np.sort(swapped.numpy().reshape(2, -1)), np.sort(image.reshape(2, -1)))


def test_swaps_of_one_size_are_uniform_and_reach_every_position():
    shape, size = (5, 4), (2, 3)
    sizes = draw_sizes(np.random.default_rng(0), shape, size, size, 8000)
    swaps = draw_sized_swaps(np.random.default_rng(3), shape, sizes)
    seen = Counter(map(str, swaps.tolist()))
    places = [(i, j) for i in range(4) for j in range(2)]
    pairs = [str([list(a), list(b)]) for a in places for b in places if abs(a[0] - b[0]) >= 2]
    assert set(seen) == set(pairs)
    assert stats.chisquare([seen[p] for p in pairs]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("smallest", "largest"), [((3, 3), (2, 4)), ((0, 1), (2, 2)), ((2,), (4, 4)), ((2, 2), (5, 5))]
)
def test_ranges_of_sizes_that_cannot_be_are_refused(smallest, largest):
    with pytest.raises(FoveateError, match="swap_patch"):
        draw_sizes(np.random.default_rng(0), (8, 8), smallest, largest, 1)


def shuffled(shape, windows, offsets, share):
    torch.manual_seed(0)
    tickets, order = torch.rand(2, 1, *shape)
    arguments = torch.tensor([windows]), torch.tensor([offsets]), torch.tensor([share])
    return shuffle_maps(*arguments, tickets, order)[0]


@pytest.mark.parametrize(
    ("shape", "windows", "offsets"),
    [
        ((7, 9), (3, 2), (1, 0)),
        ((5, 6, 7), (2, 3, 4), (1, 2, 3)),
        ((2, 9), (4, 9), (3, 8)),
        ((4, 4), (1, 1), (0, 0)),
    ],
)
def test_shuffling_stays_inside_its_windows(shape, windows, offsets):
    source = shuffled(shape, windows, offsets, 1.0).numpy()
    assert sorted(source.ravel()) == list(range(source.size))
    here = np.stack(np.indices(shape))
    there = np.stack(np.unravel_index(source, shape))
    move = [slice(None)] + [None] * len(shape)
    tile = lambda at: (at + np.array(offsets)[tuple(move)]) // np.array(windows)[tuple(move)]  # noqa: E731
    assert np.array_equal(tile(here), tile(there))
    assert np.array_equal(here, there) == (max(windows) == 1)


def test_no_share_shuffles_nothing_and_half_a_share_about_half_of_the_windows():
    still = torch.arange(60 * 60).reshape(60, 60)
    assert torch.equal(shuffled((60, 60), (3, 3), (0, 0), 0.0), still)
    moved = shuffled((60, 60), (3, 3), (0, 0), 0.5) != still
    windows = moved.reshape(20, 3, 20, 3).any(3).any(1)
    assert 0.4 < windows.float().mean() < 0.6


def test_every_order_inside_a_window_is_equally_likely():
    torch.manual_seed(1)
    tickets, order = torch.rand(2, 6000, 1, 3)
    windows, offsets = torch.tensor([[1, 3]]).expand(6000, 2), torch.zeros(6000, 2, dtype=torch.long)
    maps = shuffle_maps(windows, offsets, torch.ones(6000), tickets, order)
    seen = Counter(map(str, maps.tolist()))
    assert len(seen) == 6
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_windows_have_the_asked_sides_and_painting_fills_them_only():
    for seed in range(50):
        mask = draw_windows(np.random.default_rng(seed), (20, 30), (0.1, 0.5), 1)
        sides = [np.ptp(np.flatnonzero(mask.any(1 - axis))) + 1 for axis in (0, 1)]
        assert mask.sum() == sides[0] * sides[1]
        assert 2 <= sides[0] <= 10
        assert 3 <= sides[1] <= 15
    images = torch.rand(2, 3, 20, 30)
    before = images.clone()
    masks = torch.stack([torch.from_numpy(mask), torch.zeros(20, 30, dtype=torch.bool)])
    painted = paint(images, masks, torch.tensor([0.25, 0.5]))
    assert torch.equal(images, before)
    assert (painted[0][:, masks[0]] == 0.25).all()
    assert torch.equal(painted[0][:, ~masks[0]], images[0][:, ~masks[0]])
    assert torch.equal(painted[1], images[1])
