"""Views of a volume and their corruption: contract, streams, identity."""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from foveate.core.codes import Codes
from foveate.core.types import CropSpec, FoveateError
from foveate.views import geometry as g, intensity, pipeline
from foveate.views.appearance import Appearance, Draws
from foveate.views.pipeline import corrupt, make_views, normalise

FULL = {
    2: Appearance(
        blur_sigma=(0.1, 2),
        blur_probability=0.5,
        brightness=0.4,
        contrast=0.4,
        normalisation="imagenet",
        cutout_size=(8, 6),
        cutout_count=3,
    ),
    3: Appearance(
        blur_sigma=(0, 2),
        noise_std=(0, 0.25),
        log_gamma=(-0.3, 0.3),
        swap_patch=(4, 2, 2),
        swap_count=20,
        normalisation="zscore",
    ),
}
GRIDS = {2: (24, 18), 3: (16, 12, 8)}


class Memory:
    """A volume in memory that counts its reads."""

    map_names = ()
    planes = None
    focus = ()

    def __init__(self, shape, channels=1, spacing_mm=None):
        self.array = np.random.default_rng(0).random((channels, *shape), dtype=np.float32)
        self.spacing_mm = spacing_mm or (1.0,) * len(shape)
        self.shape = shape
        self.reads = 0

    def codes(self, low, high):
        self.reads += 1
        return Codes(self.array, 0, 1, inside=True).part(low, high)


def specs_for(n, **changes):
    free = {"flip_axes": (0, n - 1), "rotation_degrees": 10.0, "zoom": 0.1, **changes}
    return {
        "global": CropSpec(
            count=2,
            grid=(16, 12, 8)[:n],
            source_sizes=((24, 20, 12)[:n], (16, 12, 8)[:n]),
            min_iou=0.3,
            **free,
        ),
        "local": CropSpec(
            count=3, grid=(6, 5, 4)[:n], source_sizes=((8, 8, 4)[:n],), inside="global", **free
        ),
    }


def batch(n, size=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)
    return torch.rand(size, 2, *GRIDS[n], generator=generator, dtype=dtype)


@pytest.mark.parametrize("n", [2, 3])
def test_views_keep_the_contract(n):
    volume = Memory((50, 40, 30)[:n], channels=2)
    maker = pickle.loads(pickle.dumps(partial(make_views, specs=specs_for(n), seed=1)))
    views = maker(volume, 7)
    assert volume.reads in (1, 5)  # one window a view, or one for all of them
    for name, spec in specs_for(n).items():
        images, affines, *_ = views[name]
        assert images.shape == (spec.count, 2, *spec.grid)
        assert affines.shape == (spec.count, n, n + 1)
        assert images.dtype == affines.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.std() > 0.01
    again = maker(volume, 7)
    assert all(torch.equal(views[k][i], again[k][i]) for k in views for i in range(2))
    assert not torch.equal(maker(volume, 8)["global"][0], views["global"][0])


@pytest.mark.parametrize("n", [2, 3])
def test_views_show_what_their_affines_say(n):
    volume = Memory((50, 40, 30)[:n], spacing_mm=(1.0, 0.7, 2.0)[:n])
    for images, affines, *_ in make_views(volume, 3, specs=specs_for(n), seed=0).values():
        for image, affine in zip(images, affines, strict=True):
            whole = g.sample(torch.from_numpy(volume.array), affine.double(), image.shape[1:])
            assert torch.allclose(image, whole, atol=1e-4)


@pytest.mark.parametrize("n", [2, 3])
def test_what_views_share_is_read_once_and_changes_nothing(n, monkeypatch):
    """Reading all windows at once, never more voxels than apart, gives the same views bit for bit."""
    volume = Memory((90, 80, 70)[:n], channels=2)
    spec = CropSpec(count=3, grid=(20, 16, 12)[:n], source_sizes=((64, 60, 40)[:n],), rotation_degrees=12.0)
    far = CropSpec(count=2, grid=(4, 4, 4)[:n], source_sizes=((5, 5, 5)[:n],), rotation_degrees=12.0)
    for specs, reads in (({"a": spec}, 1), ({"a": far}, 2)):
        volume.reads = 0
        together = make_views(volume, 5, specs=specs, seed=0)
        assert volume.reads == reads
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "read_together", lambda volume, _: volume)
            apart = make_views(volume, 5, specs=specs, seed=0)
        assert torch.equal(together["a"].images, apart["a"].images)


