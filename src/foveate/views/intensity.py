"""How a view looks: corruptions of intensity that move no tissue, batched and on any device.

Every function takes (B, C, *S) and parameters per sample, returns a new tensor and draws nothing; only
`draw_noise` and `draw_bezier` draw. Strength zero leaves a sample bit for bit as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.rng import rows_to_draw
from foveate.views.banded import apply_along_axes, gaussian_bands, gaussian_weights, whole

SMALLEST_DEVIATION = 1e-4  # of images in [0, 1]: below one step of a 12-bit scan, so only constants meet it
OF_IMAGE = (0.7, 0.1)  # mean and deviation of the foreground with `prepare.window: foreground`, exactly
OF_DATASET = (0.5, 0.2)  # of labelled voxels between their percentiles 0.5 and 99.5, about: 0.19 if normal
GREY_IMAGENET = (0.449, 0.226)  # mean and standard deviation of ImageNet, averaged over its colours


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur every sample with its own Gaussian, as `scipy.ndimage.gaussian_filter(mode="nearest")` does.

    Args:
        images: (B, C, *S).
        sigmas: (B, n) on the CPU, in voxels; a sample whose sigmas are all 0 is left alone.
    """
    return blur(images, blur_kernels(sigmas))


def blur_kernels(sigmas: Tensor) -> dict[str, Tensor]:
    """The rows (R,) of sigmas (B, n) that are not all 0, and their kernels (R, taps) along each axis.

    Made on the CPU, as their number and length decide the shapes of what follows; none where none is blurred.
    """
    rows = sigmas.amax(1).gt(0).nonzero()[:, 0]
    if not len(rows):
        return {}
    axes = (gaussian_weights(sigmas[rows, i].double().numpy()) for i in range(sigmas.shape[1]))
    return {"blur_rows": rows, **{f"blur_{i}": torch.from_numpy(w) for i, w in enumerate(axes)}}


def blur(images: Tensor, kernels: Mapping[str, Tensor]) -> Tensor:
    """Filter the samples that have kernels, see `blur_kernels`."""
    if "blur_rows" not in kernels:
        return images
    axes = enumerate(images.shape[2:])
    bands = [gaussian_bands(kernels[f"blur_{i}"].to(images), size) for i, size in axes]
    rows = kernels["blur_rows"].to(images.device)
    if len(rows) == len(images):
        return apply_along_axes(images, bands)
    return images.index_copy(0, rows, apply_along_axes(images.index_select(0, rows), bands))


def draw_noise(images: Tensor, index: Sequence[int], *, seed: int, purpose: str, together: int = 1) -> Tensor:
    """Standard normal noise of the shape, device and dtype of `images`, see `rows_to_draw`."""
    noise = torch.empty_like(images)
    for rows, generator in rows_to_draw(noise, seed, purpose, index, together):
        rows.normal_(generator=generator)
    return noise


def add_noise(images: Tensor, noise: Tensor, stds: Tensor) -> Tensor:
    """Add noise of standard deviation `stds` (B,)."""
    return torch.addcmul(images, noise, _per_sample(stds, images))


