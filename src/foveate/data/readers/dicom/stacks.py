"""Which slices form a volume: grouped by geometry, sorted along the normal, split where a step breaks.

Pure geometry on headers. A slice that repeats a place belongs to another volume of the same series (a time
point, an echo) or is a copy; a gap ends one volume and begins the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from foveate.data.readers.dicom.header import Header

FEWEST_SLICES = 4  # less is a localizer or a fragment
SAME_DIRECTION, SAME_SPACING = 1e-3, 1e-3  # cosines apart; a share
SAME_PLACE_MM = 1e-2
OVERLAPS = 1.2  # a slice that is so much thicker than the step to the next one shows a part of it, too
STEP_TOLERANCE = 0.1  # share of a step by which positions may be off, which rounding in headers needs

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices of one volume in order along the normal; `note` says why the series has more than one."""

    headers: tuple[Header, ...]
    note: str = ""


def stacks(headers: Sequence[Header]) -> list[Stack]:
    """The volumes and fragments of one series, copies dropped; each needs orientation and position."""
    named: dict[tuple[str, Sequence[float]], Header] = {}
    for header in reversed(headers):
        # Some anonymisers give all slices one name; of copies the largest: a transfer that broke is cut off.
        key = (header.instance or str(header.path), header.position)
        if key not in named or header.file_bytes >= named[key].file_bytes:
            named[key] = header
    distinct = list(named.values())
    copies = "copies dropped" if len(distinct) < len(headers) else ""
    groups = by_geometry(distinct)
    mixed = "mixed orientations or sizes" if len(groups) > 1 else ""
    found: list[Stack] = []
    for group in groups:
        runs, note = split(group)
        words = ", ".join(word for word in (mixed, note, copies) if word)
        found.extend(Stack(tuple(run), words) for run in runs)
    return found


def by_geometry(headers: Sequence[Header]) -> list[list[Header]]:
    """Groups of equal size, spacing and orientation, the last two within the noise of headers."""
    groups: list[list[Header]] = []
    for header in headers:
        home = next((group for group in groups if _same_geometry(group[0], header)), None)
        if home is None:
            groups.append([header])
        else:
            home.append(header)
    return groups


def _same_geometry(one: Header, other: Header) -> bool:
    return (
        (one.rows, one.columns) == (other.rows, other.columns)
        and np.allclose(one.orientation, other.orientation, rtol=0, atol=SAME_DIRECTION)
        and len(one.spacing) == len(other.spacing)
        and np.allclose(one.spacing, other.spacing, rtol=SAME_SPACING, atol=0)
    )


def split(group: Sequence[Header]) -> tuple[list[list[Header]], str]:
    """Runs of slices a constant step apart, and what broke the group apart."""
    acquired = _acquisitions(group)
    layers = [layer for part in acquired for layer in _layers(part)]
    runs = [run for layer in layers for run in _constant_steps(layer)]
    notes = (
        "acquisitions between each other's slices" if len(acquired) > 1 else "",
        "repeated slices" if len(layers) > len(acquired) else "",
        "gaps" if len(runs) > len(layers) else "",
    )
    return runs, ", ".join(note for note in notes if note)


def _acquisitions(group: Sequence[Header]) -> list[list[Header]]:
    """One part for each acquisition where their slices lie between each other's and overlap; else all in one.

    Slices that an interleaved scan takes in turns are as thick as their step, and stay together.
    """
    normal = normal_of(group[0].orientation)
    ordered = sorted(group, key=lambda header: float(np.dot(header.position, normal)))
    steps = np.diff([float(np.dot(header.position, normal)) for header in ordered])
    numbers = [header.order[0] for header in ordered]
    turns = sum(a != b for a, b in pairwise(numbers))
    repeated = len(steps) == 0 or float(steps.min()) < SAME_PLACE_MM
    if repeated or turns < len(steps) / 2 or min(Counter(numbers).values()) < FEWEST_SLICES:
        return [list(group)]
    if min(header.thickness for header in group) <= OVERLAPS * float(np.median(steps)):
        return [list(group)]
    return [[header for header in group if header.order[0] == each] for each in sorted(set(numbers))]


def normal_of(orientation: Sequence[float]) -> Floats:
    """The direction in which slices follow each other."""
    return np.cross(orientation[:3], orientation[3:])


def _layers(group: Sequence[Header]) -> list[list[Header]]:
    """The first slice at every place, then the second at every place that has one, and so on."""
    normal = normal_of(group[0].orientation)
    along = np.array([float(np.dot(header.position, normal)) for header in group])
    ranks = np.argsort(along, kind="stable")
    place = np.empty(len(group), dtype=np.int64)
    place[ranks] = np.concatenate([[0], np.cumsum(np.diff(along[ranks]) >= SAME_PLACE_MM)])
    layers: dict[int, list[Header]] = {}
    seen: Counter[int] = Counter()
    for i in sorted(range(len(group)), key=lambda i: (int(place[i]), group[i].order)):
        layers.setdefault(seen[int(place[i])], []).append(group[i])
        seen[int(place[i])] += 1
    return [layers[depth] for depth in sorted(layers)]


def _constant_steps(layer: Sequence[Header]) -> list[list[Header]]:
    runs: list[list[Header]] = []
    for header in layer:
        run = runs[-1] if runs else []
        if run and (len(run) == 1 or _continues(run, header)):
            run.append(header)
        elif len(run) == 2:  # the gap lay between those two
            runs.append([run.pop(), header])
        else:
            runs.append([header])
    return runs


def _continues(run: Sequence[Header], header: Header) -> bool:
    """Whether a slice lies one more step on, the step being the mean of the run so far."""
    step = np.subtract(run[-1].position, run[0].position) / (len(run) - 1)
    there = np.subtract(header.position, run[-1].position)
    return float(np.linalg.norm(there - step)) <= STEP_TOLERANCE * float(np.linalg.norm(step))


def step_of(positions: Sequence[Sequence[float]]) -> Floats:
    """The mean vector from one slice to the next; it may lean where the gantry was tilted."""
    return np.subtract(positions[-1], positions[0]) / (len(positions) - 1)


def affine_of(
    orientation: Sequence[float], spacing: Sequence[float], positions: Sequence[Sequence[float]]
) -> Floats:
    """From (column, row, slice) to LPS millimetres."""
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(orientation[:3], spacing[1])
    affine[:3, 1] = np.multiply(orientation[3:], spacing[0])
    affine[:3, 2] = step_of(positions)
    affine[:3, 3] = positions[0]
    return affine
