"""The charts of a run: what its metrics.jsonl says, by what belongs together."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from foveate.core.types import Json
from foveate.pages.curves import Curve, chart
from foveate.pages.elements import Html, el, joined
from foveate.pages.page import Page
from foveate.runtime.report.written import Row

LOSS = "Loss"
CHARTS = (  # pattern of a key, title; what the pattern has in brackets is the curve's name
    (r"loss(?:/(.+))?", LOSS),
    (r"val/(.+)", "Validation"),
    (r"probe/(.+)", "Probe of frozen features"),
    (r"lr", "Learning rate"),
    (r"grad_norm(?:/(.+))?", "Length of the gradient"),
    (r"update_ratio", "Step size against weights"),
    (r"seconds_per_step", "Seconds per step"),
    (r"data_wait", "Share of time waiting for data"),
    (r"features/stride(\d+)/(.+)", "Health, features: {}"),
    (r"projections/stride(\d+)/(.+)", "Health, projections: {}"),
    (r"pull/(.+)", "Health: pull of each term on the encoder"),
    (r"restoration/[^/]+/(.+)", "Health, restoration: {}"),
    (r"ema_distance/(.+)", "Health: distance of the target network"),
    (r"pseudo/(.+)", "Health of pseudo-labels"),
)
SKIPPED = ("step", "health_seconds", "verdict")


def charts(page: Page, rows: Sequence[Row], *, health: bool) -> Html:
    """A chart for every group of numbers, of health or of what else is logged."""
    groups: dict[str, dict[str, Curve]] = {}
    for key in dict.fromkeys(key for row in rows for key in row if key not in SKIPPED):
        title, name = place_of(key)
        curve = curve_of(rows, key) if title.startswith("Health") == health else None
        if curve:
            groups.setdefault(title, {})[name] = curve
    order = [title.format("") for _, title in CHARTS]
    known = sorted(
        groups, key=lambda title: next((i for i, t in enumerate(order) if title.startswith(t)), 99)
    )
    drawn = [
        chart(page, title, groups[title], log=is_positive(groups[title]), dots=is_short(groups[title]))
        for title in known
    ]
    return el("div", joined(drawn), class_="two") if drawn else Html("")


def place_of(key: str) -> tuple[str, str]:
    """The chart of a key, and its name there.

    >>> place_of("features/stride4/std"), place_of("loss/region"), place_of("positives/whole")
    (('Health, features: std', 'scale 1/4'), ('Loss', 'region'), ('Health: other', 'positives/whole'))
    """
    for pattern, title in CHARTS:
        if match := re.fullmatch(pattern, key):
            words = [word for word in match.groups() if word is not None]
            if "stride" in pattern:
                return title.format(words[1]), f"scale 1/{words[0]}"
            if "restoration" in pattern:
                return title.format(words[0]), key.split("/")[1]
            return title, words[0] if words else ("all terms" if title == LOSS else key)
    return "Health: other", key


def curve_of(rows: Sequence[Row], key: str) -> Curve | None:
    """Steps and values of a key; None where there is no number."""
    points = [(row["step"], number(row[key])) for row in rows if key in row]
    steps, values = [float(str(step)) for step, _ in points], [value for _, value in points]
    return Curve(steps, values) if any(map(math.isfinite, values)) else None


def number(value: Json) -> float:
    """A value of a line; what is no number has none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def is_positive(curves: dict[str, Curve]) -> bool:
    """Whether all may be drawn over a logarithmic axis."""
    return all(y > 0 for curve in curves.values() for y in curve.y if math.isfinite(y))


def is_short(curves: dict[str, Curve]) -> bool:
    """Whether there are few enough points to mark them."""
    return max(len(curve.x) for curve in curves.values()) <= 40
