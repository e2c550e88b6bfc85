"""Restoration of volumes that pre-training never saw, at every scale, against the best Gaussian.

    python benchmarks/methods/restoration.py --data FOLDER --out DIR [--run RUN] [--KEY VALUE ...]

Every 13th image of FOLDER is held out; DIR receives the two halves as links, and a PCRLv2 run on the larger
one under the remaining keys of `foveate pretrain`. With `--run RUN` a run made earlier on DIR/training is
judged instead. Views of the held-out images are corrupted as in training; PSNR and SSIM are against the clean
view in [0, 1]. The rivals are the corrupted view before its normalisation, clipped to [0, 1], and the same
smoothed by the one Gaussian that is best for these very views, chosen for each score anew: as much help as a
smoother can have. Last come the clean views averaged over blocks of voxels: about what a map of that
resolution could say at best. Prints a Markdown table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from monai.metrics.regression import SSIMMetric
from torch import Tensor

from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC, PretrainConfig
from foveate.commands.pretrain.images import open_cache
from foveate.commands.pretrain.run import pretrain
from foveate.core import config as parsing
from foveate.core.dims import LAYERS
from foveate.core.types import Batch, FoveateError
from foveate.data.loader import batches
from foveate.data.sources.folder import Config
from foveate.methods.pcrlv2 import PCRLv2
from foveate.runtime.selection import images_for_pretraining
from foveate.train import checkpoint
from foveate.views.intensity import gaussian_blur
from foveate.views.pipeline import corrupt_views, make_views

EVERY = 13
SEED = 20_000  # of the held-out views: not the run's own
VIEWS = 4  # of each held-out image
BATCH = 8
SIGMAS = [0.25 * i for i in range(1, 17)]  # voxels


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Per view."""

    psnr: Tensor
    ssim: Tensor

    def row(self, name: str) -> str:
        """A line of the table."""
        spread = self.psnr.std().item(), self.ssim.std().item()
        return (
            f"| {name} | {self.psnr.mean().item():.2f} ({spread[0]:.2f}) "
            f"| {self.ssim.mean().item():.3f} ({spread[1]:.3f}) |"
        )


def split(data: Path, out: Path) -> dict[str, Path]:
    """Link the images below `data` into two folders; what is linked already stays."""
    folders = {name: out / name for name in ("training", "held_out")}
    for i, record in enumerate(sorted(images_for_pretraining(Config(), data), key=lambda r: r.relative)):
        folder = folders["training" if i % EVERY else "held_out"]
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / record.relative.replace("/", "__")
        if not link.exists():
            link.symlink_to(record.path.resolve())
    return folders


def trained(run: Path) -> tuple[PretrainConfig, PCRLv2]:
    """The method of a run with the weights and statistics of its newest checkpoint."""
    config = SPEC.from_keys({"config": run / "run.yaml", "accelerator": "cpu", "precision": "32-true"})
    if config.method.name != "pcrlv2" or config.method.restoration != "sigmoid":
        raise FoveateError(f"{run}: only a PCRLv2 run with `restoration: sigmoid` restores in [0, 1].")
    method = build_method(config)
    assert isinstance(method, PCRLv2)
    if not checkpoint.load_newest(Fabric(accelerator="cpu"), run / "checkpoints", {"model": method}, print):
        raise FoveateError(f"{run} holds no checkpoint.")
    return config, method.eval()


def held_out_batches(config: PretrainConfig, method: PCRLv2, folder: Path) -> Iterator[Batch]:
    """Every held-out image the same number of times, under boxes of its own each time."""
    cache = open_cache(replace(config, data=str(folder)))
    views = partial(make_views, specs=method.crops, seed=SEED)
    steps = len(cache) * VIEWS // BATCH
    return batches(cache, views, seed=SEED, first_step=0, steps=steps, batch_size=BATCH)


