"""Views against the same operations through TorchIO 1.x (3D) and Pillow (2D), one thread.

    pip install 'torchio<2'        # in an environment of its own
    OMP_NUM_THREADS=1 python benchmarks/data/views.py --dimension 3
    OMP_NUM_THREADS=1 python benchmarks/data/views.py --dimension 2

A sample is two global views and six sub-crops with the published geometry and appearance. Ours reads windows
of a volume in memory, samples once and corrupts batches of four; the others transform one view after the
other. In 3D TorchIO starts from crops of the views' size, as the published pipeline does from its files, and
ours from boxes of that size; with `--resize` both start from the published boxes and shrink them (TorchIO
without a low-pass). In 2D both start from a decoded 1024 x 1024 picture; Pillow in RGB, in the published
order (crop, resize, rotate, mirror, normalise the target, grey now and then, blur, brightness, contrast,
saturation, hue, normalise, holes), and in grey.

Compared first, by Kolmogorov-Smirnov over views: mean, deviation and mean gradient of the middle of clean and
of corrupted views, in 3D before z-scoring. They need not agree at rotated edges: TorchIO fills the corners of
a crop, ours reads on in the volume.
"""

from __future__ import annotations

import argparse
import gc
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage, stats
from torch import Tensor

from foveate.core.codes import Codes
from foveate.core.dims import defaults
from foveate.core.types import Array
from foveate.methods import pcrlv2
from foveate.views.intensity import GREY_IMAGENET, rescale
from foveate.views.pipeline import corrupt_views, make_views
from timing import line, ratio

BATCH = 4
TURN = 4  # batches in a turn: as in training, the views before were ours too
SAMPLES = 24  # of the check


class Memory:
    """A volume in memory: its values, and the whole numbers that a cache keeps of them."""

    def __init__(self, values: Array) -> None:
        self.one, kind = (255, np.uint8) if values.ndim == 2 else (10_000, np.int16)
        self.array = np.rint(values * self.one).astype(kind)[None]
        self.values = self.array.astype(np.float32) / np.float32(self.one)
        self.shape, self.spacing_mm, self.map_names = values.shape, (1.0,) * values.ndim, ()
        self.planes = None

    def codes(self, low: tuple[int, ...], high: tuple[int, ...]) -> Codes:
        """A window as it is stored: what ours reads."""
        return Codes(self.array, 0, self.one).part(low, high)

    def read(self, low: tuple[int, ...], high: tuple[int, ...]) -> Array:
        """A window of values: what TorchIO reads."""
        return np.ascontiguousarray(self.values[(slice(None), *map(slice, low, high))])


def textured(shape: tuple[int, ...]) -> Array:
    """Smooth structure and some noise, the same everywhere, in [0, 1]."""
    rng = np.random.default_rng(0)
    image = sum(ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), s) * s for s in (2, 6))
    image = np.asarray(image, np.float32)
    return np.clip(0.5 + 0.15 * image / image.std(), 0, 1).astype(np.float32)


def our_batch(
    dimension: Literal[2, 3], volume: Memory, *, resize: bool, zscore: bool = True
) -> Callable[[int], list[Tensor]]:
    """Number -> clean globals, corrupted globals, corrupted sub-crops of one batch."""
    preset = pcrlv2.Config.preset(dimension, "paper")
    specs = dict(preset.crops)
    if dimension == 3 and not resize:
        specs = {name: replace(spec, source_sizes=(spec.grid,)) for name, spec in specs.items()}

    def work(number: int) -> list[Tensor]:
        index = range(number * BATCH, (number + 1) * BATCH)
        samples = [make_views(volume, i, specs=specs, seed=0) for i in index]  # type: ignore[arg-type]
        clean = {name: torch.stack([sample[name].images for sample in samples]) for name in specs}
        looks = {"global": preset.global_appearance, "local": preset.local_appearance}
        if not zscore:
            looks = {name: replace(look, normalisation="none") for name, look in looks.items()}
        done = [corrupt_views(clean[name], index, looks[name], seed=0, name=name) for name in specs]
        return [rescale(clean["global"], *GREY_IMAGENET) if dimension == 2 else clean["global"], *done]

    return work


