"""Drawings of methods that compare whole views or restore them, from virtual brains (no patient).

    python benchmarks/methods/compared.py --out docs/methods/figures --scratch DIR [--only simclr,masked]

Comparing: the boxes of both views on their image, the views as the network sees them, and which pairs
attract and repel. For the last the method's own loss is given embeddings that are all orthogonal: minus its
gradient at one of them, along another, is what the one is drawn to the other with; positional and foveate
show the kernel by which they weigh pairs. Blue and red have scales of their own. Restoring: the view, what
is done to it, and where the loss looks. Nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial import ConvexHull
from torch import Tensor, nn

from figures import batch_of, slice_at
from foveate.commands.demo.brains import build_cohort
from foveate.commands.pretrain.config import SPEC
from foveate.commands.pretrain.images import open_cache
from foveate.commands.pretrain.views import source_of
from foveate.core.types import Batch, Progress
from foveate.data.loader import records_of
from foveate.losses.places import sites
from foveate.views.drawn import drawn

BRAINS, IMAGES, VIEWS, QUEUE = 6, 4, 2, 6
STEP = Progress(0, 1, 0)
BLUE, ORANGE = "#2878b8", "#d9600a"
COLOURS = ("#2878b8", "#d9600a", "#2a8a3c", "#9b3fb0", "#c9a400", "#00a0a0")
ALL_VIEWS = [f"{'ABCD'[i]}{v + 1}" for v in range(VIEWS) for i in range(IMAGES)]  # A1 B1 C1 D1 A2 ...
NEITHER = {"bezier_probability": 0.0, "shuffle_probability": 0.0, "paint_probability": 0.0}
DAMAGES = {
    "curve": {**NEITHER, "bezier_probability": 1.0, "bezier_falling": 1.0},
    "shuffled": {**NEITHER, "shuffle_probability": 1.0, "shuffle_share": [1.0, 1.0]},
    "painted over": {**NEITHER, "paint_probability": 1.0, "paint_outside": 0.0},
    "all but boxes": {**NEITHER, "paint_probability": 1.0, "paint_outside": 1.0},
}


class Pairs(NamedTuple):
    """How much a row is drawn to a column (below 0: away from it), and what they are called."""

    weight: Tensor
    rows: list[str]
    columns: list[str]
    names: str
    colours: str = "blue attracts, red repels"


class Given(nn.Module):
    """Rows in the place of what a projector or predictor answers, a part for each call."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows, self.at = rows, 0

    def forward(self, x: Tensor) -> Tensor:
        """The next rows, as many as images."""
        start, self.at = self.at, self.at + len(x)
        return self.rows[start : self.at]


def orthogonal(*counts: int, width: int) -> list[Tensor]:
    """Sets of rows of length 1, all at right angles to each other."""
    return [part.clone().requires_grad_() for part in torch.eye(sum(counts), width).split(counts)]


