"""Figures of results: ROC curves, confusion, Dice per class, label efficiency. Drawn without a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foveate.core.dims import LAYERS
from foveate.core.files import replace_file
from foveate.core.types import Array
from foveate.scoring.metrics import NAN, auroc, known_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#555555")
SIDE = 4.6  # inches
MOST_CURVES = len(COLOURS)
FIGURED = 16  # curves in one figure


class Point(NamedTuple):
    """One place of a curve with its interval."""

    x: float
    mean: float
    low: float
    high: float


def new_axes(width: float = SIDE, height: float = SIDE) -> tuple[Figure, Axes]:
    """An empty figure of so many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> None:
    """Write it as its suffix says; the same figure gives the same file."""
    kind = path.suffix.removeprefix(".")
    # no date and no program name
    metadata = {"png": {"Software": None}, "svg": {"Date": None}}.get(kind)
    replace_file(path, lambda stream: figure.savefig(stream, format=kind, metadata=metadata))


def roc_points(scores: Array, labels: Array) -> tuple[Array, Array]:
    """False and true positive rates as the threshold falls, from (0, 0) to (1, 1)."""
    positive = np.asarray(labels) > 0
    order = np.argsort(-np.asarray(scores), kind="stable")
    last = np.flatnonzero(np.diff(np.asarray(scores)[order], append=-np.inf))
    hits, misses = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return np.r_[0, misses / max(1, misses[-1])], np.r_[0, hits / max(1, hits[-1])]


def draw_roc(path: Path, curves: Mapping[str, tuple[Array, Array]]) -> None:
    """A ROC curve per class, (scores, labels) of known cases; a class without both kinds is named only."""
    figure, axes = new_axes()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    for i, (name, (scores, labels)) in enumerate(curves.items()):
        area = auroc(scores, labels)
        if np.isnan(area):
            axes.plot([], [], color=COLOURS[i % MOST_CURVES], label=f"{name}: one class only")
            continue
        style = ("-", "--", "-.")[i // MOST_CURVES % 3]
        label = f"{name}: {area:.3f}"
        axes.plot(*roc_points(scores, labels), style, color=COLOURS[i % MOST_CURVES], label=label)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1), ylim=(0, 1.01))
    axes.set_aspect("equal")
    axes.legend(title="AUROC", fontsize=8, title_fontsize=8, frameon=False, loc="lower right")
    save_figure(figure, path)


def draw_answers(folder: Path, answers: Array, truth: Array, names: Sequence[str]) -> None:
    """ROC curves of classes, truth (N,), with their confusion, or of findings, truth (N, K)."""
    known = known_labels(truth)
    if truth.ndim == 1:
        curves = {n: (answers[known, k], truth[known] == k) for k, n in enumerate(names)}
        counts = confusion(answers[known].argmax(1), truth[known], len(names))
        draw_confusion(folder / "confusion.png", counts, names)
    else:
        curves = {n: (answers[known[:, k], k], truth[known[:, k], k]) for k, n in enumerate(names)}
    draw_roc(folder / "roc.png", dict(list(curves.items())[:FIGURED]))


def confusion(chosen: Array, labels: Array, classes: int) -> Array:
    """Counts, true classes as rows."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels, dtype=int), np.asarray(chosen, dtype=int)), 1)
    return counts


def draw_confusion(path: Path, counts: Array, names: Sequence[str]) -> None:
    """Counts over shares of the true class."""
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = max(3.2, 0.6 * len(names) + 1.6)
    figure, axes = new_axes(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*counts.shape):
        colour = "white" if shares[i, j] > 0.6 else "black"
        text = f"{counts[i, j]}\n{shares[i, j]:.0%}"
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    save_figure(figure, path)


def draw_scores(path: Path, columns: Mapping[str, Sequence[float]], label: str) -> None:
    """Every case as a dot, a column per class, with the mean as a bar."""
    figure, axes = new_axes(max(3.2, 0.9 * len(columns) + 1.4), 3.6)
    for i, (_, values) in enumerate(columns.items()):
        kept = np.sort(np.asarray(values)[~np.isnan(values)])
        aside = i + 0.28 * np.sin(np.arange(kept.size) * 2.39996)  # spread without chance
        axes.plot(aside, kept, "o", markersize=3, alpha=0.6, color=COLOURS[i % MOST_CURVES])
        middle = kept.mean() if kept.size else NAN
        axes.hlines(middle, i - 0.35, i + 0.35, color="black", linewidth=1.5)
        axes.annotate(f"{middle:.3f}", (i + 0.36, middle), va="center", fontsize=8)
    axes.set_xticks(range(len(columns)), list(columns), rotation=20 if len(columns) > 4 else 0)
    axes.set(ylabel=label, xlim=(-0.6, len(columns) - 0.2))
    axes.yaxis.grid(visible=True, alpha=0.3)
    save_figure(figure, path)


class Pictured(NamedTuple):
    """An image (*S) in [0, 1] with heat over it, 0 for none."""

    image: Array
    heat: Array
    caption: str


def draw_cases(path: Path, cases: Sequence[Pictured], columns: int = 4) -> None:
    """Images, volumes at their hottest slice, each under a caption."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.1 * rows), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, case in zip(figure.axes, cases, strict=False):
        image, heat = (as_picture(array, case.heat) for array in (case.image, case.heat))
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.55 * heat.clip(0, 1))
        axes.set_title(case.caption, fontsize=8)
    save_figure(figure, path)


def as_picture(array: Array, heat: Array) -> Array:
    """A volume's slice with most heat (the middle one where there is none), or a picture as it is."""
    layers, flat = LAYERS[array.ndim], array
    if layers.planes:
        plane = layers.planes[0]
        sums = heat.sum(tuple(a for a in range(heat.ndim) if a != plane))
        at = int(sums.argmax()) if sums.any() else array.shape[plane] // 2
        flat = np.take(array, at, axis=plane)
    return flat.T[::-1] if layers.upwards else flat.T


def draw_efficiency(path: Path, curves: Mapping[str, Sequence[Point]], xlabel: str, ylabel: str) -> None:
    """Label efficiency: a score over the number of labels, a curve with 95 % intervals per arm."""
    figure, axes = new_axes(7.6, 4.2)
    ticks = sorted({point.x for points in curves.values() for point in points})
    shift = 1.03  # arms side by side on the logarithmic axis, so that intervals do not hide each other
    for i, (name, points) in enumerate(curves.items()):
        ordered = sorted(points)
        x = np.array([p.x for p in ordered]) * shift ** (i - (len(curves) - 1) / 2)
        y = np.array([p.mean for p in ordered])
        reach = np.abs(np.array([[p.mean - p.low for p in ordered], [p.high - p.mean for p in ordered]]))
        colour, marker = COLOURS[i % MOST_CURVES], "os^Dv"[i % 5]
        axes.errorbar(
            x, y, yerr=reach, label=name, linewidth=1.4, elinewidth=1, capsize=3, color=colour,
            marker=marker, markersize=5,
        )  # fmt: skip
    if all(0 <= point.mean <= 1 for points in curves.values() for point in points):
        low, high = axes.get_ylim()  # an interval of two seeds may reach beyond what a share can be
        axes.set_ylim(max(low, 0.0), min(high, 1.0))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.yaxis.grid(visible=True, alpha=0.3)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}  # clear of the whiskers
    axes.legend(fontsize=8, frameon=False, **beside)
    save_figure(figure, path)