def torchio_sample(
    volume: Memory, *, resize: bool = False, zscore: bool = True
) -> Callable[[int], list[Tensor]]:
    """The same through TorchIO, one view after the other."""
    import torchio as tio  # noqa: PLC0415 - no dependency

    row = defaults(3, "paper")
    spatial = tio.Compose([tio.RandomFlip(), tio.RandomAffine()])
    blur, noise, gamma = tio.RandomBlur(), tio.RandomNoise(), tio.RandomGamma()
    swap = tio.RandomSwap(patch_size=(8, 4, 4), num_iterations=100)
    looks = {
        "global": tio.Compose([blur, noise, gamma, swap, *[tio.ZNormalization()] * zscore]),
        "local": tio.Compose([blur, noise, gamma, *[tio.ZNormalization()] * zscore]),
    }
    specs = {"global": row.global_crops, "local": row.local_crops}
    shrink = {name: tio.Resize(spec.grid) for name, spec in specs.items()}

    def work(number: int) -> list[Tensor]:
        torch.manual_seed(number)
        rng = np.random.default_rng(number)
        clean, done = [], {"global": [], "local": []}  # type: ignore[var-annotated]
        for name, spec in specs.items():
            for _ in range(spec.count):
                size = spec.source_sizes[rng.integers(len(spec.source_sizes))] if resize else spec.grid
                low = [int(rng.integers(0, s - n + 1)) for s, n in zip(volume.shape, size, strict=True)]
                crop = volume.read(tuple(low), tuple(a + n for a, n in zip(low, size, strict=True)))
                subject = tio.Subject(image=tio.ScalarImage(tensor=torch.from_numpy(crop)))
                subject = spatial(shrink[name](subject) if resize else subject)
                clean += [subject.image.data] if name == "global" else []
                done[name].append(looks[name](subject).image.data)
        return [torch.stack(clean), torch.stack(done["global"]), torch.stack(done["local"])]

    return work


def pillow_sample(picture: Image.Image, channels: int) -> Callable[[int], list[Tensor]]:
    """The same through Pillow, one view after the other."""
    source = picture.convert("RGB") if channels == 3 else picture
    row = defaults(2, "paper")

    def work(number: int) -> list[Tensor]:
        rng = random.Random(number)
        clean, done, small = [], [], []
        for name, spec in (("global", row.global_crops), ("local", row.local_crops)):
            for _ in range(spec.count):
                view = geometric(source, rng, spec.grid[0], spec.volume_share)
                look = normalised(appearance(view, rng))
                if name == "global":
                    clean.append(normalised(view))
                    done.append(with_holes(look, rng))
                else:
                    small.append(look)
        return [torch.stack(clean), torch.stack(done), torch.stack(small)]

    return work


def geometric(source: Image.Image, rng: random.Random, size: int, share: tuple[float, float]) -> Image.Image:
    """A random share of the picture, resized, rotated, mirrored."""
    area = rng.uniform(*share) * source.width * source.height
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = (min(1024, round((area * a) ** 0.5)) for a in (aspect, 1 / aspect))
    left, top = rng.randint(0, source.width - width), rng.randint(0, source.height - height)
    view = source.crop((left, top, left + width, top + height))
    view = view.resize((size, size), Image.Resampling.BILINEAR)
    view = view.rotate(rng.uniform(-10, 10), Image.Resampling.NEAREST)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


def appearance(view: Image.Image, rng: random.Random) -> Image.Image:
    """Blur, brightness, contrast; in colour first grey now and then, and saturation and hue."""
    if view.mode == "RGB" and rng.random() < 0.2:
        view = view.convert("L").convert("RGB")
    if rng.random() < 0.5:
        view = view.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0)))
    view = ImageEnhance.Brightness(view).enhance(rng.uniform(0.6, 1.4))
    view = ImageEnhance.Contrast(view).enhance(rng.uniform(0.6, 1.4))
    if view.mode != "RGB":
        return view
    view = ImageEnhance.Color(view).enhance(rng.uniform(0.6, 1.4))
    hue, saturation, value = view.convert("HSV").split()
    turned = (np.asarray(hue, dtype=np.uint8) + np.uint8(rng.randrange(256))).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def as_tensor(view: Image.Image) -> Tensor:
    """(C, y, x) in [0, 1]."""
    array = np.asarray(view, dtype=np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(np.atleast_3d(array).transpose(2, 0, 1)))


