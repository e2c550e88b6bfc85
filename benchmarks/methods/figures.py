"""Figures of PGL, Context Restoration and Localized Region Contrast, drawn from virtual brains (no patient).

    python benchmarks/methods/figures.py --out docs/methods/figures --scratch DIR [--steps 300]

DIR receives the brains and a short Context Restoration run; both are taken up again where they are there.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from foveate.commands.demo.brains import build_cohort
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC
from foveate.commands.pretrain.images import open_cache
from foveate.commands.pretrain.run import build_fabric, pretrain
from foveate.core.types import Batch, Progress
from foveate.nets.layers import running_statistics
from foveate.runtime.steps import batches_from
from foveate.train import checkpoint
from foveate.views.alignment import meet
from foveate.views.geometry import apply

BRAINS = 24
CELLS = (8, 8, 8)
REGION_VIEWS = {"grid": [64, 64, 64], "source_sizes": [[64, 64, 64]]}
SEEN = 2  # of the samples of the batch, in the picture of the restoration


def batch_of(keys: dict[str, Any], *, trained: bool = False) -> tuple[Any, Batch]:
    """A method, with the weights of its run where it has one, and the batch after the run's last."""
    config = SPEC.from_keys(keys)
    fabric, method = build_fabric(config), build_method(config)
    if trained:
        folder = Path(config.out) / "checkpoints"
        path = checkpoint.path_of(folder, checkpoint.newest_step(folder))
        method.load_state_dict(torch.load(path, weights_only=True)["model"])
    cache = open_cache(config)
    beyond = replace(config, steps=config.steps + 1)
    return method, next(batches_from(beyond, cache, method, fabric, config.steps))


def slice_at(volume: Any, index: float) -> Any:
    """The plane of a volume (1, x, y, z) nearest to an index along z, for imshow."""
    plane = int(np.clip(round(index), 0, volume.shape[-1] - 1))
    return volume[0, :, :, plane].T


def draw_overlap(keys: dict[str, Any], out: Path) -> None:
    """PGL: the same cells of the overlap on both views, coloured by their place, and what both show of it."""
    quiet = {"noise_probability": 0.0, "blur_probability": 0.0}
    method, batch = batch_of(keys | {"method": {"name": "pgl", "global_appearance": quiet}})
    affines = batch["affines"]["global"]
    first, second = affines.unbind(1)
    grid = batch["crops"]["global"].shape[3:]
    coarse = meet(first, second, grid, CELLS)
    flipped = (first.diagonal(0, 1, 2) * second.diagonal(0, 1, 2))[:, :2].amin(1) < 0
    row = int(
        (coarse.valid.flatten(1).sum(1) * (1 + flipped.int() * 2)).argmax()
    )  # the sample with most to see
    pictures = method.preview(batch, Progress(0, 1, 0))
    figure = Figure(figsize=(11, 3.05), layout="constrained")
    axes = figure.subplots(1, 4)
    middle = CELLS[2] // 2
    lines = [torch.arange(n, dtype=torch.float64) for n in CELLS[:2]]
    points = torch.cartesian_prod(*lines, torch.tensor([float(middle)], dtype=torch.float64))
    inside = coarse.valid[row, :, :, middle].flatten()
    place = (points[:, :2] / (torch.tensor(CELLS[:2]) - 1)).numpy()
    colours = np.stack([0.1 + 0.9 * place[:, 0], 0.75 - 0.5 * place[:, 0], 0.1 + 0.9 * place[:, 1]], 1)
    for axis, title, way in zip(axes, ("view 1", "view 2"), (coarse.first, coarse.second), strict=False):
        cells = apply(way[row], points)  # in cells of this view's map
        voxels = ((cells + 0.5) * torch.tensor(grid) / torch.tensor(CELLS) - 0.5).numpy()
        axis.imshow(slice_at(pictures[title][row].numpy(), voxels[0, 2]), cmap="gray", origin="lower")
        axis.scatter(voxels[inside, 0], voxels[inside, 1], c=colours[inside], s=22)
        axis.scatter(voxels[~inside, 0], voxels[~inside, 1], marker="x", c="#b04030", s=12, linewidths=0.8)
        axis.set_title(title)
    for axis, title in zip(axes[2:], ("overlap in 1", "overlap in 2"), strict=True):
        plane = (middle + 0.5) * grid[2] / CELLS[2] - 0.5
        axis.imshow(slice_at(pictures[title][row].numpy(), plane), cmap="gray", origin="lower")
        axis.set_title(f"what {title[-1]} shows of the overlap")
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(out / "pgl_overlap.png", dpi=110)


