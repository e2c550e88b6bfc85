"""Whether a table made again agrees with the committed one: python agree.py NEW.csv COMMITTED.csv.

Every score and every difference of the one must lie in the other's 95 % interval, both ways. A line
without a score is missing.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

Row = dict[str, str]


def read(path: Path) -> dict[tuple[str, ...], Row]:
    """Lines with a score by task, arm, way and labels."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["score_mean"]]
    return {tuple(row[k] for k in ("task", "arm", "way", "labels")): row for row in rows}


def disagreements(one: Row, two: Row) -> list[str]:
    """Numbers of which one lies outside of the other's interval."""
    found = []
    for key in (key.removesuffix("_mean") for key in one if key.endswith("_mean")):
        if not one[f"{key}_mean"] or not two[f"{key}_mean"]:  # an arm has no difference to itself
            continue
        for mean, other in ((one, two), (two, one)):
            value, low, high = (float(row[f"{key}_{n}"]) for row, n in
                                ((mean, "mean"), (other, "low"), (other, "high")))  # fmt: skip
            if not low - 1e-9 <= value <= high + 1e-9:
                found.append(f"{key}: {value:.3f} is outside of [{low:.3f}, {high:.3f}]")
    return found


def main(new: Path, committed: Path) -> int:
    """Print what disagrees; 1 where something does."""
    ours, theirs = read(new), read(committed)
    absent = sorted(set(theirs) - set(ours))
    bad = {
        line: said
        for line in sorted(set(ours) & set(theirs))
        if (said := disagreements(ours[line], theirs[line]))
    }
    for line, said in bad.items():
        print(*line, "; ".join(said))
    print(f"{len(set(ours) & set(theirs))} lines compared, {len(bad)} disagree, {len(absent)} are missing")
    return int(bool(bad or absent))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
