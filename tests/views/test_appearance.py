"""Operations that come and go with a share of the views; curves and fields against NumPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from foveate.core.types import Batch
from foveate.views import intensity
from foveate.views.appearance import Appearance
from foveate.views.pipeline import corrupt, corrupted_crop, moved_by

SHAPES = {2: (18, 14), 3: (12, 10, 8)}
EVERY = {
    "noise": {"noise_std": (0.1, 0.2)},
    "brightness": {"brightness": 0.4},
    "gamma": {"log_gamma": (0.1, 0.3)},
    "bezier": {"bezier_strength": 1.0, "bezier_falling": 0.5},
    "low_resolution": {"low_resolution": (0.3, 0.6)},
    "shuffle": {"shuffle_window": (4, 3, 3)},
    "paint": {"paint_windows": 3, "paint_outside": 0.5},
}


def images_of(n, count=6):
    return torch.rand(count, 2, *SHAPES[n], generator=torch.Generator().manual_seed(n))


def look(n, **fields):
    window = fields.get("shuffle_window")
    return Appearance(**{**fields, **({"shuffle_window": window[:n]} if window else {})})


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", EVERY)
def test_an_operation_touches_the_drawn_share_of_the_views_and_nothing_of_the_others(n, name):
    images, index = images_of(n, 200), torch.arange(200)
    before = images.clone()
    half = corrupt(images, index, look(n, **EVERY[name], **{f"{name}_probability": 0.5}), seed=1, view="v")
    assert torch.equal(images, before)
    same = (half == images).flatten(1).all(1)
    assert 70 < int(same.sum()) < 130
    always = corrupt(images, index, look(n, **EVERY[name]), seed=1, view="v")
    assert not (always == images).flatten(1).all(1).any()
    assert torch.equal(half[~same], always[~same])
    never = corrupt(images, index, look(n, **EVERY[name], **{f"{name}_probability": 0.0}), seed=1, view="v")
    assert torch.equal(never, images)


@pytest.mark.parametrize("n", [2, 3])
def test_a_sample_does_not_depend_on_its_batch(n):
    fields = {k: v for d in EVERY.values() for k, v in d.items()}
    every = look(n, bias_field=0.3, **fields, swap_patch=(2,) * n, swap_patch_largest=(4,) * n, swap_count=5)
    images, index = images_of(n), torch.arange(6)
    whole = corrupt(images, index, every, seed=3, view="v")
    assert torch.equal(corrupt(images, index, every, seed=3, view="v"), whole)
    part = corrupt(images[[4, 1]], torch.tensor([4, 1]), every, seed=3, view="v")
    torch.testing.assert_close(part, whole[[4, 1]], rtol=0, atol=1e-6)  # BLAS may add up in another order
    assert not torch.equal(corrupt(images, index, every, seed=4, view="v"), whole)


def test_a_curve_rises_from_0_to_1_and_none_is_the_straight_line():
    for seed in range(200):
        table = intensity.draw_bezier(np.random.default_rng(seed), 1.0, 0.0)
        assert (np.diff(table) >= 0).all()
        assert table[0] == 0
        assert table[-1] == pytest.approx(1)
        fallen = intensity.draw_bezier(np.random.default_rng(seed), 1.0, 1.0)
        assert fallen == pytest.approx(1 - table)
    straight = intensity.draw_bezier(np.random.default_rng(0), 0.0, 0.0)
    assert straight == pytest.approx(np.linspace(0, 1, len(straight)))


def test_a_curve_is_the_parametric_one():
    points = np.array([[0.1, 0.7], [0.6, 0.2]])
    table = intensity.bezier_table(points)
    for t in np.linspace(0, 1, 57):
        basis = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
        x, y = basis @ np.array([[0, 0], *points, [1, 1]])
        assert np.interp(x, np.linspace(0, 1, len(table)), table) == pytest.approx(y, abs=1e-3)


def test_curves_are_applied_as_numpy_interpolates():
    images = torch.rand(3, 2, 5, 6, dtype=torch.float64) * 1.4 - 0.2
    tables = torch.from_numpy(np.stack([np.sort(np.random.default_rng(i).random(16)) for i in range(3)]))
    found = intensity.apply_curves(images, tables[[0, 2]], torch.tensor([0, 2]))
    for i in (0, 2):
        expected = np.interp(images[i].numpy(), np.linspace(0, 1, 16), tables[i].numpy())
        np.testing.assert_allclose(found[i].numpy(), expected, atol=1e-12)
    assert torch.equal(found[1], images[1])


@pytest.mark.parametrize("n", [2, 3])
def test_bias_field_is_the_exponential_of_its_polynomial(n):
    images, terms = images_of(n, 2).double(), intensity.bias_terms(n)
    assert len(terms) == math.comb(n + 3, 3) - 1
    coefficients = torch.randn(2, len(terms), dtype=torch.float64) * 0.3
    coefficients[1] = 0
    found = intensity.apply_bias_field(images, coefficients)
    axes = np.meshgrid(*(np.linspace(-1, 1, s) for s in SHAPES[n]), indexing="ij")
    rows = zip(terms, coefficients[0].tolist(), strict=True)
    field = sum(c * math.prod(a**e for a, e in zip(axes, term, strict=True)) for term, c in rows)
    np.testing.assert_allclose(found[0].numpy(), images[0].numpy() * np.exp(field), rtol=1e-12)
    assert torch.equal(found[1], images[1])


def test_local_shuffling_keeps_every_value():
    images = images_of(3)
    mixed = corrupt(images, torch.arange(6), look(3, shuffle_window=(4, 3, 3)), seed=0, view="v")
    assert torch.equal(mixed.flatten(2).sort().values, images.flatten(2).sort().values)


def test_outside_painting_keeps_boxes_and_inside_painting_fills_them():
    images = images_of(3, 100)
    for outside, low, high in ((0.0, 0.001, 0.2), (1.0, 0.4, 0.95)):
        config = Appearance(paint_windows=2, paint_outside=outside)
        painted = corrupt(images, torch.arange(100), config, seed=0, view="v")
        changed = (painted != images).all(1).flatten(1).float().mean(1)
        assert low < float(changed.mean()) < high
        for row, image in zip(painted, images, strict=True):
            assert len(row[row != image].unique()) == 1


def test_moved_voxels_are_those_of_the_swap():
    config = Appearance(swap_patch=(2, 2), swap_patch_largest=(5, 4), swap_count=4, normalisation="none")
    views = torch.rand(3, 2, 1, 18, 14)
    batch = Batch(crops={"global": views}, affines={}, regions={}, labels={}, index=(5, 9, 2))
    corrupted = corrupted_crop(batch, "global", config, channels=1, seed=7).flatten(0, 1)
    moved = moved_by(batch, "global", config, seed=7)
    assert torch.equal((corrupted != views.flatten(0, 1))[:, 0], moved)
    assert 0 < moved.float().mean() < 1
    none = replace(config, swap_count=0)
    assert torch.equal(corrupted_crop(batch, "global", none, channels=1, seed=7), views)


@pytest.mark.parametrize("n", [2, 3])
def test_low_resolution_is_that_of_a_slow_loop(n):
    images = images_of(n, 2)
    shape = images.shape[2:]
    sizes = torch.tensor([[3, 5, 2][:n], list(shape)])
    found = intensity.lower_resolution(images, sizes, torch.tensor([0, 1]))
    assert torch.equal(found[1], images[1])  # as many voxels as there were
    expected = images[0].double().numpy()
    for axis, (size, coarse) in enumerate(zip(shape, sizes[0].tolist(), strict=True)):
        lines = np.moveaxis(expected, axis + 1, -1)
        kept = lines[..., [math.floor((i + 0.5) * size / coarse) for i in range(coarse)]]
        fine = np.empty(lines.shape)
        for place in np.ndindex(lines.shape[:-1]):
            at = (np.arange(size) + 0.5) * coarse / size - 0.5
            fine[place] = np.interp(at, np.arange(coarse), kept[place])
        expected = np.moveaxis(fine, -1, axis + 1)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    alone = intensity.lower_resolution(images, sizes[:1], torch.tensor([1]))
    assert torch.equal(alone[0], images[0])
