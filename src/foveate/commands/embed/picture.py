"""The features as a map in two dimensions, with small pictures of some rows that do not cover each other."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from foveate.commands.embed.config import EmbedConfig
from foveate.commands.embed.features import Embedded
from foveate.commands.embed.likeness import blocks
from foveate.core.dims import LAYERS
from foveate.core.files import replace_file
from foveate.core.types import Array, FoveateError
from foveate.train.logging import say

SIDE, POINT, DOTS = 10.0, 9.0, 150  # inches of the figure, size of a dot, dots an inch
MARGIN = 0.8  # inches on every side of the axes
THUMBNAIL, GAP = 0.5, 0.06  # inches: the longer side of a picture, and between two
FEWEST = 32  # rows of which UMAP can tell neighbourhoods


def draw_map(found: Embedded, rows: Array, config: EmbedConfig, path: Path) -> None:
    """A dot for every row, and pictures of some that have room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    places, names = projected(rows, config.projection)
    low, high, inches = limits(places)
    shown = spread((places - low) / (high - low) * inches, config.pictures, THUMBNAIL + GAP)
    figure = Figure(figsize=(SIDE, SIDE), dpi=DOTS)
    FigureCanvasAgg(figure)
    share = MARGIN / SIDE
    axes = figure.add_axes((share, share, 1 - 2 * share, 1 - 2 * share))
    axes.scatter(places[:, 0], places[:, 1], s=POINT, c="#0072b2", alpha=0.35, linewidths=0)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    for row in shown:
        picture = thumbnail(found, row)
        zoom = THUMBNAIL * 72 / max(picture.shape)
        held = OffsetImage(np.repeat(picture[..., None], 3, axis=2), zoom=zoom)
        box = AnnotationBbox(held, tuple(places[row]), pad=0, bboxprops={"linewidth": 0.4})
        axes.add_artist(box)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.set_title(f"{len(rows)} rows of {len(found.cache)} images; {len(shown)} are shown", fontsize=10)
    replace_file(path, lambda stream: figure.savefig(stream, format="png", metadata={"Software": None}))


def projected(rows: Array, how: str) -> tuple[Array, tuple[str, str]]:
    """Places (rows, 2) in the map, and what its axes are."""
    there = find_spec("umap") is not None
    if how == "umap" and len(rows) < FEWEST:
        raise FoveateError(f"--projection umap of {len(rows)} rows; accepted: from {FEWEST} on, or pca.")
    if how == "umap" or (how == "auto" and there and len(rows) >= FEWEST):
        return of_umap(rows), ("UMAP 1", "UMAP 2")
    if how == "auto" and not there:
        say(
            "the map shows the two axes of largest variance; with `pip install 'foveate[embed]'` it is a UMAP"
        )
    places, shares = principal(rows)
    return places, (
        f"first principal axis, {shares[0]:.0%} of the variance",
        f"second principal axis, {shares[1]:.0%} of the variance",
    )


def of_umap(rows: Array) -> Array:
    """Places by umap-learn; the same rows give the same map."""
    import umap

    return np.asarray(umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(rows), np.float64)


def principal(rows: Array, count: int = 2) -> tuple[Array, Array]:
    """Places (rows, count) along the axes of largest variance, and each axis' share of it.

    Signs are such that the largest weight of an axis is positive: the same rows give the same map.
    """
    mean = rows.mean(0, dtype=np.float64)
    squares = sum((rows[b] - mean).T @ (rows[b] - mean) for b in blocks(len(rows)))
    values, axes = np.linalg.eigh(squares)
    chosen = axes[:, ::-1][:, :count]
    signs = np.sign(chosen[np.abs(chosen).argmax(0), np.arange(chosen.shape[1])])
    places = np.concatenate([(rows[b] - mean) @ (chosen * signs) for b in blocks(len(rows))])
    return places, values[::-1][:count] / max(float(values.sum()), 1e-12)


def limits(places: Array) -> tuple[Array, Array, float]:
    """Where both axes begin and end, so that a picture at the rim is whole, and their length in inches."""
    inches = SIDE - 2 * MARGIN
    low, high = places.min(0), places.max(0)
    span = np.maximum(high - low, 1e-9)
    rim = span * (THUMBNAIL / 2 + GAP) / (inches - THUMBNAIL - 2 * GAP)
    return low - rim, high + rim, inches


def spread(places: Array, most: int, apart: float) -> list[int]:
    """Rows so far from each other that squares of a side `apart` around them do not overlap.

    The first is the one that is farthest from the middle, then always the one that is farthest from all
    before it, as long as there is room.
    """
    chosen: list[int] = []
    distance = np.abs(places - places.mean(0)).max(1)
    while len(chosen) < min(most, len(places)):
        row = int(np.argmax(distance))
        if chosen and distance[row] < apart:
            break
        own = np.abs(places - places[row]).max(1)
        distance = own if not chosen else np.minimum(distance, own)
        chosen.append(row)
    return chosen


def thumbnail(found: Embedded, row: int) -> Array:
    """Rows of pixels as the encoder saw the image: the middle plane of a volume, the first channel."""
    seen = found.picture(row).numpy()
    layers = LAYERS[seen.ndim]
    flat = seen.take(seen.shape[layers.planes[0]] // 2, axis=layers.planes[0]) if layers.planes else seen
    upwards = layers.upwards or found.volume(row).planes is not None
    return np.asarray(flat.T[::-1] if upwards else flat.T)