@pytest.mark.parametrize("change", [{"flip_axes": ()}, {"zoom": 0.0}, {"rotation_degrees": 0.0}])
def test_turning_one_draw_off_leaves_the_others(change):
    volume = Memory((50, 40, 30))
    before = make_views(volume, 3, specs=specs_for(3), seed=0)["global"][1]
    after = make_views(volume, 3, specs=specs_for(3, **change), seed=0)["global"][1]
    centre = torch.tensor([[7.5, 5.5, 3.5]])
    assert torch.allclose(g.apply(before, centre), g.apply(after, centre), atol=1e-4)  # the same boxes
    if "zoom" in change or "rotation_degrees" in change:
        signs = before.diagonal(dim1=1, dim2=2).sign()
        assert torch.equal(after.diagonal(dim1=1, dim2=2).sign(), signs)  # the same flips


def test_zooms_together_stretch_nothing_and_shifts_stay_within_their_share():
    volume, spec = Memory((64, 48)), CropSpec(count=20, grid=(32, 24), source_sizes=((32, 24),))
    plain, zoomed, moved = (
        make_views(volume, 1, specs={"a": replace(spec, **change)}, seed=0)["a"][1]
        for change in ({}, {"zoom": 0.3, "zoom_axes": "together"}, {"shift": 0.25})
    )
    scales = zoomed.diagonal(dim1=1, dim2=2)
    assert torch.allclose(scales[:, 0], scales[:, 1])
    assert len(scales[:, 0].unique()) == 20
    assert torch.equal(moved[..., :-1], plain[..., :-1])
    shares = (moved - plain)[..., -1] / torch.tensor([32, 24])
    assert shares.abs().max() <= 0.25
    assert shares.min() < -0.15
    assert shares.max() > 0.15


def test_flips_follow_their_axes_and_probability():
    volume = Memory((50, 40))
    spec = CropSpec(count=20, grid=(8, 6), source_sizes=((8, 6),), flip_axes=(1,), flip_probability=0.25)
    affines = torch.cat([make_views(volume, i, specs={"a": spec}, seed=0)["a"][1] for i in range(20)])
    flipped = affines.diagonal(dim1=1, dim2=2) < 0
    assert not flipped[:, 0].any()
    assert 0.17 < flipped[:, 1].float().mean() < 0.33


def test_views_of_a_crop_are_turned_and_zoomed_apart():
    affines = make_views(Memory((50, 40, 30)), 0, specs=specs_for(3), seed=0)["local"][1]
    assert all(len(affines[:, i, j].abs().unique()) == 3 for i in range(3) for j in range(3))


def test_plain_boxes_are_slices_and_padding_is_zero():
    volume = Memory((30, 20, 6))
    spec = CropSpec(count=2, grid=(16, 12, 8), source_sizes=((16, 12, 8),))
    images, affines, *_ = make_views(volume, 0, specs={"a": spec}, seed=0)["a"]
    x, y, z = affines[0, :, -1].int().tolist()
    assert z == -1
    assert torch.equal(images[0, 0, :, :, 1:7], torch.from_numpy(volume.array[0, x : x + 16, y : y + 12]))
    assert not images[..., [0, 7]].any()


@pytest.mark.parametrize("n", [2, 3])
def test_neutral_appearance_is_the_identity(n):
    clean = batch(n)
    assert torch.equal(corrupt(clean, torch.arange(3), Appearance(), seed=0, view="a"), clean)


@pytest.mark.parametrize("n", [2, 3])
def test_strength_zero_is_the_identity_of_every_operation(n):
    images, zero = batch(n) - 0.5, torch.zeros(3)
    assert torch.equal(intensity.gaussian_blur(images, torch.zeros(3, n)), images)
    assert torch.equal(intensity.add_noise(images, torch.rand_like(images), zero), images)
    assert torch.equal(intensity.scale_intensities(images, zero + 1, zero + 1), images)
    assert torch.equal(intensity.apply_gamma(images, zero), images)
    assert torch.equal(normalise(images, "none"), images)
    mixed = intensity.gaussian_blur(images, torch.tensor([[0.0] * n, [1.0] * n, [0.0] * n]))
    assert torch.equal(mixed[[0, 2]], images[[0, 2]])
    assert not torch.allclose(mixed[1], images[1])


@pytest.mark.parametrize("n", [2, 3])
def test_a_sample_does_not_depend_on_its_batch_and_the_input_survives(n):
    clean, index = batch(n), torch.tensor([4, 9, 2])
    before = clean.clone()
    together = corrupt(clean, index, FULL[n], seed=3, view="a")
    assert torch.equal(clean, before)
    for row in range(3):
        alone = corrupt(clean[row : row + 1], index[row : row + 1], FULL[n], seed=3, view="a")
        assert torch.allclose(alone[0], together[row], atol=1e-6)
    for other in (
        corrupt(clean, index, FULL[n], seed=4, view="a"),
        corrupt(clean, index, FULL[n], seed=3, view="b"),
        corrupt(clean, index + 1, FULL[n], seed=3, view="a"),
    ):
        assert not torch.allclose(other, together)