@torch.no_grad()
def restorations(method: PCRLv2, source: Iterator[Batch]) -> dict[str, Tensor]:
    """Clean and corrupted first views in [0, 1] and what each scale makes of them, (N, C, *S)."""
    parts: dict[str, list[Tensor]] = {}
    look = replace(method.config.global_appearance, normalisation="none")
    for batch in source:
        targets, views, _ = method.looks(batch, SEED)
        corrupted = corrupt_views(batch["crops"]["global"], batch["index"], look, seed=SEED, name="global")
        maps = method.net(views[0])
        scales = {f"restored from 1/{method.net.strides[s]}": s for s in method.scales}
        pictures = {
            "clean": targets[0],
            "corrupted": corrupted[:, 0].clamp(0, 1),
            **{name: method.restore.middle(maps, s) for name, s in scales.items()},
            "restored, final head": method.restore(maps),
        }
        for name, picture in pictures.items():
            parts.setdefault(name, []).append(picture)
    return {name: torch.cat(pictures) for name, pictures in parts.items()}


def score(images: Tensor, clean: Tensor) -> Scores:
    """PSNR and SSIM of every view."""
    error = (images - clean).square().flatten(1).mean(1)
    ssim = SSIMMetric(spatial_dims=clean.ndim - 2, data_range=1.0)(images, clean)
    return Scores(psnr=-10 * error.log10(), ssim=ssim[:, 0])


def smoothed(images: Tensor, clean: Tensor) -> tuple[str, Scores]:
    """The scores of the best Gaussian, one sigma for each, and their names."""
    tried = {}
    for sigma in SIGMAS:
        sigmas = torch.full((len(images), images.ndim - 2), sigma, dtype=torch.float64)
        tried[sigma] = score(gaussian_blur(images, sigmas), clean)
    by_psnr = max(tried, key=lambda s: tried[s].psnr.mean().item())
    by_ssim = max(tried, key=lambda s: tried[s].ssim.mean().item())
    best = Scores(psnr=tried[by_psnr].psnr, ssim=tried[by_ssim].ssim)
    return f"best Gaussian (sigma {by_psnr:g} for PSNR, {by_ssim:g} for SSIM)", best


def coarse(clean: Tensor, stride: int) -> Tensor:
    """Means over blocks, linearly up-sampled as the restorations are."""
    dimension = clean.ndim - 2
    means = F.interpolate(clean, scale_factor=1 / stride, mode="area")
    return F.interpolate(
        means, scale_factor=float(stride), mode=LAYERS[dimension].linear_interpolation, align_corners=False
    )


def table(pictures: dict[str, Tensor], strides: Sequence[int]) -> str:
    """Markdown: mean and, in brackets, standard deviation over the views."""
    clean, corrupted = pictures["clean"], pictures["corrupted"]
    name, best = smoothed(corrupted, clean)
    rows = [score(corrupted, clean).row("corrupted"), best.row(name)]
    for title, images in pictures.items():
        if title.startswith("restored"):
            ours = score(images, clean)
            wins = (ours.psnr > best.psnr).sum().item(), (ours.ssim > best.ssim).sum().item()
            rows.append(f"{ours.row(title)} {wins[0]} and {wins[1]} of {len(clean)} |")
    bounds = {f"clean, means over {s} voxels": coarse(clean, s) for s in strides if s > 1}
    rows += [f"{score(images, clean).row(title)} |" for title, images in bounds.items()]
    rows[:2] = [f"{row} |" for row in rows[:2]]
    head = "| | PSNR, dB | SSIM | views in which it beats that Gaussian (PSNR, SSIM) |\n|---|---|---|---|"
    return "\n".join((head, *rows))


def main() -> None:
    """Split, pre-train unless a run is given, judge."""
    flags, _ = parsing.read_flags(sys.argv[1:], ())
    if not {"data", "out"} <= set(flags):
        sys.exit(__doc__)
    out, run = Path(flags.pop("out")), flags.pop("run", "")
    folders = split(Path(flags.pop("data")), out)
    if not run:
        run = str(out / "run")
        pretrain(SPEC.resolve({}, {**flags, "data": str(folders["training"]), "out": run}))
    config, method = trained(Path(run))
    pictures = restorations(method, held_out_batches(config, method, folders["held_out"]))
    print(table(pictures, method.net.strides))


if __name__ == "__main__":
    main()
