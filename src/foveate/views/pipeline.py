"""From a volume to clean views, and from clean views to corrupted ones.

`make_views` runs in a loader worker: it draws boxes and affines, reads one window a view and samples once.
`corrupted_crop` runs on the device, on batches, as an `Appearance` says, with what the workers drew for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.codes import Codes
from foveate.core.contracts import CropViews, VolumeReader
from foveate.core.rng import rows_to_draw, stream
from foveate.core.types import Batch, CropSpec, FoveateError, Normalisation
from foveate.views import intensity
from foveate.views.appearance import Appearance, CropLook, Draws, view_keys
from foveate.views.boxes import Box, draw_boxes, union_box
from foveate.views.corrupt import cut_out, moved_voxels, paint, shuffle_maps, swap_patches
from foveate.views.drawn import drawn, on_device
from foveate.views.geometry import (
    Window,
    linear_windows,
    relative_to,
    sample,
    sample_views,
    view_affine,
    window_of,
)
from foveate.views.places import seen_by

Parameters = Mapping[str, Tensor]  # see `Draws.parameters`


def make_views(
    volume: VolumeReader, index: int, *, specs: Mapping[str, CropSpec], seed: int
) -> dict[str, CropViews]:
    """Draw the geometry of global sample `index` and sample its views, and the volume's maps with them.

    A volume that is cut into slices gives one of them.

    Raises:
        FoveateError: when the volume is too small for a crop.
    """
    views: dict[str, CropViews] = {}
    volume, places, cut, focus = seen_by(volume, index, specs=specs, seed=seed)
    measure = partial(share_above, volume)
    drawn = draw_boxes(
        volume.shape, specs, seed=seed, index=index, places=places, focus=focus, measure=measure
    )
    affines = {
        name: draw_affines(boxes, name, specs[name], volume.spacing_mm, seed=seed, index=index)
        for name, boxes in drawn.items()
    }
    windows = {name: linear_windows(each, specs[name].grid, volume.shape) for name, each in affines.items()}
    reader = read_together(volume, [window for each in windows.values() for window in each])
    for name, each in affines.items():
        grid = specs[name].grid
        images = read_views(reader, each, grid, windows[name])
        maps = {
            key: torch.stack([read_map_view(volume, key, affine, grid) for affine in each])
            for key in volume.map_names
        }
        views[name] = CropViews(images.clamp_(0, 1), each.float(), maps, cut)
    return {name: views[name] for name in specs}


def share_above(volume: VolumeReader, box: Box, threshold: float) -> float:
    """The share of a box's own voxels, padding excluded, with a value above the threshold."""
    low = [max(0, start) for start in box.low]
    high = [min(end, size) for end, size in zip(box.high, volume.shape, strict=True)]
    return volume.codes(low, high).share_above(threshold)


def missed_tissue(
    volume: VolumeReader, index: int, *, specs: Mapping[str, CropSpec], seed: int
) -> tuple[int, int]:
    """Boxes of a global sample that break their tissue rule for want of a better one, and all with one."""
    volume = seen_by(volume, index, specs=specs, seed=seed).image
    measure = partial(share_above, volume)
    boxes = draw_boxes(volume.shape, specs, seed=seed, index=index, measure=measure)
    rules = [(specs[name].tissue, box) for name, drawn in boxes.items() for box in drawn]
    missed = (rule.shortfall(measure(box, rule.threshold)) > 0 for rule, box in rules if not rule.accepts_all)
    return sum(missed), sum(not rule.accepts_all for rule, _ in rules)


