"""FROC: sensitivity against false alarms per scan, and their mean over seven rates (CPM), by LUNA16's rule.

A mark hits a finding where its centre lies inside of it: nearer to its centre than its radius; of a box with
unequal sides, inside the ellipsoid that fits into it. A finding counts once, with the surest mark that hits
it; further marks on it are neither found nor false. A mark may hit two findings. A mark that hits no finding
and lies in one that is ignored counts as nothing; every other one is a false alarm. Scans without findings
count among the scans. Marks beyond the `MOST_MARKS` surest of a scan are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveate.core.boxes.geometry import depth_within
from foveate.core.boxes.tasks import Scan

Floats = NDArray[np.float64]
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false alarms per scan at which CPM reads the curve
MOST_MARKS = 100  # of a scan


class Events(NamedTuple):
    """What the marks of one scan are."""

    hits: Floats  # score with which each finding is found; minus infinity where it is missed
    false: Floats  # scores of false alarms


def events_of(scan: Scan) -> Events:
    """Hits and false alarms of a scan."""
    marks = scan.found.best_first().picked(np.arange(min(MOST_MARKS, len(scan.found))))
    hit = (depth_within(marks.centre, scan.truth) < 1) & (marks.label[:, None] == scan.truth.label[None])
    scores = np.where(hit, marks.score[:, None], -np.inf)
    ignored = (depth_within(marks.centre, scan.ignored) < 1).any(1)
    return Events(scores.max(0, initial=-np.inf), marks.score[~hit.any(1) & ~ignored])


class Curve(NamedTuple):
    """The points of a FROC curve as the threshold falls, from (0, 0) on; equal scores are one step."""

    false: Floats  # alarms per scan
    sensitivity: Floats


def curve_of(events: Sequence[Events]) -> Curve:
    """The curve of some scans; sensitivity is not a number where there is no finding."""
    hits = np.concatenate([each.hits for each in events]) if events else np.zeros(0)
    false = np.concatenate([each.false for each in events]) if events else np.zeros(0)
    found = hits[np.isfinite(hits)]
    scores = np.concatenate([found, false])
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    is_hit = np.r_[np.ones(len(found)), np.zeros(len(false))][order]
    sensitivity = np.r_[0.0, np.cumsum(is_hit)[last]] / (len(hits) or np.nan)
    return Curve(np.r_[0.0, np.cumsum(1 - is_hit)[last]] / max(1, len(events)), sensitivity)


def sensitivity_at(curve: Curve, rates: Sequence[float] = RATES) -> Floats:
    """Sensitivity at rates of false alarms: linear between points, as far as it goes beyond the last one."""
    return np.asarray(np.interp(rates, curve.false, curve.sensitivity))


def froc_metrics(events: Sequence[Events]) -> dict[str, float]:
    """`cpm`, and the sensitivities that it is the mean of."""
    found = sensitivity_at(curve_of(events))
    named = {f"sensitivity/{rate:g}": float(value) for rate, value in zip(RATES, found, strict=True)}
    return {"cpm": float(found.mean()), **named}
