"""Whether nearest neighbours agree better with a run's features than with those of random weights.

neighbours.py RUN DATA OUT: of volumes seen slice by slice, the position of the nearest slice of another
patient; of pictures with a labels.csv, the findings of the nearest pictures of other patients. Intervals are
bootstraps over patients of the paired difference.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import foveate
from foveate.commands.embed import likeness
from foveate.commands.embed.features import Embedded
from foveate.core.types import Array
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.weights import store as weights
from foveate.nets.weights.card import encoder_config

NEIGHBOURS = 10
COMMONEST = 6  # findings
DRAWS = 500


def untrained(run: str, folder: Path) -> Path:
    """The same card over random weights."""
    _, card = weights.read(run)
    torch.manual_seed(0)
    encoder = ENCODERS[card["encoder"]["name"]].build(encoder_config(card), card["dimension"])
    weights.save({"encoder": encoder}, card, folder / "exported")
    return folder


def near(found: Embedded) -> Array:
    """Rows of the nearest neighbours of other patients."""
    rows, _, _ = likeness.comparable(found.features, found.seen.columns)
    return likeness.nearest(rows, NEIGHBOURS, found.patients)[0]


def off_position(found: Embedded, neighbours: Array) -> Array:
    """Per row, how far the nearest neighbour's slice lies from its own, as shares of the volumes."""
    counts = np.bincount(found.images)
    place = found.parts / np.maximum(counts[found.images] - 1, 1)
    return np.abs(place[neighbours[:, 0]] - place)


def findings(data: Path, found: Embedded) -> dict[str, Array]:
    """Column -> 0 or 1 per image, the commonest ones."""
    path = data / "labels.csv" if data.is_dir() else data
    with path.open(encoding="utf-8") as stream:
        rows = {Path(row["image"]).name: row for row in csv.DictReader(stream)}
    own = [rows[Path(volume.relative).name] for volume in found.cache]
    known = [c for c in own[0] if all(row[c] in ("0", "1") for row in own)]
    columns = {c: np.array([int(row[c]) for row in own]) for c in known}
    return dict(sorted(columns.items(), key=lambda item: -item[1].sum())[:COMMONEST])


def label_score(labels: dict[str, Array], neighbours: Array, rows: Array) -> float:
    """Mean AUROC over findings of the share of neighbours that have it."""
    return float(np.mean([roc_auc_score(y[rows], y[neighbours[rows]].mean(1)) for y in labels.values()]))


def mean_of(values: Array, rows: Array) -> float:
    """Of some rows."""
    return float(values[rows].mean())


def interval(statistic: Callable[[Array], float], patients: Array) -> tuple[float, float]:
    """Of a statistic of rows, over patients drawn anew."""
    rng, groups = np.random.default_rng(0), [np.flatnonzero(patients == p) for p in np.unique(patients)]
    drawn = []
    for _ in range(DRAWS):
        picked = rng.integers(0, len(groups), len(groups))
        drawn.append(statistic(np.concatenate([groups[i] for i in picked])))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def main(run: str, data: Path, out: Path) -> None:
    """Both features, and their difference."""
    made = {"trained": Path(run), "random": untrained(run, out / "untrained")}
    found = {name: foveate.embed(run=each, data=data, out=out / name) for name, each in made.items()}
    pairs = {name: near(each) for name, each in found.items()}
    first = found["trained"]
    patients = first.patients
    every = np.arange(len(patients))
    if first.cache[0].planes is not None:
        off = {name: off_position(each, pairs[name]) for name, each in found.items()}
        scores = {name: partial(mean_of, values) for name, values in off.items()}
        what = "mean distance in position of the nearest slice of another patient (less is better)"
    else:
        labels = findings(data, first)
        scores = {name: partial(label_score, labels, each) for name, each in pairs.items()}
        what = f"mean AUROC of {', '.join(labels)} from {NEIGHBOURS} neighbours (more is better)"
    print(f"{what}; {len(every)} rows, {len(np.unique(patients))} patients")
    for name, score in scores.items():
        print(f"  {name:<10}{score(every):.4f}")
    low, high = interval(lambda rows: scores["trained"](rows) - scores["random"](rows), patients)
    print(f"  difference {scores['trained'](every) - scores['random'](every):+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
