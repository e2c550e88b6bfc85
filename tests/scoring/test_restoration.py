"""Scores of restored pictures against scikit-image and closed forms."""

import pytest
import torch
from scipy.ndimage import uniform_filter
from skimage.metrics import peak_signal_noise_ratio

from foveate.scoring import restoration


def pictures(dimension):
    shape = (3, 1, *(16, 20, 12)[:dimension])
    generator = torch.Generator().manual_seed(dimension)
    clean = torch.rand(shape, generator=generator) * 3 - 1
    return clean, clean + 0.1 * torch.randn(shape, generator=generator)


@pytest.mark.parametrize("dimension", [2, 3])
def test_psnr_is_scikit_images(dimension):
    clean, noisy = pictures(dimension)
    ours = restoration.psnr(noisy, clean)
    for value, a, b in zip(ours.tolist(), clean.numpy(), noisy.numpy(), strict=True):
        assert value == pytest.approx(peak_signal_noise_ratio(a, b, data_range=a.max() - a.min()), rel=1e-5)


@pytest.mark.parametrize("dimension", [2, 3])
def test_ssim_and_detail_of_the_clean_and_of_a_flat_picture(dimension):
    clean, noisy = pictures(dimension)
    assert restoration.ssim(clean, clean).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert 0.3 < float(restoration.ssim(noisy, clean).mean()) < 0.999
    assert restoration.ssim(4 * noisy + 2, 4 * clean + 2).tolist() == pytest.approx(
        restoration.ssim(noisy, clean).tolist(), abs=1e-4
    )
    assert restoration.detail(clean, clean) == pytest.approx(1.0)
    assert restoration.detail(torch.zeros_like(clean), clean) == 0.0
    assert restoration.detail(0.5 * clean + 7, clean) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("dimension", [2, 3])
def test_high_band_is_scipys_and_a_strange_structure_adds_nothing(dimension):
    clean, _ = pictures(dimension)
    for ours, image in zip(restoration.high_band(clean)[:, 0], clean[:, 0], strict=True):
        wanted = image.numpy() - uniform_filter(image.numpy(), 3, mode="nearest")
        assert torch.allclose(ours, torch.from_numpy(wanted), atol=1e-5)
    strange = torch.randn(3, 1, *[64] * dimension, generator=torch.Generator().manual_seed(9))
    other = torch.randn(3, 1, *[64] * dimension, generator=torch.Generator().manual_seed(8))
    assert abs(restoration.detail(strange, other)) < 0.05


def test_scores_name_what_is_in_the_clean_pictures_units():
    clean, noisy = pictures(2)
    found = restoration.scores(
        {"clean": clean, "corrupted": 100 * noisy, "restored": noisy, "from 1/4": noisy}
    )
    assert {name.split("/")[1] for name in found} == {"restored", "stride4"}
    assert restoration.scores({}) == {}
