"""Blur, low-pass and linear sampling against SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from foveate.views import geometry as g
from foveate.views.intensity import gaussian_blur

SHAPES = [(31, 18), (19, 14, 11)]


def image(shape):
    return np.random.default_rng(len(shape)).random(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.9, 6.0])
def test_blur_is_gaussian_filter(shape, sigma):
    sigmas = [sigma * (1 + 0.3 * i) for i in range(len(shape))]
    second = [0.4, *[0.0] * (len(shape) - 1)]
    pair = np.stack([image(shape), image(shape)[::-1].copy()])[:, None]
    ours = gaussian_blur(torch.from_numpy(pair), torch.tensor([sigmas, second], dtype=torch.float64))
    for row, expected in enumerate([sigmas, second]):
        theirs = ndimage.gaussian_filter(pair[row, 0], expected, mode="nearest", truncate=4.0)
        assert np.abs(ours[row, 0].numpy() - theirs).max() < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("angles", [0.0, 25.0])
@pytest.mark.parametrize("scale", [0.7, 1.0, 2.3])
def test_sampling_is_low_pass_then_affine_transform(shape, angles, scale):
    n = len(shape)
    grid = tuple(max(2, round(s / scale)) for s in shape)
    affine = g.view_affine(
        (0,) * n,
        shape,
        grid,
        flips=(False, *[True] * (n - 1)),
        angles_degrees=(angles,) * (n * (n - 1) // 2),
        zooms=(1.1, *[0.9] * (n - 1)),
        spacing_mm=(1.0,) * n,
    )
    matrix, offset = affine[:, :-1].numpy(), affine[:, -1].numpy()
    sigmas = [max(0.0, (s - 1) / 2) for s in np.abs(matrix).max(1)]
    filtered = ndimage.gaussian_filter(image(shape), sigmas, mode="nearest", truncate=4.0)
    kwargs = {"output_shape": grid, "order": 1, "mode": "nearest"}
    expected = ndimage.affine_transform(filtered, matrix, offset, **kwargs)
    cells = np.moveaxis(np.indices(grid), 0, -1) @ matrix.T + offset
    inside = ((cells >= -0.5) & (cells <= np.array(shape) - 0.5)).all(-1)
    ours = g.sample(torch.from_numpy(image(shape))[None], affine, grid)[0].numpy()
    assert np.abs(ours - expected * inside).max() < 1e-10
    assert inside.any()


def test_linear_sampling_is_map_coordinates():
    volume = image((9, 12, 7))
    affine = g.box_affine((1.3, 2.2, 0.4), (7.1, 9.7, 6.2), (8, 11, 9))
    cells = np.moveaxis(np.indices((8, 11, 9)), 0, -1) @ affine[:, :-1].numpy().T + affine[:, -1].numpy()
    expected = ndimage.map_coordinates(volume, np.moveaxis(cells, -1, 0), order=1)
    ours = g.sample(torch.from_numpy(volume)[None], affine, (8, 11, 9))[0].numpy()
    assert np.abs(ours - expected).max() < 1e-12