def test_turning_an_operation_on_leaves_the_draws_of_another():
    clean, index = batch(3), torch.arange(3)
    noisy = Appearance(noise_std=(0.1, 0.2))
    added = corrupt(clean, index, noisy, seed=0, view="a") - clean
    brightness = replace(noisy, brightness=0.5)
    factor = Draws(index=(0, 1, 2), seed=0, view="a").uniform("brightness", (0.5, 1.5)).reshape(3, 1, 1, 1, 1)
    expected = (clean + added) * factor
    assert torch.allclose(corrupt(clean, index, brightness, seed=0, view="a"), expected.float(), atol=1e-6)
    swap = Appearance(swap_patch=(4, 2, 2), swap_count=20)
    swapped = corrupt(clean, index, swap, seed=0, view="a")
    both = corrupt(clean, index, replace(swap, normalisation="imagenet"), seed=0, view="a")
    assert torch.allclose(both, normalise(swapped, "imagenet"))


def test_draws_cover_their_ranges_and_the_probability_holds():
    draw = Draws(index=tuple(range(2000)), seed=0, view="a")
    sigmas = draw.uniform("blur", (0.5, 2.0), 3)
    assert 0.5 <= sigmas.min() < 0.51
    assert 1.99 < sigmas.max() <= 2.0
    clean = batch(2, size=200)
    half = Appearance(blur_sigma=(1, 2), blur_probability=0.5)
    blurred = corrupt(clean, torch.arange(200), half, seed=0, view="a")
    changed = (blurred != clean).flatten(1).any(1).float().mean()
    assert 0.38 < changed < 0.62


def test_noise_has_the_drawn_deviation():
    clean = torch.zeros(4, 1, 40, 40, 40)
    noisy = corrupt(clean, torch.arange(4), Appearance(noise_std=(0.05, 0.25)), seed=0, view="a")
    stds = Draws(index=(0, 1, 2, 3), seed=0, view="a").uniform("noise_std", (0.05, 0.25))[:, 0]
    assert torch.allclose(noisy.flatten(1).std(1).double(), stds, rtol=0.02)
    assert torch.corrcoef(noisy.flatten(1)).fill_diagonal_(0).abs().max() < 0.05  # a stream per sample
    assert noisy.mean().abs() < 0.01


def test_cut_out_comes_after_normalisation():
    clean = batch(2) + 0.01
    config = Appearance(normalisation="imagenet", cutout_size=(24, 18), cutout_count=1)
    assert not corrupt(clean, torch.arange(3), config, seed=0, view="a").any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_of_the_input_outside_autocast(dtype):
    clean = batch(3, dtype=torch.float64).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = corrupt(clean, torch.arange(3), FULL[3], seed=0, view="a")
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    plain = corrupt(clean, torch.arange(3), FULL[3], seed=0, view="a")
    assert torch.equal(result, plain)


def test_zscore_and_constant_images():
    images = torch.cat([batch(3), torch.full((1, 2, *GRIDS[3]), 0.3)])
    scores = normalise(images, "zscore")
    assert torch.allclose(scores[:3].flatten(1).mean(1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scores[:3].flatten(1).std(1, unbiased=False), torch.ones(3), atol=1e-4)
    assert scores[3].abs().max() < 1e-2
    assert torch.allclose(normalise(images, "imagenet") * 0.226 + 0.449, images, atol=1e-6)


def test_unknown_normalisation_is_refused():
    with pytest.raises(FoveateError, match="'minmax' is not one of none, zscore, imagenet"):
        normalise(batch(2), "minmax")


def test_gamma_and_contrast():
    images = torch.tensor([[[[0.25, -1.0, 1.0]]]])
    brightened = intensity.apply_gamma(images, torch.tensor([0.5]).log())
    assert torch.allclose(brightened, torch.tensor([[[[0.5, 0.0, 1.0]]]]))
    flat = intensity.scale_intensities(images, torch.ones(1), torch.zeros(1))
    assert torch.allclose(flat, images.mean().expand_as(flat))


def test_image_and_dataset_are_fixed_scales_of_their_windows():
    images = batch(2)
    assert torch.allclose(normalise(images, "image") * 0.1 + 0.7, images, atol=1e-6)
    assert torch.allclose(normalise(images, "dataset") * 0.2 + 0.5, images, atol=1e-6)
