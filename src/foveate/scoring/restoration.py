"""How well pictures are restored, and whether more than their coarse shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 7  # voxels, less where a view is smaller


def scores(pictures: Mapping[str, Tensor]) -> dict[str, float]:
    """PSNR, SSIM and detail of every picture against the one called "clean", means over samples."""
    if "clean" not in pictures:
        return {}
    clean = pictures["clean"].float()
    found: dict[str, float] = {}
    for title, picture in pictures.items():
        image = picture.float()
        if title == "clean" or image.shape != clean.shape or not comparable(image, clean):
            continue
        name = title.replace("from 1/", "stride")
        found[f"restoration/{name}/psnr"] = float(psnr(image, clean).mean())
        found[f"restoration/{name}/ssim"] = float(ssim(image, clean).mean())
        found[f"restoration/{name}/detail"] = detail(image, clean)
    return found


def comparable(image: Tensor, clean: Tensor) -> bool:
    """Whether a picture is in the units of the clean one: a z-scored input beside a view in [0, 1] is not."""
    width = float(clean.max() - clean.min())
    return (
        float(image.min()) >= float(clean.min()) - width and float(image.max()) <= float(clean.max()) + width
    )


def span(clean: Tensor) -> Tensor:
    """Largest less smallest value of every sample (B,)."""
    flat = clean.flatten(1)
    return (flat.amax(1) - flat.amin(1)).clamp_min(1e-6)


def psnr(image: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB (B,); the peak is the clean sample's own range."""
    error = (image - clean).square().flatten(1).mean(1).clamp_min(1e-12)
    return 10 * torch.log10(span(clean).square() / error)


def ssim(image: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity (B,); values are taken against the clean sample's own range."""
    from monai.metrics.regression import compute_ssim_and_cs

    shape = (-1, *[1] * (clean.ndim - 1))
    low, wide = clean.flatten(1).amin(1).view(shape), span(clean).view(shape)
    window = [min(SSIM_WINDOW, n) for n in clean.shape[2:]]
    sigma = [1.5] * len(window)
    full, _ = compute_ssim_and_cs(
        (image - low) / wide, (clean - low) / wide, len(window), kernel_size=window, kernel_sigma=sigma
    )
    return full.flatten(1).mean(1)  # type: ignore[no-any-return]


def detail(image: Tensor, clean: Tensor) -> float:
    """Share of the clean picture's fine structure that the other one holds, by regression of its high band.

    1 for the clean picture itself and 0 for any smooth one; structure of its own adds nothing.
    """
    ours, wanted = high_band(image), high_band(clean)
    return float((ours * wanted).sum() / wanted.square().sum().clamp_min(1e-12))


def high_band(image: Tensor) -> Tensor:
    """What a mean over 3 voxels along every axis takes away."""
    low = image
    for axis in range(2, image.ndim):
        moved = low.transpose(axis, -1)
        ends = moved.flatten(0, -2)[:, None]
        smooth = F.avg_pool1d(F.pad(ends, (1, 1), mode="replicate"), 3, stride=1)
        low = smooth[:, 0].view(moved.shape).transpose(axis, -1)
    return image - low
