"""Sampling through affines: exact where it must be, the same on both paths, axes in the right order."""

import numpy as np
import pytest
import torch

from foveate.views import geometry as g
from foveate.views.low_pass import low_pass_of

PLANES = {2: 1, 3: 3}


def oblique(window, affine, grid):
    return g.sample_oblique([window], affine[None], grid)[0]


def volume(shape, seed=0, dtype=torch.float32):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def view_of(low, high, grid, *, flips=None, angle=0.0, zoom=1.0, spacing=None):
    n = len(grid)
    return g.view_affine(
        low,
        high,
        grid,
        flips=flips or (False,) * n,
        angles_degrees=(angle,) * PLANES[n],
        zooms=(zoom,) * n,
        spacing_mm=spacing or (1.0,) * n,
    )


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(
    ("shape", "low", "grid"), [((9, 14), (2, 5), (4, 7)), ((7, 9, 11), (1, 0, 4), (5, 9, 3))]
)
def test_a_box_at_scale_one_is_the_slice(shape, low, grid, mode):
    image = volume(shape)
    high = [a + s for a, s in zip(low, grid, strict=True)]
    expected = image[(slice(None), *map(slice, low, high))]
    assert torch.equal(g.sample(image, g.box_affine(low, high, grid), grid, mode), expected)
    flipped = view_of(low, high, grid, flips=(True, *[False] * (len(grid) - 1)))
    assert torch.equal(g.sample(image, flipped, grid, mode), expected.flip(1))
    assert torch.allclose(oblique(image, g.box_affine(low, high, grid), grid), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_outside_the_volume_is_zero_and_edge_cells_are_whole(mode):
    image = torch.ones(1, 3, 4)
    affine = g.box_affine((-2, -1), (5, 5), (7, 6))
    expected = torch.zeros(1, 7, 6)
    expected[:, 2:5, 1:5] = 1
    assert torch.equal(g.sample(image, affine, (7, 6), mode), expected)
    if mode == "linear":
        assert torch.equal(oblique(image, affine, (7, 6)), expected)
    # magnified to the very border of the volume: no fading towards the zeros outside
    for sampled in (g.sample, oblique):
        view = sampled(image, g.box_affine((0, 0), (3, 4), (12, 12)), (12, 12))
        assert torch.allclose(view, torch.ones(1, 12, 12))


@pytest.mark.parametrize(
    ("shape", "low", "high", "grid"),
    [
        ((40, 23), (3, 1), (37, 20), (16, 24)),
        ((40, 23), (-5, 2), (44, 28), (16, 8)),
        ((3, 40), (0, 0), (3, 40), (1, 8)),  # the low-pass is wider than the axis
        ((30, 22, 17), (2, 3, -2), (29, 19, 19), (10, 20, 6)),
    ],
)
def test_separable_and_oblique_paths_agree(shape, low, high, grid):
    image = volume(shape, dtype=torch.float64)
    flips = (True, *[False] * (len(grid) - 1))
    affine = view_of(low, high, grid, flips=flips, zoom=1.07)
    separable = g.sample_separable(image, affine, grid)
    assert torch.allclose(separable, oblique(image, affine, grid), atol=1e-9)
    assert max(low_pass_of(affine.tolist()).sigmas) > 0  # else the low-pass was not compared
    narrow = g.sample_separable(image.float(), affine, grid)
    assert torch.allclose(narrow, oblique(image.float(), affine, grid), atol=1e-4)


@pytest.mark.parametrize("shape", [(120, 83), (68, 59, 51)])
@pytest.mark.parametrize("angle", [0.0, 12.0])
@pytest.mark.parametrize("shrink", [1.3, 3.3])  # without and with block means
def test_a_window_gives_the_same_view_as_the_whole_volume(shape, angle, shrink):
    image = volume(shape)
    low, high = [s // 3 for s in shape], [s - s // 3 for s in shape]
    grid = tuple(int((b - a) / shrink) for a, b in zip(low, high, strict=True))
    affine = view_of(low, high, grid, angle=angle, spacing=(1.0, 2.0, 1.5)[: len(shape)])
    first, last = g.linear_window(affine.tolist(), grid, shape)
    assert (first, last) != ((0,) * len(shape), shape)
    window = image[(slice(None), *map(slice, first, last))]
    whole = g.sample(image, affine, grid)
    assert torch.allclose(g.sample(window, g.relative_to(affine, first), grid), whole, atol=2e-5)


def test_a_window_is_never_empty_and_stays_in_the_volume():
    for low in (-50, 50):
        affine = g.box_affine((low, 2), (low + 4, 6), (4, 4))
        first, last = g.window_of(affine.tolist(), (4, 4), (0, 0), (10, 10))
        assert all(0 <= a < b <= 10 for a, b in zip(first, last, strict=True))
        window = torch.ones(1, *[b - a for a, b in zip(first, last, strict=True)])
        assert not g.sample(window, g.relative_to(affine, first), (4, 4)).any()


def test_no_low_pass_unless_an_axis_shrinks():
    assert low_pass_of(g.box_affine((0, 0), (8, 8), (8, 16)).tolist()).sigmas == (0, 0)
    assert low_pass_of(g.box_affine((0, 0), (8, 24), (8, 8)).tolist()).sigmas == (0.0, 1.0)
    turned = view_of((0, 0, 0), (16, 16, 16), (16, 16, 16), angle=10.0)
    assert low_pass_of(turned.tolist()).sigmas == (0, 0, 0)


def test_rotation_is_physical():
    # with voxels of 1 x 4 mm, a quarter turn takes 4 steps on axis 0 for 1 step on axis 1
    affine = view_of((0, 0), (9, 9), (9, 9), angle=90.0, spacing=(1.0, 4.0))
    assert np.allclose(affine[:, :2], [[0, -4], [0.25, 0]], atol=1e-12)


def test_zoom_above_one_magnifies_about_the_centre():
    affine = view_of((0, 2), (8, 10), (8, 8), zoom=2.0)
    points = torch.tensor([[3.5, 3.5], [4.5, 3.5]], dtype=torch.float64)
    assert torch.allclose(g.apply(affine, points), torch.tensor([[3.5, 5.5], [4.0, 5.5]]).double())


def test_nearest_keeps_large_labels_and_breaks_ties_alike():
    labels = torch.tensor([[16_777_216, 16_777_217, 5, 6]], dtype=torch.int32)
    halved = g.sample(labels, g.box_affine((0,), (4,), (2,)), (2,), "nearest")
    assert halved.dtype == torch.int32
    assert halved.tolist() == [[16_777_217, 6]]


def test_lattice_of_a_batch_is_that_of_each_sample():
    affines = torch.stack([view_of((0, 1, 2), (9, 8, 7), (4, 3, 5), angle=a) for a in (0.0, 7.0)])
    together = g.lattice(g.to_unit(affines, (11, 12, 13)), (4, 3, 5))
    assert together.shape == (2, 4, 3, 5, 3)
    cell = torch.tensor([[3.0, 1.0, 4.0]], dtype=torch.float64)
    where = g.apply(affines[1], cell)[0]
    expected = (2 * where + 1) / torch.tensor([11, 12, 13]) - 1
    assert torch.allclose(together[1, 3, 1, 4], expected.flip(0))


def test_views_with_and_without_rotation_are_sampled_together():
    images = [volume((30, 23), seed=seed) for seed in range(3)]
    affines = [view_of((2, 1), (27, 20), (9, 8), angle=angle) for angle in (5.0, 0.0, -8.0)]
    together = g.sample_views(images, torch.stack(affines), (9, 8))
    for view, image, affine in zip(together, images, affines, strict=True):
        assert torch.equal(view, g.sample(image, affine, (9, 8)))
