"""Whether a table made again agrees with the committed one: python agree.py NEW.csv COMMITTED.csv.

Both ask the same test patients, so only trainings tell the two apart. With two seeds a line's own interval is
now far too narrow, now far too wide to judge by; so the spread of trainings is pooled over the arms of a task
and number of labels, from both tables, and a line disagrees where the interval of new minus committed leaves
0 out. They hold for all lines together in 95 % of honest repeats (tests/benchmarks/test_agree.py).
Differences to a reference follow from the scores and are not asked again. A line without a score is
missing.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

from scipy.stats import t

Row = dict[str, str]
Line = tuple[str, str, str, str]  # task, way, labels, arm
CONFIDENCE = 0.95  # that no line of an honest repeat disagrees


def read(path: Path) -> dict[Line, Row]:
    """Lines with a score."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["score_mean"]]
    return {(row["task"], row["way"], row["labels"], row["arm"]): row for row in rows}


def reaches(new: dict[Line, Row], committed: dict[Line, Row]) -> dict[Line, float]:
    """How far new may lie from committed, for every line of both."""
    lines = sorted(set(new) & set(committed))
    squares, freedom = defaultdict[tuple[str, ...], float](float), defaultdict[tuple[str, ...], int](int)
    for line in lines:
        for row in (new[line], committed[line]):
            more = int(row["score_seeds"]) - 1
            squares[line[:3]] += more * float(row["score_seed_sd"] or 0) ** 2
            freedom[line[:3]] += more
    found = {}
    for line in lines:
        group = line[:3]
        if not freedom[group]:
            raise SystemExit(f"{' '.join(group)}: one seed each; two are needed to know how trainings spread")
        deviates = t.ppf(1 - (1 - CONFIDENCE) / 2 / len(lines), freedom[group])
        share = sum(1 / int(row["score_seeds"]) for row in (new[line], committed[line]))
        found[line] = float(deviates * (squares[group] / freedom[group] * share) ** 0.5)
    return found


def disagreeing(new: dict[Line, Row], committed: dict[Line, Row]) -> list[Line]:
    """Lines that lie further apart than they may."""
    return [
        line for line, reach in reaches(new, committed).items() if abs(moved(new, committed, line)) > reach
    ]


def moved(new: dict[Line, Row], committed: dict[Line, Row], line: Line) -> float:
    """New minus committed."""
    return float(new[line]["score_mean"]) - float(committed[line]["score_mean"])


def main(new: Path, committed: Path) -> int:
    """Print every line; 1 where one disagrees or is missing."""
    ours, theirs = read(new), read(committed)
    found, bad = reaches(ours, theirs), disagreeing(ours, theirs)
    for line, reach in found.items():
        verdict = "disagrees" if line in bad else "agrees"
        print(
            f"{' '.join(line):50} new - committed {moved(ours, theirs, line):+.3f} +-{reach:.3f}  {verdict}"
        )
    absent = sorted(set(theirs) - set(ours))
    for line in absent:
        print(*line, "is missing")
    print(f"{len(found)} lines compared, {len(bad)} disagree, {len(absent)} are missing")
    return int(bool(bad or absent or not found))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
