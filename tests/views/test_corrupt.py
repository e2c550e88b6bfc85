"""Patch swap and cut-out against slow loops and their invariants."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from foveate.core.types import FoveateError
from foveate.views.corrupt import cut_out, draw_holes, draw_swaps, moved_voxels, swap_map, swap_patches

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
