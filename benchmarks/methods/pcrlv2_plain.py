"""The published PCRLv2 step in a plain PyTorch loop: what a careful afternoon without this package gives.

    python benchmarks/methods/pcrlv2_plain.py --images FOLDER --dimension 3 --width 32 --batch 32 --workers 8
        --grid 64 64 32 --crop 16 16 16 [--accelerator cuda] [--steps 40] [--warm 10]

Images lie in memory. A DataLoader with workers and pinned memory cuts two windows and six smaller ones at
random, resamples and corrupts them; the network is the transcription in float32, the optimizer SGD. The last
line is JSON with samples a second, in the steps after the first.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

import pcrlv2_transcription as transcription

SUB_CROPS = 6
MODES = {2: "bilinear", 3: "trilinear"}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--dimension", type=int, choices=(2, 3), required=True)
    parser.add_argument("--accelerator", default="cpu")
    for name, default in (("width", 32), ("batch", 32), ("workers", 1), ("steps", 40), ("warm", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--grid", type=int, nargs="+", required=True)
    parser.add_argument("--crop", type=int, nargs="+", required=True)
    return parser.parse_args()


def read(path: Path) -> Tensor:
    """An image (1, *S) in [0, 1]."""
    array = np.asarray(Image.open(path).convert("L") if path.suffix == ".png" else nib.load(path).dataobj)
    image = torch.from_numpy(array.astype(np.float32))[None]
    return (image - image.min()) / (image.max() - image.min()).clamp_min(1e-6)


class Views(Dataset[dict[str, Tensor]]):
    """Two corrupted views, the first one clean, and the sub-crops, of a random image."""

    def __init__(self, images: list[Tensor], options: argparse.Namespace) -> None:
        self.images, self.options = images, options

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        options, image = self.options, self.images[index]
        first, second = (self.cut(image, options.grid, 0.5, 1.0) for _ in range(2))
        crops = [corrupted(self.cut(image, options.crop, 0.1, 0.4)) for _ in range(SUB_CROPS)]
        return {
            "target": first,
            "x1": corrupted(first),
            "x2": corrupted(second),
            "locals": torch.stack(crops),
        }

    def cut(self, image: Tensor, grid: list[int], least: float, most: float) -> Tensor:
        """A random window of a share of the image, mirrored at random, on a grid."""
        share = float(torch.empty(()).uniform_(least, most))
        size = [max(2, round(n * share)) for n in image.shape[1:]]
        low = [int(torch.randint(n - s + 1, ())) for n, s in zip(image.shape[1:], size, strict=True)]
        window = image[(slice(None), *(slice(a, a + s) for a, s in zip(low, size, strict=True)))]
        axes = [axis for axis in range(1, image.ndim) if torch.rand(()) < 0.5]
        resized = F.interpolate(window.flip(axes)[None], grid, mode=MODES[self.options.dimension])[0]
        return resized.expand(transcription.PICTURES[self.options.dimension], *grid)


def corrupted(view: Tensor) -> Tensor:
    """Contrast, noise, and unit variance."""
    view = view ** float(torch.empty(()).uniform_(0.7, 1.4)) + 0.05 * torch.randn(view.shape)
    return (view - view.mean()) / view.std().clamp_min(1e-6)


def main() -> None:
    """Train and print."""
    options = arguments()
    files = [path for path in sorted(options.images.iterdir()) if path.suffix in (".png", ".gz")]
    data = Views([read(path) for path in files], options)
    loader = DataLoader(
        data,
        options.batch,
        sampler=RandomSampler(data, replacement=True, num_samples=options.steps * options.batch),
        num_workers=options.workers,
        pin_memory=options.accelerator == "cuda",
        drop_last=True,
    )
    net = transcription.PUBLISHED[options.dimension](options.width).to(options.accelerator).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    started, last = 0.0, float("nan")
    for step, batch in enumerate(loader):
        if step == options.warm:
            wait(options.accelerator)
            started = time.perf_counter()
        x = {name: value.to(options.accelerator, non_blocking=True) for name, value in batch.items()}
        x["locals"] = x["locals"].transpose(0, 1)
        scale = step % net.scales
        pairs = transcription.recorded_pairs(SUB_CROPS, scale, net.scales)
        terms = transcription.published_losses(net, x, scale, pairs)
        loss = transcription.published_total(terms, transcription.BETA)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = loss.detach()
    wait(options.accelerator)
    seconds = (time.perf_counter() - started) / (options.steps - options.warm)
    found = {"batch": options.batch, "precision": "float32", "workers": options.workers}
    found |= {"samples/s": options.batch / seconds, "s a step": seconds, "last loss": float(last)}
    print(json.dumps(found))


def wait(accelerator: str) -> None:
    """Until the device has done what it was asked."""
    if accelerator == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
