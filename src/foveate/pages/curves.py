"""Curves for a chart, with a bounded number of points: of every bucket of a long one its extremes stay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from foveate.core.types import Json
from foveate.pages.elements import Html
from foveate.pages.page import Page

BUCKETS = 240  # of a curve: two points of each, or fewer where it is short
MOST_CURVES = 8  # in one chart: so many colours can be told apart


class Curve(NamedTuple):
    """Points (x, y) in the order of x; NaN where there is none, which breaks the line."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()  # of an interval at every point
    high: Sequence[float] = ()


def thinned(curve: Curve) -> Curve:
    """At most two points of every bucket, its lowest and its highest, in their order."""
    if len(curve.x) <= 2 * BUCKETS or curve.low:
        return curve
    edges = [round(i * len(curve.x) / BUCKETS) for i in range(BUCKETS + 1)]
    kept = [0, len(curve.x) - 1]
    for start, end in pairwise(edges):
        known = [i for i in range(start, end) if math.isfinite(curve.y[i])]
        kept += (
            [min(known, key=curve.y.__getitem__), max(known, key=curve.y.__getitem__)] if known else [start]
        )
    places = sorted(set(kept))
    return Curve([curve.x[i] for i in places], [curve.y[i] for i in places])


def chart(
    page: Page,
    label: str,
    curves: Mapping[str, Curve],
    *,
    x: str = "step",
    y: str = "",
    log_x: bool = False,
    log: bool = False,
    dots: bool = False,
    square: bool = False,
    names: Sequence[str] = (),
) -> Html:
    """A chart with values under the pointer.

    Args:
        page: Where the data go.
        label: What it shows.
        curves: By name, for the legend; more than eight are drawn in several charts.
        x: Name of the horizontal axis.
        y: Of the vertical one.
        log_x: Whether the horizontal axis is logarithmic.
        log: Whether the vertical one may be.
        dots: Whether points are marked.
        square: Whether both axes go from 0 to 1 and are equally long.
        names: All curves of several charts, in one order: each has the same colour in all of them.
    """
    known = [name for name, curve in curves.items() if any(map(math.isfinite, curve.y))]
    order = list(names or known)
    groups: dict[int, list[str]] = {}
    for name in sorted(known, key=order.index):
        groups.setdefault(order.index(name) // MOST_CURVES, []).append(name)
    spec: dict[str, Json] = {
        "label": label, "x": x, "y": y, "logX": log_x, "log": log, "dots": dots, "square": square,
    }  # fmt: skip
    return Html(
        "".join(
            page.widget("chart", {**spec, "series": [series(n, curves[n], order.index(n)) for n in group]})
            for group in groups.values()
        )
    )


def series(name: str, curve: Curve, colour: int) -> Json:
    """A curve as the script reads it."""
    few = thinned(curve)
    return {
        "name": name,
        "colour": colour % MOST_CURVES,
        **{key: rounded(values) for key, values in few._asdict().items() if len(values)},
    }


def rounded(values: Sequence[float]) -> list[Json]:
    """Five digits are more than a chart shows; what is not finite is null."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]
