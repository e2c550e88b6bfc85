"""How a view looks: corruptions of intensity that move no tissue, batched and on any device.

Every function takes (B, C, *S) and parameters per sample, returns a new tensor and draws nothing but
`draw_noise`. Strength zero leaves a sample bit for bit as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foveate.core.rng import torch_stream
from foveate.views.banded import apply_along_axes, gaussian_matrices, gaussian_radius

SMALLEST_DEVIATION = 1e-4  # of images in [0, 1]: below one step of a 12-bit scan, so only constants meet it
GREY_IMAGENET = (0.449, 0.226)  # mean and standard deviation of ImageNet, averaged over its colours


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur every sample with its own Gaussian, as `scipy.ndimage.gaussian_filter(mode="nearest")` does.

    Args:
        images: (B, C, *S).
        sigmas: (B, n) on the CPU, in voxels; a sample whose sigmas are all 0 is left alone.
    """
    rows = sigmas.amax(1).gt(0).nonzero()[:, 0]
    if not len(rows):
        return images
    there = rows.to(images.device)
    matrices = [_blur_matrices(images, sigmas[rows, i], images.shape[i + 2]) for i in range(sigmas.shape[1])]
    return images.index_copy(0, there, apply_along_axes(images.index_select(0, there), matrices))


def draw_noise(images: Tensor, index: Sequence[int], *, seed: int, purpose: str) -> Tensor:
    """Standard normal noise of the shape, device and dtype of `images`, from one stream per sample."""
    noise = torch.empty_like(images)
    for row, i in zip(noise, index, strict=True):
        row.normal_(generator=torch_stream(images.device, seed, purpose, i))
    return noise


def add_noise(images: Tensor, noise: Tensor, stds: Tensor) -> Tensor:
    """Add noise of standard deviation `stds` (B,)."""
    return torch.addcmul(images, noise, _per_sample(stds, images))


def scale_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply every sample by its factor (B,); values are not clipped."""
    return images * _per_sample(factors, images)


def scale_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Stretch every sample about its mean by its factor (B,); values are not clipped."""
    factor = _per_sample(factors, images)
    return images * factor + (1 - factor) * _mean(images)


def apply_gamma(images: Tensor, log_gammas: Tensor) -> Tensor:
    """Raise values, clamped to at least 0, to the power exp(`log_gammas`) (B,)."""
    exponent = _per_sample(log_gammas.exp(), images)
    return torch.where(exponent == 1, images, images.clamp_min(0) ** exponent)


def standardise(images: Tensor) -> Tensor:
    """Zero mean and unit variance per sample, over channels and space.

    The deviation is held above `SMALLEST_DEVIATION`: a constant image becomes 0, not noise or NaN.
    """
    centred = images - _mean(images)
    variance = centred.square().mean(tuple(range(1, images.ndim)), keepdim=True)
    return centred / variance.sqrt().clamp_min(SMALLEST_DEVIATION)


def rescale(images: Tensor, mean: float, std: float) -> Tensor:
    """Subtract a fixed mean and divide by a fixed deviation."""
    return (images - mean) / std


def _blur_matrices(images: Tensor, sigmas: Tensor, size: int) -> Tensor:
    radius = gaussian_radius(float(sigmas.max()))  # read on the CPU: no wait for the device
    return gaussian_matrices(sigmas.to(images.device), radius, size).to(images.dtype)


def _mean(images: Tensor) -> Tensor:
    return images.mean(tuple(range(1, images.ndim)), keepdim=True)


def _per_sample(values: Tensor, images: Tensor) -> Tensor:
    """Parameters (B,) shaped to broadcast over (B, C, *S)."""
    return values.to(images).reshape(-1, *[1] * (images.ndim - 1))
