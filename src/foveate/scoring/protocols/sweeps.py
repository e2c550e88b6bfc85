"""Sweeps: frames in order. Answers are averaged over neighbours; the best frame of each plane is sought."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from foveate.core.types import Array, FoveateError
from foveate.data.readers.suffixes import suffix_of
from foveate.scoring.metrics import NAN, known_labels, mean

LAST_NUMBER = re.compile(r"(?s)(.*?)([0-9]+)([^0-9]*)")


class Frame(NamedTuple):
    """Where an image stands among others."""

    sweep: Hashable  # equal for the images of one sweep
    number: int  # its place in time


def frame_of(relative: str) -> Frame:
    """The place of an image by its path: images of one sweep differ in the last number of their names alone.

    >>> frame_of("a/sweep2_017.png"), frame_of("b/cine#3.nii.gz"), frame_of("c/us.png")
    (Frame(sweep='a/sweep2_*', number=17), Frame(sweep='b/cine#*', number=3), Frame(sweep='c/us*', number=0))
    """
    path = PurePosixPath(relative)
    stem = path.name[: len(path.name) - len(suffix_of(Path(path.name)))]
    found = LAST_NUMBER.fullmatch(stem)
    before, number, after = found.groups() if found else (stem, "0", "")
    return Frame(path.with_name(f"{before}*{after}").as_posix(), int(number))


def in_order(frames: Sequence[Frame]) -> Iterator[list[int]]:
    """Indices of the frames of every sweep, in the order of their numbers."""
    sweeps: dict[Hashable, list[int]] = {}
    for i, frame in enumerate(frames):
        sweeps.setdefault(frame.sweep, []).append(i)
    for members in sweeps.values():
        yield sorted(members, key=lambda i: frames[i].number)


def check_smoothing(count: int) -> None:
    """Refuse a number of frames that has no middle."""
    if count < 1 or count % 2 == 0:
        raise FoveateError(f"--smooth_frames {count}: accepted are odd numbers, 1 for no smoothing.")


def smoothed(answers: Array, frames: Sequence[Frame], count: int) -> Array:
    """Answers (N, K), each the mean over `count` frames of its sweep around it; fewer at the ends."""
    found, reach = np.array(answers, dtype=np.float64), count // 2
    for members in in_order(frames):
        for place, i in enumerate(members):
            found[i] = answers[members[max(0, place - reach) : place + reach + 1]].mean(0)
    return found


def retrieved(
    answers: Array, labels: Array, frames: Sequence[Frame], names: Sequence[str], planes: Sequence[str]
) -> dict[str, Array]:
    """Of every plane, which frames are the best of their sweeps (N,): 1 where it is that plane, 0 where not.

    NaN stands for all others, and for a sweep that says nothing: without a frame of that plane, or without
    another. Frames of one score give the earliest; those without a label are not looked at.
    """
    known = known_labels(labels)
    found = {plane: np.full(len(labels), NAN) for plane in planes}
    for members in in_order(frames):
        seen = [i for i in members if known[i]]
        for plane, column in found.items():
            k = list(names).index(plane)
            if 0 < sum(labels[i] == k for i in seen) < len(seen):
                best = max(seen, key=lambda i: float(answers[i, k]))
                column[best] = float(labels[best] == k)
    return found


def retrieval(found: Mapping[str, Array], picked: Array) -> dict[str, float]:
    """Share of sweeps whose best frame is right, for every plane; their mean, and how many sweeps there were.

    A sweep that was drawn twice has its best frame twice.
    """
    rows = {f"retrieval/{plane}": mean(column[picked]) for plane, column in found.items()}
    counts = {
        f"n/retrieval/{plane}": float((~np.isnan(column[picked])).sum()) for plane, column in found.items()
    }
    return {"retrieval": mean(list(rows.values())), **rows, **counts}
