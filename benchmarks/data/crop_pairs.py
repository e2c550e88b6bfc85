"""Crop pairs with sub-crops from the cache, against a nested-loop transcription of the published procedure.

    OMP_NUM_THREADS=1 python benchmarks/data/crop_pairs.py

Both draw two boxes with an IoU of at least 0.3 that keep a tissue rule, and six sub-crops in their union, and
resize all of them. The transcription does it by rejection on the whole volume in memory, counts tissue voxel
by voxel on the resized crop and resizes with scikit-image; ours draws conditionally, reads windows of the
cache, counts on the box's own voxels and resizes by matrices.

Checked first: our resize equals scikit-image's within 1e-6; the IoU of conditional draws has the distribution
of that of rejected ones (Kolmogorov-Smirnov); every pair of ours keeps both rules.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.random import Generator
from scipy import ndimage, stats
from skimage.transform import resize

from foveate.core.codes import Codes
from foveate.core.types import Array, CropSpec, Record, Tissue
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import CachedVolume
from foveate.views.boxes import Box, draw_boxes, draw_position, iou, place
from foveate.views.geometry import box_affine, linear_windows
from foveate.views.pipeline import read_together, read_views, share_above
from timing import line, ratio

SIZES = ((96, 96, 64), (96, 96, 96), (112, 112, 64), (64, 64, 32))
LOCAL_SIZES = ((32, 32, 16), (16, 16, 16), (32, 32, 32), (8, 8, 8))
GRID, LOCAL_GRID = (64, 64, 32), (16, 16, 16)
MOST_TISSUE, TISSUE_HU, LEAST_IOU = 0.15, -150.0, 0.3
BORDER = (70, 70, 15)
SPECS = {
    "global": CropSpec(
        count=2,
        grid=GRID,
        source_sizes=SIZES,
        min_iou=LEAST_IOU,
        tissue=Tissue(threshold=(TISSUE_HU + 1000) / 2000, at_most=MOST_TISSUE),
    ),
    "local": CropSpec(count=6, grid=LOCAL_GRID, source_sizes=LOCAL_SIZES, inside="global"),
}


def phantom(shape: tuple[int, ...]) -> Array:
    """A volume in HU: mostly lung, with islands of tissue, so that some boxes break the rule."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal([n // 16 for n in shape]).astype(np.float32)
    smooth = ndimage.zoom(coarse, [n / (n // 16) for n in shape], order=1)
    tissue = smooth > np.quantile(smooth, 0.92)
    values = np.where(tissue, 40, -820) + rng.normal(0, 40, shape)
    return values.astype(np.int16)


def cached(image: Path, folder: Path) -> CachedVolume:
    """A CT in a cache at 1 mm, window -1000 to 1000 HU, as the published preparation has it."""
    config = PrepareConfig(profile="ct", spacing_mm=(1.0, 1.0, 1.0))
    return prepare([Record(path=image, relative="v")], folder / "cache", config, lambda *_: None)[0]


def in_memory(volume: CachedVolume) -> Array:
    """Its values in HU, whole."""
    entry = volume.entry
    codes = volume.codes((0, 0, 0), volume.shape).array[0]
    return np.asarray((codes * entry.scale + entry.offset).astype(np.float32))


def transcribed_pair(volume: Array, number: int) -> list[Array]:
    """The published procedure, plainly: rejection, triple loops, scikit-image."""
    rng = np.random.default_rng(number)
    while True:
        boxes = [rejected_box(rng, volume.shape) for _ in range(2)]
        if iou(*boxes) < LEAST_IOU:
            continue
        # Three slices more than the grid: the tissue count softens over them.
        crops = [resized(volume, box, (*GRID[:2], GRID[2] + 3)) for box in boxes]
        if all(tissue_share(crop) <= MOST_TISSUE for crop in crops):
            break
    union = [
        range(min(a) - 3, max(b) + 3)
        for a, b in zip(
            zip(*(box.low for box in boxes), strict=True),
            zip(*(box.high for box in boxes), strict=True),
            strict=True,
        )
    ]
    locals_ = [resized(volume, local_box(rng, union, volume.shape), LOCAL_GRID) for _ in range(6)]
    return [crop[:, :, : GRID[2]] for crop in crops] + locals_


def rejected_box(rng: Generator, shape: tuple[int, ...]) -> Box:
    """A size and a place within the published borders."""
    size = SIZES[rng.integers(len(SIZES))]
    low = [int(rng.integers(b, s - b - n)) for b, s, n in zip(BORDER, shape, size, strict=True)]
    return Box(low=tuple(low), high=tuple(a + n for a, n in zip(low, size, strict=True)))


def local_box(rng: Generator, union: list[range], shape: tuple[int, ...]) -> Box:
    """A sub-crop that starts in the union; the volume is wide enough here."""
    size = LOCAL_SIZES[rng.integers(len(LOCAL_SIZES))]
    low = [int(min(rng.integers(u.start, u.stop), s - n)) for u, s, n in zip(union, shape, size, strict=True)]
    return Box(low=tuple(low), high=tuple(a + n for a, n in zip(low, size, strict=True)))


def resized(volume: Array, box: Box, grid: tuple[int, ...]) -> Array:
    """A crop in [0, 1], resized."""
    crop = volume[tuple(map(slice, box.low, box.high))].astype(np.float64)
    crop = (np.clip(crop, -1000, 1000) + 1000) / 2000
    return np.asarray(resize(crop, grid, order=1, mode="edge", anti_aliasing=True, preserve_range=True))


def tissue_share(crop: Array) -> float:
    """Voxels from which tissue is met within three slices, counted one by one, nearer ones weighing more."""
    threshold, total = (TISSUE_HU + 1000) / 2000, 0.0
    rows, columns, slices = crop.shape
    for i in range(rows):
        for j in range(columns):
            for k in range(slices - 3):
                for ahead in range(3):
                    if crop[i, j, k + ahead] >= threshold:
                        total += 1 - ahead / 3
                        break
    return total / (rows * columns * (slices - 3))


def our_pair(volume: CachedVolume, number: int) -> list[torch.Tensor]:
    """The same from the cache."""
    boxes = draw_boxes(volume.shape, SPECS, seed=0, index=number, measure=partial(share_above, volume))
    affines = {
        name: torch.stack([box_affine(box.low, box.high, SPECS[name].grid) for box in drawn])
        for name, drawn in boxes.items()
    }
    windows = {name: linear_windows(each, SPECS[name].grid, volume.shape) for name, each in affines.items()}
    reader = read_together(volume, [*windows["global"], *windows["local"]])  # as `make_views` does
    return [read_views(reader, affines[name], SPECS[name].grid, windows[name]) for name in boxes]


class Alone:
    """A crop as a volume of its own, so that both resizes see the same edge."""

    def __init__(self, values: Array) -> None:
        self.values, self.shape = values[None], values.shape

    def codes(self, low: tuple[int, ...], high: tuple[int, ...]) -> Codes:
        """A window."""
        return Codes(self.values, 0, 1, inside=True).part(low, high)


def check_resize(volume: CachedVolume) -> float:
    """The largest difference to scikit-image over all sizes."""
    worst = 0.0
    for sizes, grid in ((SIZES, GRID), (LOCAL_SIZES, LOCAL_GRID)):
        for size in sizes:
            crop = volume.read((100, 90, 80), [a + b for a, b in zip((100, 90, 80), size, strict=True)])[0]
            theirs = resize(crop.astype(np.float64), grid, order=1, mode="edge", anti_aliasing=True)
            affine = box_affine((0, 0, 0), size, grid)
            ours = read_views(Alone(crop), affine[None], grid)[0, 0]  # type: ignore[arg-type]
            worst = max(worst, float(np.abs(ours.numpy() - theirs).max()))
    if worst > 1e-6:
        raise SystemExit(f"the resizes differ by {worst:.1e}")
    return worst


def check_draws(volume: CachedVolume) -> tuple[float, int]:
    """Kolmogorov-Smirnov p of IoUs by condition and by rejection; pairs of 100 that miss the tissue rule."""
    shape, size = volume.shape, np.array(SIZES[0])
    rng, first = np.random.default_rng(1), Box(low=(100, 90, 80), high=(212, 202, 144))
    placement = place(size, GRID, shape, Box(low=(0, 0, 0), high=shape))
    conditional = [iou(first, draw_position(rng, first, placement, LEAST_IOU)) for _ in range(2000)]
    rejected: list[float] = []
    while len(rejected) < 2000:
        low = rng.integers(placement.first, np.asarray(placement.last) + 1)
        value = iou(first, Box(low=tuple(low.tolist()), high=tuple((low + size).tolist())))
        rejected += [value] if value >= LEAST_IOU else []
    p = float(stats.ks_2samp(conditional, rejected).pvalue)
    measure = partial(share_above, volume)
    missed = 0
    for number in range(100):
        pair = draw_boxes(shape, SPECS, seed=0, index=number, measure=measure)["global"]
        threshold = SPECS["global"].tissue.threshold
        missed += any(measure(box, threshold) > MOST_TISSUE for box in pair)
        if iou(*pair) < LEAST_IOU:
            raise SystemExit("a pair overlaps too little")
    if p < 1e-3:
        raise SystemExit(f"the IoUs differ in distribution: p = {p:.1e}")
    return p, missed


def main() -> None:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[340, 340, 300], help="of a phantom at 1 mm")
    parser.add_argument("--image", type=Path, help="a CT to use instead of the phantom")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.image:
            nib.save(nib.Nifti1Image(phantom(tuple(arguments.shape)), np.eye(4)), Path(folder) / "v.nii")
        volume = cached(arguments.image or Path(folder) / "v.nii", Path(folder))
        values = in_memory(volume)
        print(f"volume of {volume.shape} voxels at 1 mm")
        print(f"resize: largest difference to scikit-image {check_resize(volume):.1e} (at most 1e-6)")
        p, missed = check_draws(volume)
        print(
            f"IoU, conditional against rejected: KS p = {p:.3f}; {missed} of 100 pairs miss the tissue rule"
        )
        result = ratio(
            partial(transcribed_pair, values),
            partial(our_pair, volume),
            repeats=arguments.repeats,
            calls=(2, 20),
        )
    print(line("crop pair with tissue rule, and 6 sub-crops", result, 25))


if __name__ == "__main__":
    main()
