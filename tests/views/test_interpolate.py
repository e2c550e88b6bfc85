"""Interpolation by gathers against SciPy, wherever the image lies in memory."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from foveate.views import interpolate

GRIDS = {(13,): (9,), (12, 9): (7, 8), (1, 9): (4, 6), (11, 9, 10): (5, 6, 7), (6, 1, 1): (4, 3, 2)}


def turned(shape, grid, *, reach, seed=0):
    """An affine without structure that reaches from -reach to beyond the image by it."""
    rng = np.random.default_rng(seed)
    linear = np.diag([s / g for s, g in zip(shape, grid, strict=True)]) + rng.normal(
        0, 0.08, (len(grid),) * 2
    )
    middle = (np.array(shape) - 1) / 2 - linear @ (np.array(grid) - 1) / 2
    return np.concatenate([linear * reach, middle[:, None]], 1)


def sample_linear(image, affine, grid, extent):
    return interpolate.sample_linear([image], affine[None], grid, extent[None])[0]


def cells_of(affine, grid):
    return np.moveaxis(np.indices(grid), 0, -1) @ affine[:, :-1].T + affine[:, -1]


@pytest.mark.parametrize("reach", [0.3, 1.0, 1.6])  # inside, to the edge, beyond it
@pytest.mark.parametrize("shape", GRIDS)
def test_every_cell_is_that_of_map_coordinates(shape, reach):
    grid = GRIDS[shape]
    image = np.random.default_rng(1).random((2, *shape))
    affine = turned(shape, grid, reach=reach)
    where = cells_of(affine, grid)
    kept = ((where >= -0.5) & (where <= np.array(shape) - 0.5)).all(-1)
    found = sample_linear(torch.from_numpy(image), affine, grid, np.array(shape, float)).numpy()
    for ours, channel in zip(found, image, strict=True):
        expected = ndimage.map_coordinates(channel, np.moveaxis(where, -1, 0), order=1, mode="nearest")
        assert np.abs(ours - expected * kept).max() < 1e-12
    narrow = sample_linear(torch.from_numpy(image).float(), affine, grid, np.array(shape, float)).numpy()
    sure = (np.abs(where + 0.5) > 1e-4).all(-1) & (np.abs(where - np.array(shape) + 0.5) > 1e-4).all(-1)
    assert np.abs((narrow - found)[:, sure]).max() < 2e-5
    assert kept.any()
    assert kept.all() or reach > 1 or min(shape) == 1


@pytest.mark.parametrize("reach", [0.5, 1.2])
def test_a_window_is_read_where_it_lies(reach):
    image = torch.rand(2, 20, 14, 17, generator=torch.Generator().manual_seed(0))
    window = image[:, 3:14, 2:11, 4:14]
    grid = (5, 6, 7)
    affine = turned(window.shape[1:], grid, reach=reach)
    extent = np.array(window.shape[1:], float)
    apart = sample_linear(window.contiguous(), affine, grid, extent)
    assert torch.equal(sample_linear(window, affine, grid, extent), apart)
    across = window.transpose(1, 3)
    mirrored = affine[::-1][:, [*range(len(grid))[::-1], -1]]
    other = sample_linear(across, mirrored, grid[::-1], extent[::-1])
    assert torch.allclose(other.transpose(1, 3), apart, atol=1e-5)


def test_points_that_need_no_clamping_are_the_same_with_it(monkeypatch):
    image = torch.rand(1, 30, 28, generator=torch.Generator().manual_seed(0))
    affine = turned((30, 28), (9, 8), reach=0.8)
    quick = sample_linear(image, affine, (9, 8), np.array([30.0, 28.0]))
    monkeypatch.setattr(interpolate, "NEAR", 100.0)
    assert torch.equal(sample_linear(image, affine, (9, 8), np.array([30.0, 28.0])), quick)


def test_an_image_may_end_within_its_last_voxel():
    image = torch.ones(1, 4)
    affine = np.array([[1.0, -0.3]])
    view = sample_linear(image, affine, (5,), np.array([3.6]))  # places -0.3, 0.7, 1.7, 2.7, 3.7; end 3.1
    assert view.tolist() == [[1, 1, 1, 1, 0]]


@pytest.mark.parametrize("together", [1, 130, 10**6])
def test_views_of_many_images_are_those_of_each(together, monkeypatch):
    """Of sizes, strides and reaches of their own, with and without neighbours that need clamping."""
    monkeypatch.setattr(interpolate, "TOGETHER", together)
    image = torch.rand(2, 24, 30, generator=torch.Generator().manual_seed(0))
    images = [image[:, 2:20, 3:12], image.mT.contiguous()[:, 4:9], image[:, :1], image, image[:, :, 5:]]
    affines = np.stack(
        [
            turned(each.shape[1:], (7, 9), reach=reach, seed=seed)
            for seed, (each, reach) in enumerate(zip(images, (0.5, 1.4, 1.0, 0.9, 0.6), strict=True))
        ]
    )
    extents = np.array([each.shape[1:] for each in images], float)
    found = interpolate.sample_linear(images, affines, (7, 9), extents)
    assert found.shape == (5, 2, 7, 9)
    for view, *alone in zip(found, images, affines, extents, strict=True):
        assert torch.equal(view, sample_linear(alone[0], alone[1], (7, 9), alone[2]))