def scale_intensities(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Multiply every sample by its brightness (B,), then stretch it about its mean by its contrast (B,).

    In one pass, as both are linear; values are not clipped.
    """
    about = _mean(images) * _per_sample(brightness * (1 - contrast), images)
    return torch.addcmul(about, images, _per_sample(brightness * contrast, images))


def lower_resolution(images: Tensor, sizes: Tensor, rows: Tensor) -> Tensor:
    """Keep the nearest voxels of a coarser grid, and go back to the size of before, linearly.

    Whole numbers decide which voxels those are: every device takes the same.

    Args:
        images: (B, C, *S).
        sizes: (R, n) voxels along each axis of the coarser grids, 1 to those of S.
        rows: (R,) samples that they are for: the others are left alone.
    """
    if not len(rows):
        return images
    there = rows.to(images.device)
    found = images.index_select(0, there)
    for axis, size in enumerate(images.shape[2:]):
        coarse = sizes.to(images.device)[:, axis, None]
        double = 2 * torch.arange(size, device=images.device) + 1
        place = (double * coarse - size).clamp_min(0).minimum(2 * size * (coarse - 1))
        left = place // (2 * size)
        shares = (place % (2 * size)) / (2 * size)
        ends = []
        for cell in (left, (left + 1).minimum(coarse - 1)):
            source = (2 * cell + 1) * size // (2 * coarse)
            ends.append(found.gather(axis + 2, _along(source, axis, found).expand_as(found)))
        found = torch.lerp(ends[0], ends[1], _along(shares.to(found.dtype), axis, found))
    return images.index_copy(0, there, found)


def _along(values: Tensor, axis: int, images: Tensor) -> Tensor:
    """Values (R, size) as (R, 1, ..., size, ..., 1), which go along an axis of images."""
    return values.view(len(values), *(s if a == axis + 1 else 1 for a, s in enumerate(images.shape[1:])))


def apply_gamma(images: Tensor, log_gammas: Tensor, *, some_off: bool = True) -> Tensor:
    """Raise values, clamped to at least 0, to the power exp(`log_gammas`) (B,).

    A sample whose number is 0 is left alone; that there is one must be known on the host (`some_off`).
    """
    exponent = _per_sample(log_gammas.exp(), images)
    raised = images.clamp_min(0).pow_(exponent)
    return torch.where(exponent == 1, images, raised) if some_off else raised


def bezier_table(points: NDArray[np.float64], entries: int = 256) -> NDArray[np.float64]:
    """A curve from (0, 0) to (1, 1) as its values at evenly spaced x: cubic Bezier, rising everywhere.

    Both coordinates of the curve rise with its parameter because the control points lie in the unit square.

    Args:
        points: the two control points (2, 2), each (x, y) in [0, 1].
        entries: of the table.
    """
    t = np.linspace(0, 1, 4 * entries)[:, None]
    curve = 3 * t * (1 - t) ** 2 * points[0] + 3 * t**2 * (1 - t) * points[1] + t**3
    return np.asarray(np.interp(np.linspace(0, 1, entries), curve[:, 0], curve[:, 1]))


def draw_bezier(rng: np.random.Generator, strength: float, falling: float) -> NDArray[np.float64]:
    """A random curve: control points between the straight line (strength 0) and anywhere (strength 1)."""
    straight = np.array([[1 / 3, 1 / 3], [2 / 3, 2 / 3]])
    table = bezier_table(straight + strength * (rng.uniform(0, 1, (2, 2)) - straight))
    return 1 - table if rng.uniform() < falling else table


def apply_curves(images: Tensor, tables: Tensor, rows: Tensor) -> Tensor:
    """Map values, clamped to [0, 1], through the curve of their sample, linearly between table entries.

    Args:
        images: (B, C, *S).
        tables: (R, K) values of the curves at K evenly spaced places from 0 to 1.
        rows: (R,) samples that they are for: the others are left alone.
    """
    if not len(rows):
        return images
    there, table = rows.to(images.device), tables.to(images)
    place = images.index_select(0, there).flatten(1).clamp(0, 1) * (table.shape[1] - 1)
    left = place.floor().clamp_max(table.shape[1] - 2)
    index, share = left.long(), place - left
    mapped = torch.lerp(table.gather(1, index), table.gather(1, index + 1), share)
    return images.index_copy(0, there, mapped.reshape(len(rows), *images.shape[1:]))


def bias_terms(axes: int, order: int = 3) -> list[tuple[int, ...]]:
    """Exponents of the monomials of a polynomial field, without the constant.

    >>> bias_terms(1)
    [(1,), (2,), (3,)]
    """
    return [e for e in product(range(order + 1), repeat=axes) if 0 < sum(e) <= order]


def apply_bias_field(images: Tensor, coefficients: Tensor) -> Tensor:
    """Multiply by exp(polynomial of the place), the place running from -1 to 1 along each axis.

    Args:
        images: (B, C, *S).
        coefficients: (B, K), one for each of `bias_terms`; all 0 is the identity.
    """
    shape, n = images.shape[2:], images.ndim - 2
    terms = bias_terms(n)
    size = 1 + max(map(max, terms))
    cube = images.new_zeros(len(images), 1, *[size] * n)
    for term, column in zip(terms, coefficients.T, strict=True):
        cube.permute(*range(2, n + 2), 0, 1)[term] = column.to(images)[:, None]
    powers = torch.arange(size, device=images.device)
    lines = [torch.linspace(-1, 1, s, device=images.device, dtype=images.dtype) for s in shape]
    bands = [whole((line[:, None] ** powers).expand(len(images), -1, -1)) for line in lines]
    return images * apply_along_axes(cube, bands).exp()


def standardise(images: Tensor) -> Tensor:
    """Zero mean and unit variance per sample, over channels and space.

    The deviation is held above `SMALLEST_DEVIATION`: a constant image becomes 0, not noise or NaN.
    """
    centred = images - _mean(images)
    variance = centred.square().mean(tuple(range(1, images.ndim)), keepdim=True)
    return centred / variance.sqrt().clamp_min(SMALLEST_DEVIATION)


def rescale(images: Tensor, mean: float, std: float) -> Tensor:
    """Subtract a fixed mean and divide by a fixed deviation."""
    return torch.add(images.new_full((), -mean / std), images, alpha=1 / std)  # in one pass


def _mean(images: Tensor) -> Tensor:
    return images.mean(tuple(range(1, images.ndim)), keepdim=True)


def _per_sample(values: Tensor, images: Tensor) -> Tensor:
    """Parameters (B,) shaped to broadcast over (B, C, *S)."""
    return values.to(images).reshape(-1, *[1] * (images.ndim - 1))
