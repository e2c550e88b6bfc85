"""How views are corrupted: what can be said, what every method starts from, and what is drawn on the host.

What is applied to the views, and on which device, is in `pipeline`. Every draw has a stream of its own, keyed
by the global sample index: a sample does not depend on its batch, nor one operation on whether another is on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.contracts import Draw
from foveate.core.rng import stream, uniforms
from foveate.core.types import Batch, Normalisation
from foveate.views.corrupt import (
    draw_holes,
    draw_sized_swaps,
    draw_sizes,
    draw_swaps,
    draw_windows,
    swap_map,
)
from foveate.views.intensity import bias_terms, blur_kernels, draw_bezier


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """How clean views in [0, 1] are corrupted, in the order of the fields; the defaults change nothing.

    Attributes:
        blur_sigma: range of the Gaussian blur's sigma in voxels, drawn per axis.
        blur_probability: share of the views that are blurred.
        noise_std: range of the standard deviation of the Gaussian noise that is added.
        noise_probability: share of the views that get noise.
        brightness: half-range b of a factor from [1 - b, 1 + b] on all values; 0 is off.
        brightness_probability: share of the views whose brightness changes.
        contrast: half-range c of a factor from [1 - c, 1 + c] about the mean of the view; 0 is off.
        low_resolution: range of the share of the voxels along every axis that is kept (the nearest ones)
            before the view is made as large as it was, linearly; (1, 1) is off.
        low_resolution_probability: share of the views that this happens to.
        log_gamma: range of the logarithm of the exponent that values are raised to.
        gamma_probability: share of the views that this happens to.
        bias_field: half-range of the coefficients of log(field), a cubic polynomial of the place; 0 is off.
        bezier_strength: how far a random monotone curve through which values go may leave the straight line,
            1 anywhere in the unit square; 0 is off.
        bezier_probability: share of the views that go through such a curve.
        bezier_falling: share of those whose curve falls, so that dark becomes bright.
        shuffle_window: windows in which voxels change places: largest size, drawn from 2 on; empty is off.
        shuffle_share: range of the share of the windows that are shuffled.
        shuffle_probability: share of the views that are shuffled.
        paint_windows: most boxes that are painted over, or kept by out-painting; 0 is off.
        paint_size: range of their sides, as a share of the view's, when they are painted over.
        paint_kept_size: range of their sides when all but them is painted over.
        paint_outside: share of the painted views that are painted outside of the boxes.
        paint_probability: share of the views that are painted.
        swap_patch: size in voxels of the patches that change places; empty is off.
        swap_patch_largest: sizes are drawn per swap and axis from `swap_patch` to this; empty: one size.
        swap_count: number of swaps of two patches, one after the other; 0 is off.
        swap_overlaps: let patches overlap in part, which loses voxels, as the published code does.
        normalisation: zscore per view, imagenet (fixed grey mean and deviation), or none; by the foreground
            of the whole image, `image` (with `prepare.window: foreground`), or of the `dataset` (with
            `prepare.window: dataset`).
        cutout_size: size in voxels of the boxes that are set to 0 after normalisation; empty is off.
        cutout_count: number of such boxes; 0 is off.
    """

    blur_sigma: tuple[float, float] = (0.0, 0.0)
    blur_probability: float = 1.0
    noise_std: tuple[float, float] = (0.0, 0.0)
    noise_probability: float = 1.0
    brightness: float = 0.0
    brightness_probability: float = 1.0
    contrast: float = 0.0
    low_resolution: tuple[float, float] = (1.0, 1.0)
    low_resolution_probability: float = 1.0
    log_gamma: tuple[float, float] = (0.0, 0.0)
    gamma_probability: float = 1.0
    bias_field: float = 0.0
    bezier_strength: float = 0.0
    bezier_probability: float = 1.0
    bezier_falling: float = 0.0
    shuffle_window: tuple[int, ...] = ()
    shuffle_share: tuple[float, float] = (1.0, 1.0)
    shuffle_probability: float = 1.0
    paint_windows: int = 0
    paint_size: tuple[float, float] = (1 / 6, 1 / 3)
    paint_kept_size: tuple[float, float] = (3 / 7, 4 / 7)
    paint_outside: float = 0.0
    paint_probability: float = 1.0
    swap_patch: tuple[int, ...] = ()
    swap_patch_largest: tuple[int, ...] = ()
    swap_count: int = 0
    swap_overlaps: bool = False
    normalisation: Normalisation = "none"
    cutout_size: tuple[int, ...] = ()
    cutout_count: int = 0


# Intensities as PCRLv2 draws them, of volumes and of pictures: global methods are compared under the same.
INTENSITIES = {
    2: Appearance(
        blur_sigma=(0.1, 2.0), blur_probability=0.5, brightness=0.4, contrast=0.4, normalisation="imagenet"
    ),
    3: Appearance(blur_sigma=(0, 2), noise_std=(0, 0.25), log_gamma=(-0.3, 0.3), normalisation="zscore"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """The streams of the views of a batch: one per operation and view.

    Attributes:
        index: Keys of the views.
        seed: Of the run.
        view: The name of the view, or of the kind of the views.
        together: How many, one after the other, are of one sample.
    """

    index: tuple[int, ...]
    seed: int
    view: str
    together: int = 1

    def purpose(self, operation: str) -> str:
        """Name of the streams of an operation."""
        return f"{self.view}/{operation}"

    def stream(self, operation: str, index: int) -> np.random.Generator:
        """The stream of one sample."""
        return stream(self.seed, self.purpose(operation), index)

    def uniform(self, operation: str, limits: tuple[float, float], width: int = 1) -> Tensor:
        """Uniform parameters (B, width), float64 on the CPU."""
        low, high = limits
        purpose = self.purpose(operation)
        drawn = np.array([uniforms(self.seed, purpose, i, width=width) for i in self.index])
        return torch.from_numpy(low + (high - low) * drawn)

    def chosen(self, operation: str, probability: float) -> Tensor:
        """Which samples an operation happens to: bool (B, 1) on the CPU."""
        if probability >= 1:
            return torch.ones(len(self.index), 1, dtype=torch.bool)  # no other draw depends on this one
        return self.uniform(f"{operation}_probability", (0, 1)) < probability

    def parameters(self, shape: Sequence[int], config: Appearance) -> dict[str, Tensor]:
        """All that `corrupt` asks of the host for views (*S), by name; of what is off nothing."""
        found = self.intensities(len(shape), config) | self.contexts(shape, config)
        if min(config.low_resolution) < 1 and config.low_resolution_probability:
            found |= self.coarse_sizes(shape, config)
        return found

    def intensities(self, axes: int, config: Appearance) -> dict[str, Tensor]:
        """Of the operations that move nothing."""
        found: dict[str, Tensor] = {}
        if any(config.blur_sigma) and config.blur_probability:
            sigmas = self.uniform("blur", config.blur_sigma, axes)
            found |= blur_kernels(sigmas * self.chosen("blur", config.blur_probability))
        if any(config.noise_std) and config.noise_probability:
            stds = self.uniform("noise_std", config.noise_std)
            found["noise_std"] = (stds * self.chosen("noise", config.noise_probability))[:, 0]
        if config.brightness or config.contrast:
            found |= self.intensity_factors(config)
        if any(config.log_gamma):
            logs = self.uniform("gamma", config.log_gamma) * self.chosen("gamma", config.gamma_probability)
            found["log_gamma"], found["gamma_off"] = logs[:, 0], (logs[:, 0] == 0).nonzero()[:, 0]
        if half := config.bias_field:
            found["bias_field"] = self.uniform("bias_field", (-half, half), len(bias_terms(axes)))
        if config.bezier_strength:
            rows = self.chosen("bezier", config.bezier_probability)[:, 0].nonzero()[:, 0]
            found["bezier_rows"], found["bezier"] = rows, self.curves(config)[rows]
        return found

    def contexts(self, shape: Sequence[int], config: Appearance) -> dict[str, Tensor]:
        """Of the operations that take voxels from where they belong, and of the cut-out."""
        found: dict[str, Tensor] = {}
        if any(config.shuffle_window) and any(config.shuffle_share):
            found |= self.shuffled_windows(shape, config)
        if config.paint_windows and config.paint_probability:
            found["paint"] = self.painted_masks(shape, config)
            found["paint_value"] = self.uniform("paint_value", (0, 1))[:, 0]
        if config.swap_count and config.swap_patch:
            found["swap"] = self.swap_maps(shape, config)
        if config.cutout_count and config.cutout_size:
            found["cutout"] = self.hole_masks(shape, config)
        return found

    def coarse_sizes(self, shape: Sequence[int], config: Appearance) -> dict[str, Tensor]:
        """The views (R,) that lose resolution, and their voxels along each axis (R, n)."""
        chosen = self.chosen("low_resolution", config.low_resolution_probability)
        rows = chosen[:, 0].nonzero()[:, 0]
        shares = self.uniform("low_resolution", config.low_resolution)[rows]
        sizes = torch.tensor(shape)
        kept = (shares * sizes).round().long().clamp_min(1)
        return {"low_resolution_rows": rows, "low_resolution": torch.minimum(kept, sizes)}

    def intensity_factors(self, config: Appearance) -> dict[str, Tensor]:
        """Brightness and contrast (B,) each."""
        brightness, contrast = (
            self.uniform(name, (1 - half, 1 + half))[:, 0] if half else torch.ones(len(self.index)).double()
            for name, half in (("brightness", config.brightness), ("contrast", config.contrast))
        )
        kept = ~self.chosen("brightness", config.brightness_probability)[:, 0]
        return {"brightness": brightness.masked_fill(kept, 1.0), "contrast": contrast}

    def stacked(self, operation: str, draw: Callable[[np.random.Generator], NDArray[Any]]) -> Tensor:
        """One array per sample, each drawn from the operation's stream of that sample."""
        return torch.from_numpy(np.stack([draw(self.stream(operation, i)) for i in self.index]))

    def curves(self, config: Appearance) -> Tensor:
        """Tables (B, K) of the intensity curves."""
        strength, falling = config.bezier_strength, config.bezier_falling
        return self.stacked("bezier", lambda rng: draw_bezier(rng, strength, falling))

    def swap_maps(self, shape: Sequence[int], config: Appearance) -> Tensor:
        """Index maps (B, *S) of the patch swap, int32."""
        patch, count = config.swap_patch, config.swap_count

        def one(rng: np.random.Generator) -> NDArray[np.int32]:
            if config.swap_patch_largest:
                sizes = draw_sizes(rng, shape, patch, config.swap_patch_largest, count)
                return swap_map(shape, sizes, draw_sized_swaps(rng, shape, sizes))
            return swap_map(shape, patch, draw_swaps(rng, shape, patch, count, overlaps=config.swap_overlaps))

        return self.stacked("swap", one)

    def shuffled_windows(self, shape: Sequence[int], config: Appearance) -> dict[str, Tensor]:
        """Windows and offsets (B, n), shares (B,) of the local shuffling; new orders are drawn in bulk."""
        largest = np.minimum(config.shuffle_window, shape)
        smallest = np.minimum(2, largest)
        windows = self.stacked("shuffle_window", lambda rng: rng.integers(smallest, largest + 1))
        places = self.uniform("shuffle_offset", (0, 1), len(largest))
        shares = self.uniform("shuffle_share", config.shuffle_share)
        shares = shares * self.chosen("shuffle", config.shuffle_probability)
        return {
            "shuffle_window": windows,
            "shuffle_offset": (places * windows).long(),
            "shuffle_share": shares[:, 0],
        }

    def painted_masks(self, shape: Sequence[int], config: Appearance) -> Tensor:
        """Masks (B, *S) of what is painted over, inside the boxes or outside of them."""

        def one(rng: np.random.Generator) -> NDArray[np.bool_]:
            outside = rng.uniform() < config.paint_outside
            sizes = config.paint_kept_size if outside else config.paint_size
            return draw_windows(rng, shape, sizes, config.paint_windows) ^ outside

        chosen = self.chosen("paint", config.paint_probability)
        return self.stacked("paint", one) & chosen.reshape(-1, *[1] * len(shape))

    def hole_masks(self, shape: Sequence[int], config: Appearance) -> Tensor:
        """Masks (B, *S) of the cut-out."""
        size, count = config.cutout_size, config.cutout_count
        return self.stacked("cutout", lambda rng: draw_holes(rng, shape, size, count))


@dataclass(frozen=True, kw_only=True)
class CropLook(Draw):
    """What is drawn for the corrupted views of one kind of crop.

    Attributes:
        crop: The kind, whose name is that of the streams too.
        appearance: How the views are corrupted.
    """

    crop: str
    appearance: Appearance

    def draw(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """The parameters of every view (B * V, ...)."""
        views = batch["crops"][self.crop].shape
        draw = Draws(index=view_keys(batch["index"], views[1]), seed=seed, view=self.crop)
        return draw.parameters(views[3:], self.appearance)


def view_keys(index: Iterable[int], count: int) -> tuple[int, ...]:
    """The keys of the draws of every view (B * count,), from global sample indices (B,)."""
    return tuple(int(i) * count + view for i in index for view in range(count))
