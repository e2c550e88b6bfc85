"""A plain U-Net without any of foveate: the opponent that costs a day to write.

    python benchmarks/fewlabels/plain.py --cell acdc --count 3 [--seed 0] [--budget 300]

Z-score per slice (2D) or volume (3D); rotation, zoom, shift, contrast and noise; cross-entropy and Dice;
AdamW with polynomial decay over the CPU time; last weights. Every rate trains for the whole budget, the
validation patients choose.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arguments import is_done, job_of, parser
from cells import Array, Clock, Labels, read, save, scores

RATES = (3e-4, 1e-3, 3e-3)
LEVELS = {2: 5, 3: 4}
WIDTH = {2: 16, 3: 12}


class UNet(nn.Module):
    """Convolution, batch norm, rectifier, twice a level; transposed convolutions on the way up."""

    def __init__(self, dimension: int, outputs: int) -> None:
        super().__init__()
        conv, up = (nn.Conv2d, nn.ConvTranspose2d) if dimension == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        norm = nn.BatchNorm2d if dimension == 2 else nn.BatchNorm3d
        self.pool = F.max_pool2d if dimension == 2 else F.max_pool3d

        def block(into: int, out: int) -> nn.Sequential:
            parts = [
                layer
                for first in (into, out)
                for layer in (conv(first, out, 3, padding=1, bias=False), norm(out), nn.LeakyReLU(0.01))
            ]
            return nn.Sequential(*parts)

        widths = [WIDTH[dimension] * 2**k for k in range(LEVELS[dimension])]
        self.down = nn.ModuleList([block(i, o) for i, o in zip([1, *widths[:-1]], widths, strict=True)])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList([up(i, o, 2, 2) for i, o in pairs])
        self.join = nn.ModuleList([block(2 * o, o) for _, o in pairs])
        self.head = conv(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        kept = []
        for k, down in enumerate(self.down):
            x = down(x if k == 0 else self.pool(x, 2))
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = join(torch.cat([up(x), skip], 1))
        found: Tensor = self.head(x)
        return found


def standard(image: Array, dimension: int) -> Array:
    """The z-score."""
    axes = (0, 1) if dimension == 2 else (0, 1, 2)
    return np.asarray((image - image.mean(axes, keepdims=True)) / (image.std(axes, keepdims=True) + 1e-5))


def samples(pairs: Sequence[tuple[Array, Labels]], dimension: int) -> list[tuple[Array, Labels]]:
    """What a batch is drawn from: slices or volumes."""
    ready = [(standard(image, dimension), label) for image, label in pairs]
    if dimension == 3:
        return ready
    return [(image[..., z], label[..., z]) for image, label in ready for z in range(image.shape[2])]


def window(
    rng: np.random.Generator, pair: tuple[Array, Labels], patch: Sequence[int]
) -> tuple[Array, Labels]:
    """A part of the size of the patch at a random place, padded where the image is smaller."""
    found = []
    lows = [int(rng.integers(0, max(1, n - p + 1))) for n, p in zip(pair[0].shape, patch, strict=True)]
    for array in pair:
        part = array[tuple(slice(low, low + p) for low, p in zip(lows, patch, strict=True))]
        room = [(0, p - n) for n, p in zip(part.shape, patch, strict=True)]
        found.append(np.pad(part, room, constant_values=array.min() if array is pair[0] else 0))
    return found[0], found[1]


def moved(rng: np.random.Generator, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """One rotation in the first plane, zoom and shift for each sample; contrast and noise of the image."""
    n, axes = len(x), x.ndim - 2
    matrices = torch.zeros(n, axes, axes + 1)
    for row in matrices:
        angle, zoom = rng.uniform(-0.4, 0.4), rng.uniform(0.8, 1.25)
        row[:, :axes] = torch.eye(axes) / zoom
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        row[axes - 2 :, axes - 2 : axes] = turn / zoom
        row[:, axes] = torch.from_numpy(rng.uniform(-0.1, 0.1, axes).astype(np.float32))
    grid = F.affine_grid(matrices, [n, 1, *x.shape[2:]], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    y = F.grid_sample(y[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
    scale = torch.from_numpy(rng.uniform(0.75, 1.25, n).astype(np.float32)).view(n, *[1] * (axes + 1))
    noise = torch.from_numpy(rng.normal(0, 0.1, x.shape).astype(np.float32))
    return x * scale + noise, y


def loss_of(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy and one minus Dice of the classes over the batch."""
    shares, truth = logits.softmax(1), F.one_hot(y, logits.shape[1]).movedim(-1, 1)
    axes = (0, *range(2, logits.ndim))
    hit, both = (shares * truth).sum(axes)[1:], (shares + truth).sum(axes)[1:]
    return F.cross_entropy(logits, y) + 1 - ((2 * hit + 1) / (both + 1)).mean()


