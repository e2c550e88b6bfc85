"""Products without zeros, and the low-pass that starts with means of blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from foveate.views import banded, geometry as g
from foveate.views.low_pass import block_size, block_sums, finish_low_pass, low_pass, low_pass_of


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(bands, size):
    """The matrices (B, G, size) that bands stand for."""
    rows = bands[-1].rows.stop
    matrices = torch.zeros(len(bands[0].matrices), rows, size, dtype=torch.float64)
    for each in bands:
        matrices[:, each.rows, each.columns] = each.matrices
    return matrices


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_products_by_blocks_are_those_of_whole_matrices(data):
    size, cells, length = (data.draw(st.integers(1, most)) for most in (90, 70, 60))
    sigma, scale = data.draw(st.floats(0, 2)), data.draw(st.sampled_from([-1.7, -0.4, 0.4, 1.0, 1.7]))
    start = data.draw(st.floats(-5, 5)) + (0 if scale > 0 else size)
    one = banded.sampling_bands(start + scale * np.arange(cells), sigma, size, torch.float64)
    images = rand(3, 2, length, size)
    first = banded.gaussian_bands(
        torch.from_numpy(banded.gaussian_weights(np.array([0.0, 0.7, sigma]))), length
    )
    band = [each._replace(matrices=each.matrices.expand(3, -1, -1)) for each in one]
    expected = torch.einsum("bfi,bgj,bcij->bcfg", filled(first, length), filled(band, size), images)
    assert torch.allclose(banded.apply_along_axes(images, [first, band]), expected, atol=1e-12)
    looped = ndimage.gaussian_filter1d(np.eye(length), max(sigma, 1e-3), axis=0, mode="nearest")
    assert np.allclose(filled(first, length)[2].numpy(), looped, atol=1e-12)


def test_wide_matrices_are_taken_in_bands_and_narrow_ones_whole():
    kernel = torch.from_numpy(banded.gaussian_weights(np.array([2.0])))
    assert len(banded.gaussian_bands(kernel, 224)) > 5
    assert len(banded.gaussian_bands(kernel, 16)) == 1
    assert len(banded.sampling_bands(np.arange(64.0), 0, 64, torch.float32)) == 4


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [2, 12, 17])
def test_block_sums_are_those_of_a_loop(size, length):
    image = rand(2, 3, length)
    found = torch.from_numpy(block_sums(image.numpy(), (1, size)))
    for block in range(-(-length // size)):
        taken = [min(block * size + i, length - 1) for i in range(size)]
        assert torch.allclose(found[..., block], image[..., taken].sum(-1))
    assert found.shape[2] == -(-length // size)
    assert torch.allclose(torch.from_numpy(block_sums(image.mT.numpy(), (size, 1))), found.mT)


def test_blocks_and_the_rest_have_the_variance_of_the_gaussian():
    """Of a point between blocks, averaged over where it lies, beyond that of linear interpolation itself."""
    for sigma in (0.87, 1.2, 1.5, 2.0, 3.1):
        step = block_size(sigma)
        assert step > 1
        impulse = torch.zeros(1, 60 * step, dtype=torch.float64)
        impulse[0, 30 * step] = 1
        coarse = low_pass(impulse, (sigma,), (step,)).sums[0].numpy()
        places = (np.arange(60 * step * 50) + 0.5) / 50 - 0.5
        answer = np.interp((places - (step - 1) / 2) / step, np.arange(60), coarse)
        answer /= answer.sum()
        mean = (answer * places).sum()
        assert mean == pytest.approx(30 * step, abs=(step - 1) / 2 + 0.01)
        # The kernel of every voxel of the block, about the voxel: (mean - voxel)^2 is the block's own part.
        spread = (answer * (places - mean) ** 2).sum() + (step**2 - 1) / 12
        assert spread == pytest.approx(sigma**2 + 1 / 6, rel=0.02)


def view_of(shape, grid, angle, zoom=1.0):
    n = len(grid)
    return g.view_affine(
        (0,) * n,
        shape,
        grid,
        flips=(False, *[True] * (n - 1)),
        angles_degrees=(angle,) * (n * (n - 1) // 2),
        zooms=(zoom,) * n,
        spacing_mm=(1.0,) * n,
    )


@pytest.mark.parametrize(("shape", "grid"), [((62, 71), (19, 15)), ((41, 38, 33), (12, 8, 17))])
def test_a_turned_view_that_shrinks_is_block_means_taps_and_interpolation(shape, grid):
    """Against SciPy on arrays of their own: filters, decimation, coordinates."""
    image, affine = rand(*shape).numpy(), view_of(shape, grid, 6.0, zoom=1.15)
    steps = low_pass_of(affine.tolist()).steps
    coarse = np.pad(image, [(0, -s % k) for s, k in zip(shape, steps, strict=True)], mode="edge")
    for axis, (sigma, k) in enumerate(zip(low_pass_of(affine.tolist()).sigmas, steps, strict=True)):
        if k == 1:
            coarse = ndimage.gaussian_filter1d(coarse, sigma, axis=axis, mode="nearest", truncate=4.0)
            continue
        length = coarse.shape[axis]
        coarse = coarse.reshape(*coarse.shape[:axis], length // k, k, *coarse.shape[axis + 1 :]).mean(
            axis + 1
        )
        side = (sigma**2 - (k**2 - 1) / 4) / k**2 / 2
        coarse = ndimage.correlate1d(coarse, [side, 1 - 2 * side, side], axis=axis, mode="nearest")
    where = np.moveaxis(np.indices(grid), 0, -1) @ affine[:, :-1].numpy().T + affine[:, -1].numpy()
    kept = ((where >= -0.5) & (where <= np.array(shape) - 0.5)).all(-1)
    places = (where - (np.array(steps) - 1) / 2) / steps
    expected = ndimage.map_coordinates(coarse, np.moveaxis(places, -1, 0), order=1, mode="nearest") * kept
    found = g.sample(torch.from_numpy(image)[None], affine, grid)[0].numpy()
    assert np.abs(found - expected).max() < 1e-12
    assert max(steps) > 2


def wave_seen(shrink, cycles, *, exact):
    """A wave of so many cycles per cell of a turned view: what is left of it, and what is not it any more."""
    size, cells, phase = 400, 48, 0.7
    frequency = cycles / shrink
    image = torch.cos(2 * np.pi * frequency * torch.arange(size).double() + phase)[None, :, None]
    half = shrink * cells / 2
    low, high = (size / 2 - half,) * 2, (size / 2 + half,) * 2
    affine = g.view_affine(
        low,
        high,
        (cells,) * 2,
        flips=(False,) * 2,
        angles_degrees=(7.0,),
        zooms=(1.0,) * 2,
        spacing_mm=(1.0,) * 2,
    )
    window = image.expand(1, size, size)
    if exact:  # the Gaussian at full resolution
        for axis, sigma in enumerate(low_pass_of(affine.tolist()).sigmas, 1):
            window = finish_low_pass(window, axis, sigma, 1)
        view = g.sample_linear([window], affine[None].numpy(), (cells,) * 2, np.array([[size, size]]))[0, 0]
    else:
        view = g.sample(window, affine, (cells,) * 2)[0]
    index = torch.arange(cells).double()
    where = (
        2 * np.pi * frequency * (affine[0, 0] * index[:, None] + affine[0, 1] * index + affine[0, 2]) + phase
    )
    waves = torch.stack([where.cos().flatten(), where.sin().flatten()], 1)
    weights = torch.linalg.lstsq(waves, view.flatten()[:, None]).solution
    return float(weights[0]), float((view.flatten() - (waves @ weights)[:, 0]).square().mean().sqrt())


@pytest.mark.parametrize("shrink", [2.8, 3.3, 3.9, 4.6])
def test_means_of_blocks_pass_what_the_gaussian_passes(shrink):
    for cycles in (0.05, 0.1, 0.2, 0.3, 0.4):
        found, expected = (wave_seen(shrink, cycles, exact=exact) for exact in (False, True))
        assert found[0] == pytest.approx(expected[0], abs=0.015)
        assert found[1] < 0.1  # rms, of a wave of 0.71


@pytest.mark.parametrize("shrink", [2.8, 3.3, 3.9, 4.6])
@pytest.mark.parametrize("cycles", [0.75, 1.0, 1.3])
def test_no_more_folds_back_than_when_a_view_shrinks_by_two(shrink, cycles):
    """The Gaussian of (s - 1) / 2 is weak where s is small; blocks stay within what it lets through at 2."""
    worst = max(sum(v**2 for v in wave_seen(2.0, c, exact=True)) ** 0.5 for c in (0.75, 0.97))
    found = wave_seen(shrink, cycles, exact=False)
    assert sum(value**2 for value in found) ** 0.5 < worst
