"""A script as MONAI's tutorials have it: positive and negative windows, DynUNet, DiceCE, sliding windows.

    python benchmarks/fewlabels/monai_script.py --cell acdc --count 3 [--seed 0] [--budget 300] [--network
    basic]

The first rate is the tutorials' own (1e-4, Adam); the best of three on validation is reported as well, each
trained for the whole budget with the cosine stretched to it. Volumes of a 2D cell are cut into slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.data import list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet, DynUNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    NormalizeIntensity,
    NormalizeIntensityd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)
from torch import nn

from arguments import Job, is_done, job_of, parser
from cells import Array, Clock, Labels, read, save, scores

RATES = (1e-4, 1e-3, 3e-3)
WINDOWS = 2  # of an image at a time, as in the tutorials 2 to 4


def network(name: str, dimension: int, outputs: int) -> nn.Module:
    """About two million parameters."""
    if name == "basic":
        features = (16, 16, 32, 64, 128, 16) if dimension == 3 else (16, 16, 32, 64, 256, 16)
        return BasicUNet(spatial_dims=dimension, in_channels=1, out_channels=outputs, features=features)
    levels = 5 if dimension == 2 else 4
    filters = [(16 if dimension == 2 else 12) * 2**k for k in range(levels)]
    return DynUNet(
        spatial_dims=dimension,
        in_channels=1,
        out_channels=outputs,
        kernel_size=[3] * levels,
        strides=[1, *[2] * (levels - 1)],
        upsample_kernel_size=[2] * (levels - 1),
        filters=filters,
    )


def transforms(job: Job) -> Compose:
    """Of the tutorials; mirroring is left out of anatomies that have a left and a right."""
    both, flips = ["image", "label"], job.name == "nodules"
    return Compose(
        [
            EnsureChannelFirstd(both, channel_dim="no_channel"),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            SpatialPadd(both, job.cell.patch),
            RandCropByPosNegLabeld(
                both, label_key="label", spatial_size=job.cell.patch, pos=1, neg=1, num_samples=WINDOWS
            ),
            *([RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)] if flips else []),
            RandGaussianNoised("image", prob=0.2, std=0.1),
            RandScaleIntensityd("image", factors=0.1, prob=0.5),
            RandShiftIntensityd("image", offsets=0.1, prob=0.5),
        ]
    )


def samples(job: Job) -> list[dict[str, Array]]:
    """Volumes, or slices of them."""
    found = []
    for image, label in map(read, job.train):
        values = label.astype(np.float32)
        if job.cell.dimension == 3:
            found.append({"image": image, "label": values})
            continue
        found += [{"image": image[..., z], "label": values[..., z]} for z in range(image.shape[2])]
    return found


def trained(job: Job, name: str, rate: float) -> tuple[nn.Module, int, float]:
    """A network, its steps and CPU seconds."""
    torch.manual_seed(job.seed)
    steps_of, drawn = transforms(job), samples(job)
    steps_of.set_random_state(job.seed)
    rng = np.random.default_rng(job.seed)
    net = network(name, job.cell.dimension, 1 + len(job.cell.classes))
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(net.parameters(), rate)
    clock, steps = Clock(job.budget), 0
    while clock.share < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * clock.share))
        chosen = rng.integers(0, len(drawn), max(1, job.cell.batch // WINDOWS))
        batch = list_data_collate([window for i in chosen for window in steps_of(drawn[i])])
        optimizer.zero_grad()
        loss(net(batch["image"]), batch["label"]).backward()
        optimizer.step()
        steps += 1
    return net.eval(), steps, clock.seconds


@torch.no_grad()
def predicted(net: nn.Module, image: Array, patch: Sequence[int]) -> Labels:
    """Sliding windows that overlap by a quarter, MONAI's default."""
    x = torch.from_numpy(image)
    parts = x.movedim(2, 0) if len(patch) == 2 else x[None]
    ready = torch.stack([torch.as_tensor(NormalizeIntensity(nonzero=True)(part)) for part in parts])[:, None]
    found = sliding_window_inference(ready, patch, 4, net).argmax(1)
    return np.asarray(found.movedim(0, 2) if len(patch) == 2 else found[0])


def main() -> None:
    """Train at every rate; the published default and the best on validation are two results."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--network", choices=("dynunet", "basic"), default="dynunet")
    arguments.add_argument("--rates", type=float, nargs="+", default=RATES)
    given = arguments.parse_args()
    arm = f"monai_{given.network}"
    if is_done(arm, given):
        return
    torch.set_num_threads(1)
    job, runs = job_of(given), []
    classes, patch = len(job.cell.classes), job.cell.patch
    for rate in given.rates:
        net, steps, seconds = trained(job, given.network, rate)
        val = scores(job.val, lambda image, net=net: predicted(net, image, patch), classes)
        print(f"rate {rate:g}: {steps} steps, {seconds:.0f} CPU s, validation {np.mean(val):.4f}", flush=True)
        runs.append((net, val, {"rate": rate, "steps": steps, "cpu_seconds": round(seconds, 1)}))
    best = max(runs, key=lambda run: float(np.mean(run[1])))
    for name, (net, val, facts) in ((f"{arm}_default", runs[0]), (arm, best)):
        test = scores(job.test, lambda image, net=net: predicted(net, image, patch), classes)
        parameters = sum(p.numel() for p in net.parameters())
        print(f"{name}: test {np.mean(test):.4f} of {len(test)}, {parameters:,} parameters")
        if not given.try_out:
            found = {"val": val, "test": test, "parameters": parameters, **facts}
            print(save(name, job.name, job.count, job.seed, job.budget, found).name)


if __name__ == "__main__":
    main()
