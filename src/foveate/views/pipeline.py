"""From a volume to clean views, and from clean views to corrupted ones.

`make_views` runs in a loader worker: it draws boxes and affines, reads one window a view and samples once.
`corrupt` runs on the device, on batches. Every draw has a stream of its own, keyed by the global sample
index: a sample does not depend on its batch, nor one operation on whether another is on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.contracts import CropViews, VolumeReader
from foveate.core.rng import stream
from foveate.core.types import CropSpec, FoveateError, Normalisation
from foveate.views import intensity
from foveate.views.boxes import Box, draw_boxes
from foveate.views.corrupt import cut_out, draw_holes, draw_swaps, swap_map, swap_patches
from foveate.views.geometry import low_pass_margin, relative_to, sample, view_affine, window_of


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """How clean views in [0, 1] are corrupted, in the order of the fields; the defaults change nothing.

    Attributes:
        blur_sigma: range of the Gaussian blur's sigma in voxels, drawn per axis.
        blur_probability: share of the views that are blurred.
        noise_std: range of the standard deviation of the Gaussian noise that is added.
        brightness: half-range b of a factor from [1 - b, 1 + b] on all values; 0 is off.
        contrast: half-range c of a factor from [1 - c, 1 + c] about the mean of the view; 0 is off.
        log_gamma: range of the logarithm of the exponent that values are raised to.
        swap_patch: size in voxels of the patches that change places; empty is off.
        swap_count: number of swaps of two patches, one after the other; 0 is off.
        swap_overlaps: let patches overlap in part, which loses voxels, as the published code does.
        normalisation: zscore per view, imagenet (fixed grey mean and deviation), or none.
        cutout_size: size in voxels of the boxes that are set to 0 after normalisation; empty is off.
        cutout_count: number of such boxes; 0 is off.
    """

    blur_sigma: tuple[float, float] = (0.0, 0.0)
    blur_probability: float = 1.0
    noise_std: tuple[float, float] = (0.0, 0.0)
    brightness: float = 0.0
    contrast: float = 0.0
    log_gamma: tuple[float, float] = (0.0, 0.0)
    swap_patch: tuple[int, ...] = ()
    swap_count: int = 0
    swap_overlaps: bool = False
    normalisation: Normalisation = "none"
    cutout_size: tuple[int, ...] = ()
    cutout_count: int = 0


def make_views(
    volume: VolumeReader, index: int, *, specs: Mapping[str, CropSpec], seed: int
) -> dict[str, CropViews]:
    """Draw the geometry of global sample `index` and sample its views, and the volume's maps with them.

    Raises:
        FoveateError: when the volume is too small for a crop.
    """
    views: dict[str, CropViews] = {}
    around = {s.around for s in specs.values() if s.around}
    places = {key: volume.places(key) for key in around}
    measure = partial(share_above, volume)
    drawn = draw_boxes(volume.shape, specs, seed=seed, index=index, places=places, measure=measure)
    for name, boxes in drawn.items():
        spec = specs[name]
        affines = draw_affines(boxes, name, spec, volume.spacing_mm, seed=seed, index=index)
        images = torch.stack([read_view(volume, affine, spec.grid) for affine in affines])
        maps = {
            key: torch.stack([read_map_view(volume, key, affine, spec.grid) for affine in affines])
            for key in volume.map_names
        }
        views[name] = CropViews(images.clamp_(0, 1), torch.stack(affines).float(), maps)
    return {name: views[name] for name in specs}


def share_above(volume: VolumeReader, box: Box, threshold: float) -> float:
    """The share of a box's own voxels, padding left out, with a value above the threshold."""
    low = [max(0, start) for start in box.low]
    high = [min(end, size) for end, size in zip(box.high, volume.shape, strict=True)]
    values = volume.read(low, high)
    return np.count_nonzero(values > threshold) / values.size  # faster than the mean of booleans