def trained(
    pairs: Sequence[tuple[Array, Labels]], job: argparse.Namespace, rate: float
) -> tuple[UNet, int, float]:
    """A network, its steps and CPU seconds."""
    cell, rng = job.cell, np.random.default_rng(job.seed)
    torch.manual_seed(job.seed)
    net, drawn = UNet(cell.dimension, 1 + len(cell.classes)), samples(pairs, cell.dimension)
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-2)
    clock, steps = Clock(job.budget), 0
    while clock.share < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - clock.share) ** 0.9
        chosen = [window(rng, drawn[i], cell.patch) for i in rng.integers(0, len(drawn), cell.batch)]
        x, y = (torch.from_numpy(np.stack(part)) for part in zip(*chosen, strict=True))
        x, y = moved(rng, x[:, None], y)
        optimizer.zero_grad()
        loss_of(net(x), y).backward()
        optimizer.step()
        steps += 1
    return net.eval(), steps, clock.seconds


@torch.no_grad()
def predicted(net: UNet, image: Array, dimension: int) -> Labels:
    """Of a whole volume, padded to what the network can halve."""
    x = torch.from_numpy(standard(image, dimension))
    x = x.movedim(2, 0)[:, None] if dimension == 2 else x[None, None]
    stride = 2 ** (LEVELS[dimension] - 1)
    room = [pad for n in reversed(x.shape[2:]) for pad in (0, -n % stride)]
    found = torch.cat([net(F.pad(part, room, mode="replicate")) for part in x.split(8)]).argmax(1)
    found = found[(slice(None), *map(slice, x.shape[2:]))]
    return np.asarray(found.movedim(0, 2) if dimension == 2 else found[0])


def main() -> None:
    """Train at every rate, choose on validation, score the test once."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rates", type=float, nargs="+", default=RATES)
    given = arguments.parse_args()
    if is_done("plain", given):
        return
    torch.set_num_threads(1)
    job, best = job_of(given), None
    pairs = [read(case) for case in job.train]
    classes = len(job.cell.classes)
    for rate in given.rates:
        net, steps, seconds = trained(pairs, job, rate)
        val = scores(job.val, lambda image, net=net: predicted(net, image, job.cell.dimension), classes)
        print(f"rate {rate:g}: {steps} steps, {seconds:.0f} CPU s, validation {np.mean(val):.4f}", flush=True)
        if best is None or np.mean(val) > np.mean(best[1]):
            best = (net, val, {"rate": rate, "steps": steps, "cpu_seconds": round(seconds, 1)})
    net, val, facts = best
    test = scores(job.test, lambda image: predicted(net, image, job.cell.dimension), classes)
    parameters = sum(p.numel() for p in net.parameters())
    print(f"test {np.mean(test):.4f} of {len(test)}, {parameters:,} parameters")
    if not given.try_out:
        found = {"val": val, "test": test, "parameters": parameters, "rates": list(given.rates), **facts}
        print(save("plain", job.name, job.count, job.seed, job.budget, found).name)


if __name__ == "__main__":
    main()