def draw_restoration(keys: dict[str, Any], out: Path, steps: int) -> None:
    """Context Restoration: clean, swapped and restored, after a short run."""
    keys = keys | {"method": "context_restoration", "steps": steps}
    pretrain(SPEC.from_keys(keys))
    method, batch = batch_of(keys, trained=True)
    with torch.no_grad(), running_statistics(method, update=False):
        pictures = method.preview(batch, Progress(0, 1, 0))
    figure = Figure(figsize=(7.4, 2.5 * SEEN), layout="constrained")
    for i, row in enumerate(figure.subplots(SEEN, len(pictures))):
        low, high = pictures["clean"][i].min().item(), pictures["clean"][i].max().item()
        for axis, (title, volumes) in zip(row, pictures.items(), strict=True):
            plane = (volumes.shape[-1] - 1) / 2
            axis.imshow(slice_at(volumes[i].numpy(), plane), cmap="gray", origin="lower", vmin=low, vmax=high)
            axis.set_title(title if i == 0 else "")
            axis.set_xticks([])
            axis.set_yticks([])
    figure.savefig(out / "context_restoration.png", dpi=110)


def planes_of_the_same(maps: Any) -> tuple[int, tuple[int, int]]:
    """The sample (B, 2, *S) and the two planes along z that show most voxels of regions seen in both."""

    def shown(row: int, first: int, second: int) -> int:
        one, other = maps[row, 0, ..., first], maps[row, 1, ..., second]
        both = np.intersect1d(one[one > 0], other)
        return min(int(np.isin(one, both).sum()), int(np.isin(other, both).sum()))

    rows, depth = len(maps), maps.shape[-1]
    inner = range(depth // 4, depth - depth // 4)
    return max(
        ((r, (a, b)) for r in range(rows) for a in inner for b in inner), key=lambda c: shown(c[0], *c[1])
    )


def draw_regions(keys: dict[str, Any], out: Path) -> None:
    """Localized Region Contrast: a slice of both views, and the super-pixels that were carried there."""
    _, batch = batch_of(
        keys | {"method": {"name": "region_contrast", "base": {"name": "byol", "global_crops": REGION_VIEWS}}}
    )
    views, maps = batch["crops"]["global"], batch["regions"]["superpixels/global"]
    row, planes = planes_of_the_same(maps.numpy())
    colours = np.random.default_rng(3).uniform(0.15, 1, (int(maps.max()) + 1, 3))
    colours[0] = 0
    figure = Figure(figsize=(11, 3.1), layout="constrained")
    for i, axis in enumerate(figure.subplots(1, 4)):
        view, plane = i // 2, planes[i // 2]
        if i % 2 == 0:
            axis.imshow(slice_at(views[row, view].numpy(), plane), cmap="gray", origin="lower")
            axis.set_title(f"view {view + 1}")
        else:
            ids = slice_at(maps[row, view].numpy()[None], plane)
            axis.imshow(colours[ids], origin="lower", interpolation="nearest")
            axis.set_title("its super-pixels")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(out / "region_contrast.png", dpi=110)


def main() -> None:
    """Make the brains and draw the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    chosen = parser.parse_args()
    brains = chosen.scratch / "brains"
    build_cohort(brains, BRAINS, 0, lambda _done, _total: None)
    keys = {"data": str(brains / "images"), "dimension": 3, "size": "small", "num_workers": 0, "steps": 39}
    draw_overlap(keys | {"out": str(chosen.scratch / "pgl")}, chosen.out)
    draw_regions(keys | {"out": str(chosen.scratch / "region_contrast")}, chosen.out)
    draw_restoration(keys | {"out": str(chosen.scratch / "context_restoration")}, chosen.out, chosen.steps)


if __name__ == "__main__":
    main()