def drawn_to(loss: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Minus the gradient at each row along each of the others, nothing along the row itself."""
    (gradient,) = torch.autograd.grad(loss, rows)
    along = -gradient @ others.detach().T
    return along.masked_fill(rows.detach() @ others.detach().T > 0.5, 0.0)


def total(method: Any, batch: Batch) -> Tensor:
    """The sum of the terms."""
    losses: list[Tensor] = list(method(batch, STEP).values())
    return torch.stack(losses).sum()


def of_projector(method: Any, batch: Batch) -> Pairs:
    """SimCLR and VICReg: every embedding is trained against all."""
    (rows,) = orthogonal(IMAGES * VIEWS, width=method.config.embedding)
    method.projector = Given(rows)
    return Pairs(drawn_to(total(method, batch), rows, rows), ALL_VIEWS, ALL_VIEWS, "embeddings z")


def of_moco(method: Any, batch: Batch) -> Pairs:
    """Queries against keys and the first of the queue."""
    queries, keys, queue = orthogonal(IMAGES, IMAGES, QUEUE, width=method.config.embedding)
    method.projector, method.target = Given(queries), Given(keys)
    method.queue = queue.detach()
    weight = drawn_to(total(method, batch), queries, torch.cat([keys, queue]))
    names = ALL_VIEWS[IMAGES:] + [f"q{i + 1}" for i in range(QUEUE)]
    return Pairs(weight, ALL_VIEWS[:IMAGES], names, f"queries against keys, {QUEUE} of the queue")


def of_byol(method: Any, batch: Batch) -> Pairs:
    """Predictions against what the target says."""
    predictions, targets = orthogonal(IMAGES * VIEWS, IMAGES * VIEWS, width=IMAGES * VIEWS * 2)
    method.predictor, method.target = Given(predictions), Given(targets)
    weight = drawn_to(total(method, batch), predictions, targets)
    return Pairs(weight, ALL_VIEWS, ALL_VIEWS, "predictions against the target's")


def of_simsiam(method: Any, batch: Batch) -> Pairs:
    """Predictions against projections."""
    predictions, projections = orthogonal(IMAGES * VIEWS, IMAGES * VIEWS, width=IMAGES * VIEWS * 2)
    method.predictor, method.projector = Given(predictions), Given(projections)
    weight = drawn_to(total(method, batch), predictions, projections)
    return Pairs(weight, ALL_VIEWS, ALL_VIEWS, "predictions against projections")


def by_image(weight: Tensor) -> Tensor:
    """Rows and columns A1 A2 B1 B2 ... in the order of `ALL_VIEWS`."""
    order = torch.arange(IMAGES * VIEWS).view(IMAGES, VIEWS).T.flatten()
    return weight[order][:, order]


def of_positional(method: Any, batch: Batch) -> Pairs:
    """Views at like positions; all others are negatives."""
    weight = by_image(method.kernel(method.places(batch, 0)))
    return Pairs(weight, ALL_VIEWS, ALL_VIEWS, "like positions", "blue attracts, white repels")


def of_foveate(method: Any, batch: Batch) -> Pairs:
    """The kernel of whole views."""
    found = drawn(batch, method.sites, 0, batch["crops"]["global"].device)
    weight = by_image(method.config.kernel(sites(found, 0)))
    return Pairs(weight, ALL_VIEWS, ALL_VIEWS, "kernel of whole views", "blue attracts, white repels")


COMPARED: dict[str, Callable[[Any, Batch], Pairs]] = {
    "byol": of_byol,
    "simsiam": of_simsiam,
    "moco": of_moco,
    "simclr": of_projector,
    "vicreg": of_projector,
    "positional": of_positional,
    "foveate": of_foveate,
}


def bare(axis: Axes, title: str) -> None:
    """A title, no ticks."""
    axis.set_title(title, fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])


def draw_boxes(axis: Axes, keys: dict[str, Any], method: Any, batch: Batch) -> None:
    """The first sample's image, and the boxes of its views projected onto the plane."""
    volumes = records_of(open_cache(SPEC.from_keys(keys)), seed=0, indices=batch["index"])
    scene = source_of(volumes[0], method, batch, 0)
    corners = [np.asarray(box.corners) for box in scene.boxes]
    plane = float(np.mean([each[:, 2].mean() for each in corners]))
    axis.imshow(slice_at(scene.image[None], plane), cmap="gray", origin="lower")
    for box, colour in zip(corners, (BLUE, ORANGE), strict=False):
        hull = box[ConvexHull(box[:, :2]).vertices][:, :2]
        axis.plot(*np.vstack([hull, hull[:1]]).T, color=colour, linewidth=2)
    bare(axis, "image A and its views" if len(corners) > 1 else "image A and its view")


def draw_view(axis: Axes, view: Tensor, title: str, colour: str = "#909090") -> None:
    """The middle plane of (C, x, y, z), in a frame."""
    axis.imshow(slice_at(view.detach().numpy(), view.shape[-1] / 2), cmap="gray", origin="lower")
    for side in axis.spines.values():
        side.set(color=colour, linewidth=2.5)
    bare(axis, title)


def draw_matrix(axis: Axes, pairs: Pairs) -> None:
    """Blue attracts, red repels; white is neither, or as `colours` says."""
    weight = pairs.weight.detach().numpy()
    strong, weak = (np.clip(sign * weight, 0, None) for sign in (1, -1))
    shown = strong / max(strong.max(), 1e-9) - 0.45 * weak / max(weak.max(), 1e-9)
    axis.imshow(shown, cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xticks(range(len(pairs.columns)), pairs.columns, fontsize=7)
    axis.set_yticks(range(len(pairs.rows)), pairs.rows, fontsize=7)
    axis.set_title(f"{pairs.names}:\n{pairs.colours}", fontsize=10)


def draw_cells(axes: tuple[Axes, Axes], method: Any, batch: Batch) -> None:
    """foveate: some cells of view 1, and how much cells of view 2 count as the same place, by their size."""
    found = drawn(batch, method.sites, 0, batch["crops"]["global"].device)
    grid, count = batch["crops"]["global"].shape[3:], method.config.cells
    kernel = method.config.kernel(sites(found, method.strides[0]))[:count, count : 2 * count]
    points = ((found["at"][0] + 1) / 2 * torch.tensor(grid) - 0.5).numpy()
    chosen = kernel.max(1).values.argsort(descending=True)[: len(COLOURS)]
    for cell, colour in zip(chosen.tolist(), COLOURS, strict=True):
        axes[0].scatter(*points[0, cell, :2], color=colour, s=70, edgecolors="white")
        sizes = 70 * kernel[cell].numpy()
        axes[1].scatter(points[1, :, 0], points[1, :, 1], color=colour, s=sizes, edgecolors="white")


def draw_compared(name: str, keys: dict[str, Any], out: Path) -> None:
    """Boxes, views and pairs of a method that compares."""
    method, batch = batch_of(keys | {"method": name})
    views = method.config.corrupted(batch, channels=1, seed=0)[0]
    figure = Figure(figsize=(11, 3.0), layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.15))
    draw_boxes(axes[0], keys | {"method": name}, method, batch)
    for axis, view, title, colour in zip(axes[1:], views, ("A1", "A2"), (BLUE, ORANGE), strict=False):
        draw_view(axis, view, f"view {title}, as the network sees it", colour)
    if name == "foveate":
        draw_cells((axes[1], axes[2]), method, batch)
    draw_matrix(axes[3], COMPARED[name](method, batch))
    figure.savefig(out / f"{name}.png", dpi=100)


def draw_masked(keys: dict[str, Any], out: Path) -> None:
    """Masked image modelling: the view, what is hidden, and where the loss looks."""
    method, batch = batch_of(keys | {"method": "masked"})
    whole, masked, mask = method.looks(batch, 0)
    figure = Figure(figsize=(11, 3.0), layout="constrained")
    axes = figure.subplots(1, 4)
    draw_boxes(axes[0], keys | {"method": "masked"}, method, batch)
    draw_view(axes[1], whole[0], "the view: what is restored", BLUE)
    draw_view(axes[2], masked[0], "what the network sees")
    draw_view(axes[3], torch.where(mask, whole, whole.min())[0], "where the loss looks")
    figure.savefig(out / "masked.png", dpi=100)


def draw_damages(keys: dict[str, Any], out: Path) -> None:
    """Models Genesis: the view, each kind of damage alone, and all at once."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    axes = figure.subplots(2, 4).flatten()
    named = {"name": "models_genesis"}
    method, batch = batch_of(keys | {"method": named})
    clean, damaged = method.looks(batch, 0)
    draw_boxes(axes[0], keys | {"method": named}, method, batch)
    draw_view(axes[1], clean[0], "the view: what is restored", BLUE)
    for axis, (title, appearance) in zip(axes[2:6], DAMAGES.items(), strict=True):
        alone, same = batch_of(keys | {"method": named | {"global_appearance": appearance}})
        draw_view(axis, alone.looks(same, 0)[1][0], title)
    for axis, view in zip(axes[6:], damaged[:2], strict=True):
        draw_view(axis, view, "what the network sees")
    figure.savefig(out / "models_genesis.png", dpi=100)


def main() -> None:
    """Make the brains and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--only", default=",".join([*COMPARED, "masked", "models_genesis"]))
    chosen = parser.parse_args()
    brains = chosen.scratch / "brains"
    build_cohort(brains, BRAINS, 0, lambda _done, _total: None)
    keys = {"data": str(brains / "images"), "dimension": 3, "size": "small", "num_workers": 0, "steps": 3}
    keys |= {"batch_size": IMAGES, "out": str(chosen.scratch / "run")}
    for name in chosen.only.split(","):
        if name in COMPARED:
            draw_compared(name, keys, chosen.out)
        else:
            {"masked": draw_masked, "models_genesis": draw_damages}[name](keys, chosen.out)


if __name__ == "__main__":
    main()