def normalised(view: Image.Image) -> Tensor:
    """ImageNet's mean and deviation."""
    return (as_tensor(view) - GREY_IMAGENET[0]) / GREY_IMAGENET[1]


def with_holes(view: Tensor, rng: random.Random) -> Tensor:
    """Three holes of 32 x 32."""
    view = view.clone()
    for _ in range(3):
        x, y = (rng.randint(0, n - 32) for n in view.shape[1:])
        view[:, x : x + 32, y : y + 32] = 0
    return view


def numbers_of(images: Tensor, kind: str) -> Array:
    """One number a view, from its middle: what lies beyond a rotated crop differs by design."""
    flat = images.flatten(0, images.ndim - 2 - (images.ndim - 2 if images.ndim < 5 else 3))
    middle: Any = flat[(..., *[slice(n // 4, -(n // 4)) for n in flat.shape[2:]])].double()
    axes = tuple(range(1, middle.ndim))
    if kind == "mean":
        return np.asarray(middle.mean(axes))
    if kind == "deviation":
        return np.asarray(middle.flatten(1).std(1))
    return np.asarray((middle.diff(dim=-1).abs()).mean(axes))


def check(
    theirs: Callable[[int], list[Tensor]], ours: Callable[[int], list[Tensor]], names: list[str]
) -> None:
    """Compare distributions of the clean and corrupted views."""
    n_theirs, n_ours = [theirs(i) for i in range(SAMPLES * 2)], [ours(i) for i in range(SAMPLES // 2)]
    for part, what in enumerate(("clean", "corrupted", "sub-crops")):
        for kind in names:
            a = np.concatenate([numbers_of(batch[part], kind) for batch in n_theirs])
            b = np.concatenate([numbers_of(batch[part].flatten(0, 1), kind) for batch in n_ours])
            p = float(stats.ks_2samp(a, b).pvalue)
            print(f"{what:<10} {kind:<9} {np.mean(a):7.3f} {np.mean(b):7.3f}  KS p = {p:.3f}")
            if p < 1e-3:
                print("           these differ in distribution")


def main() -> None:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dimension", type=int, choices=(2, 3), default=3)
    parser.add_argument("--resize", action="store_true", help="3D: from boxes of the published sizes")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gc.collect(), gc.freeze()  # as a process that loads data does, so that both sides are spared
    shape = (200, 200, 180) if arguments.dimension == 3 else (1024, 1024)
    volume = Memory(textured(shape))
    ours = our_batch(arguments.dimension, volume, resize=arguments.resize)
    rivals: list[tuple[str, Callable[[int], list[Tensor]], float]] = []
    if arguments.dimension == 3:
        rivals.append(("3D sample against TorchIO", torchio_sample(volume, resize=arguments.resize), 4))
    else:
        picture = Image.fromarray(volume.array[0].T)
        rivals += [("2D sample against Pillow, RGB as published", pillow_sample(picture, 3), 3)]
        rivals += [("2D sample against Pillow, grey", pillow_sample(picture, 1), 3)]
    if arguments.dimension == 3 and not arguments.resize:
        plain = our_batch(3, volume, resize=False, zscore=False)
        check(torchio_sample(volume, zscore=False), plain, ["mean", "deviation", "gradient"])
    elif arguments.dimension == 2:
        check(rivals[-1][1], ours, ["mean", "deviation", "gradient"])
    for name, theirs, target in rivals:
        slow, fast, times = ratio(theirs, ours, repeats=arguments.repeats, calls=(TURN * BATCH, TURN))
        print(line(name, (slow, fast / BATCH, times * BATCH), target))


if __name__ == "__main__":
    main()