def draw_affines(
    boxes: Sequence[Box], name: str, spec: CropSpec, spacing_mm: Sequence[float], *, seed: int, index: int
) -> Tensor:
    """One float64 affine per box, with the flips, rotations and zooms of the crop: (V, n, n+1)."""
    count, n = len(boxes), len(spec.grid)

    def draw(purpose: str, low: float, high: float, width: int) -> NDArray[np.float64]:
        if low == high:
            return np.full((count, width), low)  # no other draw depends on this one
        return stream(seed, f"{purpose}/{name}", index).uniform(low, high, (count, width))

    flips = (draw("flip", 0, 1, n) < spec.flip_probability) & [axis in spec.flip_axes for axis in range(n)]
    angles = draw("rotation", -spec.rotation_degrees, spec.rotation_degrees, n * (n - 1) // 2)
    zooms = draw("zoom", 1 - spec.zoom, 1 + spec.zoom, 1 if spec.zoom_axes == "together" else n)
    zooms = np.broadcast_to(zooms, (count, n))
    sizes = np.array([box.size for box in boxes])
    moves = draw("shift", -spec.shift, spec.shift, n) * sizes
    affines = [
        view_affine(
            (b.low + move).tolist(),
            (b.high + move).tolist(),
            spec.grid,
            flips=f,
            angles_degrees=a,
            zooms=z,
            spacing_mm=spacing_mm,
        )
        for b, move, f, a, z in zip(
            boxes, moves, flips.tolist(), angles.tolist(), zooms.tolist(), strict=True
        )
    ]
    return torch.stack(affines)


@final
class Region:
    """A part of a volume in memory, read in the volume's own indices."""

    def __init__(self, volume: VolumeReader, box: Box) -> None:
        self.shape, self.low = volume.shape, box.low
        self.whole = volume.codes(box.low, box.high).addable()  # once for all windows

    def codes(self, low: Sequence[int], high: Sequence[int]) -> Codes:
        """The window [low, high), where it lies."""
        first, end = (
            [a - start for a, start in zip(corner, self.low, strict=True)] for corner in (low, high)
        )
        return self.whole.part(first, end)


Reader = VolumeReader | Region


def read_together(volume: VolumeReader, windows: Sequence[Window]) -> Reader:
    """The part of a volume that holds all windows, or the volume itself where reading them apart is less."""
    boxes = [Box(low=low, high=high) for low, high in windows]
    union = union_box(boxes)
    if math.prod(union.size) > sum(math.prod(box.size) for box in boxes):
        return volume
    return Region(volume, union)


def read_views(
    volume: Reader, affines: Tensor, grid: Sequence[int], windows: Sequence[Window] = ()
) -> Tensor:
    """Read the one window of each view, drawn up here unless given, and sample it: (V, C, *grid) float32."""
    windows = windows or linear_windows(affines, grid, volume.shape)
    moved = relative_to(affines, [low for low, _ in windows])
    return sample_views([volume.codes(*window) for window in windows], moved, grid)


def read_map_view(volume: VolumeReader, name: str, affine: Tensor, grid: Sequence[int]) -> Tensor:
    """The map `name` seen through the same affine, nearest and never filtered: (*grid) int64."""
    low, high = window_of(affine.tolist(), grid, [0] * len(grid), volume.shape)
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
        case "image":
            return intensity.rescale(images, *intensity.OF_IMAGE)
        case "dataset":
            return intensity.rescale(images, *intensity.OF_DATASET)
    raise FoveateError(f"normalisation {how!r} is not one of {', '.join(get_args(Normalisation))}.")


def corrupt(
    clean: Tensor, index: Iterable[int], config: Appearance, *, seed: int, view: str, together: int = 1
) -> Tensor:
    """Corrupt clean views, one operation after the other in the order of `Appearance`.

    Never in place; with everything off the result is the input itself.

    Args:
        clean: (B, C, *S) with values in [0, 1]; half precision is worked on and returned as float32.
        index: (B,) global sample indices, the keys of all draws.
        config: ranges of the draws; what is off costs nothing.
        seed: of the run.
        view: name of the view, so that two views of a sample differ.
        together: how many views, one after the other, are of one sample.
    """
    draw = Draws(index=tuple(map(int, index)), seed=seed, view=view, together=together)
    parameters = on_device(draw.parameters(clean.shape[2:], config), clean.device)
    return apply(clean, draw, parameters, config.normalisation)


def apply(clean: Tensor, draw: Draws, parameters: Parameters, how: Normalisation) -> Tensor:
    """The device's part of `corrupt`: what was drawn on the host, and noise and orders drawn in bulk."""
    images = clean.to(torch.promote_types(clean.dtype, torch.float32))
    with torch.no_grad(), torch.autocast(clean.device.type, enabled=False):
        images = apply_context(apply_intensity(images, draw, parameters), draw, parameters)
        images = normalise(images, how)
        return cut_out(images, parameters["cutout"]) if "cutout" in parameters else images


def apply_intensity(images: Tensor, draw: Draws, drawn: Parameters) -> Tensor:
    """The operations of `corrupt` that move nothing, in its order."""
    images = intensity.blur(images, drawn)
    if "noise_std" in drawn:
        noise = intensity.draw_noise(
            images, draw.index, seed=draw.seed, purpose=draw.purpose("noise"), together=draw.together
        )
        images = intensity.add_noise(images, noise, drawn["noise_std"])
    if "brightness" in drawn:
        images = intensity.scale_intensities(images, drawn["brightness"], drawn["contrast"])
    if "low_resolution" in drawn:
        sizes, rows = drawn["low_resolution"], drawn["low_resolution_rows"]
        images = intensity.lower_resolution(images, sizes, rows)
    if "log_gamma" in drawn:
        images = intensity.apply_gamma(images, drawn["log_gamma"], some_off=len(drawn["gamma_off"]) > 0)
    if "bias_field" in drawn:
        images = intensity.apply_bias_field(images, drawn["bias_field"])
    if "bezier" in drawn:
        images = intensity.apply_curves(images, drawn["bezier"], drawn["bezier_rows"])
    return images


def apply_context(images: Tensor, draw: Draws, drawn: Parameters) -> Tensor:
    """The operations of `corrupt` that take voxels from where they belong, in its order."""
    if "shuffle_window" in drawn:
        images = swap_patches(images, shuffle_orders(images, draw, drawn))
    if "paint" in drawn:
        images = paint(images, drawn["paint"], drawn["paint_value"])
    if "swap" in drawn:
        images = swap_patches(images, drawn["swap"])
    return images


def shuffle_orders(images: Tensor, draw: Draws, drawn: Parameters) -> Tensor:
    """Index maps (B, *S) of the local shuffling, whose tickets and orders are drawn on the device."""
    tickets, order = images.new_empty(2, len(images), *images.shape[2:])
    for name, bulk in (("shuffle_ticket", tickets), ("shuffle_order", order)):
        purpose = draw.purpose(name)
        for rows, generator in rows_to_draw(bulk, draw.seed, purpose, draw.index, draw.together):
            rows.uniform_(generator=generator)
    windows, offsets = drawn["shuffle_window"], drawn["shuffle_offset"]
    return shuffle_maps(windows, offsets, drawn["shuffle_share"], tickets, order)


def corrupt_views(clean: Tensor, index: Iterable[int], config: Appearance, *, seed: int, name: str) -> Tensor:
    """`corrupt` for every view of every sample (B, V, C, *S), each under draws of its own."""
    keys = view_keys(index, clean.shape[1])
    count = clean.shape[1]
    made = corrupt(clean.flatten(0, 1), keys, config, seed=seed, view=name, together=count)
    return made.reshape(*clean.shape)


def corrupted_crop(batch: Batch, name: str, look: Appearance, *, channels: int, seed: int) -> Tensor:
    """The corrupted views (B, V, C, *S) of one kind of crop, for an encoder of `channels` channels."""
    clean = with_channels(batch["crops"][name], channels)
    parameters = drawn(batch, CropLook(crop=name, appearance=look), seed, clean.device)
    count = clean.shape[1]
    draw = Draws(index=view_keys(batch["index"], count), seed=seed, view=name, together=count)
    return apply(clean.flatten(0, 1), draw, parameters, look.normalisation).reshape(*clean.shape)


def moved_by(batch: Batch, name: str, look: Appearance, *, seed: int) -> Tensor:
    """Where the swaps of `corrupted_crop` moved voxels: bool (B * V, *S)."""
    here = batch["crops"][name].device
    return moved_voxels(drawn(batch, CropLook(crop=name, appearance=look), seed, here)["swap"])


def with_channels(views: Tensor, channels: int) -> Tensor:
    """Views (B, V, C, *S) for an encoder of `channels` channels: grey ones are repeated."""
    found = views.shape[2]
    if found == channels:
        return views
    if found != 1:
        raise FoveateError(f"encoder.in_channels {channels}: the images have {found}; accepted: {found}.")
    return views.expand(-1, -1, channels, *views.shape[3:])