def missed_tissue(
    volume: VolumeReader, index: int, *, specs: Mapping[str, CropSpec], seed: int
) -> tuple[int, int]:
    """Boxes of a global sample that break their tissue rule for want of a better one, and all with one."""
    measure = partial(share_above, volume)
    boxes = draw_boxes(volume.shape, specs, seed=seed, index=index, measure=measure)
    rules = [(specs[name].tissue, box) for name, drawn in boxes.items() for box in drawn]
    missed = (rule.shortfall(measure(box, rule.threshold)) > 0 for rule, box in rules if not rule.accepts_all)
    return sum(missed), sum(not rule.accepts_all for rule, _ in rules)


def draw_affines(
    boxes: Sequence[Box], name: str, spec: CropSpec, spacing_mm: Sequence[float], *, seed: int, index: int
) -> list[Tensor]:
    """One float64 affine per box, with the flips, rotations and zooms of the crop."""
    count, n = len(boxes), len(spec.grid)

    def draw(purpose: str, low: float, high: float, width: int) -> NDArray[np.float64]:
        return stream(seed, f"{purpose}/{name}", index).uniform(low, high, (count, width))

    flips = (draw("flip", 0, 1, n) < spec.flip_probability) & np.isin(np.arange(n), spec.flip_axes)
    angles = draw("rotation", -spec.rotation_degrees, spec.rotation_degrees, n * (n - 1) // 2)
    zooms = draw("zoom", 1 - spec.zoom, 1 + spec.zoom, n)
    return [
        view_affine(b.low, b.high, spec.grid, flips=f, angles_degrees=a, zooms=z, spacing_mm=spacing_mm)
        for b, f, a, z in zip(boxes, flips.tolist(), angles.tolist(), zooms.tolist(), strict=True)
    ]


def read_view(volume: VolumeReader, affine: Tensor, grid: Sequence[int]) -> Tensor:
    """Read the one window that a view needs and sample it: (C, *grid) float32."""
    low, high = window_of(affine, grid, low_pass_margin(affine), volume.shape)
    return sample(torch.from_numpy(volume.read(low, high)), relative_to(affine, low), grid)


def read_map_view(volume: VolumeReader, name: str, affine: Tensor, grid: Sequence[int]) -> Tensor:
    """The map `name` seen through the same affine, nearest and never filtered: (*grid) int64."""
    low, high = window_of(affine, grid, [0] * len(grid), volume.shape)
    window = torch.from_numpy(volume.read_map(name, low, high).astype(np.int64))
    return sample(window[None], relative_to(affine, low), grid, "nearest")[0]


def normalise(images: Tensor, how: Normalisation) -> Tensor:
    """Normalise (B, C, *S) by the named rule.

    Raises:
        FoveateError: when there is no such rule.
    """
    match how:
        case "none":
            return images
        case "zscore":
            return intensity.standardise(images)
        case "imagenet":
            return intensity.rescale(images, *intensity.GREY_IMAGENET)
    raise FoveateError(f"normalisation {how!r} is not one of {', '.join(get_args(Normalisation))}.")


def corrupt(clean: Tensor, index: Tensor, config: Appearance, *, seed: int, view: str) -> Tensor:
    """Corrupt clean views: blur, noise, brightness, contrast, gamma, swap, normalise, cut-out.

    Never in place; with everything off the result is the input itself.

    Args:
        clean: (B, C, *S) with values in [0, 1]; half precision is worked on and returned as float32.
        index: (B,) global sample indices, the keys of all draws.
        config: ranges of the draws; what is off costs nothing.
        seed: of the run.
        view: name of the view, so that two views of a sample differ.
    """
    draw = Draws(index=tuple(index.tolist()), seed=seed, view=view)
    images = clean.to(torch.promote_types(clean.dtype, torch.float32))
    with torch.no_grad(), torch.autocast(clean.device.type, enabled=False):
        images = corrupt_intensity(images, draw, config)
        if config.swap_count and config.swap_patch:
            images = swap_patches(images, draw.swap_maps(images.shape[2:], config))
        images = normalise(images, config.normalisation)
        if config.cutout_count and config.cutout_size:
            images = cut_out(images, draw.hole_masks(images.shape[2:], config))
    return images


def corrupt_intensity(images: Tensor, draw: Draws, config: Appearance) -> Tensor:
    """The operations of `corrupt` that move nothing, in its order."""
    if any(config.blur_sigma) and config.blur_probability:
        sigmas = draw.uniform("blur", config.blur_sigma, images.ndim - 2)
        blurred = draw.uniform("blur_probability", (0, 1), 1) < config.blur_probability
        images = intensity.gaussian_blur(images, sigmas * blurred)
    if any(config.noise_std):
        noise = intensity.draw_noise(images, draw.index, seed=draw.seed, purpose=draw.purpose("noise"))
        images = intensity.add_noise(images, noise, draw.uniform("noise_std", config.noise_std)[:, 0])
    if half := config.brightness:
        images = intensity.scale_brightness(images, draw.uniform("brightness", (1 - half, 1 + half))[:, 0])
    if half := config.contrast:
        images = intensity.scale_contrast(images, draw.uniform("contrast", (1 - half, 1 + half))[:, 0])
    if any(config.log_gamma):
        images = intensity.apply_gamma(images, draw.uniform("gamma", config.log_gamma)[:, 0])
    return images


def corrupt_views(clean: Tensor, index: Tensor, config: Appearance, *, seed: int, name: str) -> Tensor:
    """`corrupt` for every view of every sample (B, V, C, *S), each under draws of its own."""
    count = clean.shape[1]
    keys = index[:, None] * count + torch.arange(count, device=index.device)  # (B, V)
    corrupted = corrupt(clean.flatten(0, 1), keys.flatten(), config, seed=seed, view=name)
    return corrupted.reshape(*clean.shape)


def with_channels(views: Tensor, channels: int) -> Tensor:
    """Views (B, V, C, *S) for an encoder of `channels` channels: grey ones are repeated."""
    found = views.shape[2]
    if found == channels:
        return views
    if found != 1:
        raise FoveateError(f"encoder.in_channels {channels}: the images have {found}; accepted: {found}.")
    return views.expand(-1, -1, channels, *views.shape[3:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """The streams of one view of a batch: one per operation and sample."""

    index: tuple[int, ...]
    seed: int
    view: str

    def purpose(self, operation: str) -> str:
        """Name of the streams of an operation."""
        return f"{self.view}/{operation}"

    def stream(self, operation: str, index: int) -> np.random.Generator:
        """The stream of one sample."""
        return stream(self.seed, self.purpose(operation), index)

    def uniform(self, operation: str, limits: tuple[float, float], width: int = 1) -> Tensor:
        """Uniform parameters (B, width), float64 on the CPU."""
        return torch.from_numpy(
            np.stack([self.stream(operation, i).uniform(*limits, size=width) for i in self.index])
        )

    def swap_maps(self, shape: Sequence[int], config: Appearance) -> Tensor:
        """Index maps (B, *S) of the patch swap."""
        patch, count, overlaps = config.swap_patch, config.swap_count, config.swap_overlaps
        streams = (self.stream("swap", i) for i in self.index)
        maps = [
            swap_map(shape, patch, draw_swaps(rng, shape, patch, count, overlaps=overlaps)) for rng in streams
        ]
        return torch.from_numpy(np.stack(maps))

    def hole_masks(self, shape: Sequence[int], config: Appearance) -> Tensor:
        """Masks (B, *S) of the cut-out."""
        masks = [
            draw_holes(self.stream("cutout", i), shape, config.cutout_size, config.cutout_count)
            for i in self.index
        ]
        return torch.from_numpy(np.stack(masks))
