"""The features as a map: their first two principal axes, with small pictures of some rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveate.commands.embed.features import Embedded, blocks
from foveate.core.dims import LAYERS
from foveate.core.files import replace_file
from foveate.core.types import Array

SIDE, POINT, DOTS = 10.0, 9.0, 150  # inches of the figure, size of a dot, dots an inch
THUMBNAIL = 0.45  # inches


def principal(rows: Array, count: int = 2) -> tuple[Array, Array]:
    """Places (rows, count) along the axes of largest variance, and each axis' share of it.

    Signs are such that the largest weight of an axis is positive: the same rows give the same map.
    """
    centred = rows - rows.mean(0, dtype=np.float64)
    squares = sum(centred[block].T @ centred[block] for block in blocks(len(rows)))
    values, axes = np.linalg.eigh(squares)
    chosen = axes[:, ::-1][:, :count]
    signs = np.sign(chosen[np.abs(chosen).argmax(0), np.arange(chosen.shape[1])])
    return centred @ (chosen * signs), values[::-1][:count] / max(float(values.sum()), 1e-12)


def draw_map(found: Embedded, rows: Array, chosen: list[int], path: Path) -> None:
    """A dot for every row, and pictures of the chosen ones."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    places, shares = principal(rows)
    figure = Figure(figsize=(SIDE, SIDE), layout="constrained", dpi=DOTS)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter(places[:, 0], places[:, 1], s=POINT, c="#0072b2", alpha=0.35, linewidths=0)
    for row in chosen:
        picture = thumbnail(found, row)
        zoom = THUMBNAIL * DOTS / max(picture.shape) * 72 / DOTS
        held = OffsetImage(np.repeat(picture[..., None], 3, axis=2), zoom=zoom)
        axes.add_artist(AnnotationBbox(held, tuple(places[row]), pad=0.05, bboxprops={"linewidth": 0.4}))
    axes.set_xlabel(f"first principal axis, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second, {shares[1]:.0%}")
    axes.set_title(f"{len(rows)} rows of {len(found.cache)} images; {len(chosen)} are shown", fontsize=10)
    replace_file(path, lambda stream: figure.savefig(stream, format="png", metadata={"Software": None}))


def thumbnail(found: Embedded, row: int) -> Array:
    """Rows of pixels as the encoder saw the image: the middle plane of a volume, the first channel."""
    volume = found.volume(row)
    planes = volume.planes
    part = volume if planes is None else planes[int(found.parts[row])]
    seen = found.seen.view(part)[0, 0].numpy()
    layers = LAYERS[seen.ndim]
    flat = seen.take(seen.shape[layers.planes[0]] // 2, axis=layers.planes[0]) if layers.planes else seen
    upwards = layers.upwards or planes is not None
    return np.asarray(flat.T[::-1] if upwards else flat.T)
