"""The table of all results that are there: Dice per volume, foveate against each opponent, Holm-corrected.

    python benchmarks/fewlabels/table.py [--ours foveate] [--times 1]

Differences are paired by patient over the seeds that both arms have, with `foveate.scoring.statistics`;
the family of the correction is all comparisons of the table. A cell without a result is "-": the benchmark
is then not finished.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence

import numpy as np

from cells import CELLS, RESULTS
from foveate.scoring.statistics import Estimate, by_patient, corrected, difference, estimate

Key = tuple[str, int]  # cell and labelled patients
Found = dict[Key, dict[str, dict[int, dict[str, object]]]]  # arm -> seed -> what was saved


def results(scale: float) -> Found:
    """Of one budget: 1 for 300 and 600 CPU seconds, 4 for four times that."""
    found: Found = {}
    for path in sorted(RESULTS.glob("*.json")):
        each = json.loads(path.read_text(encoding="utf-8"))
        if each["budget"] == scale * CELLS[each["cell"]].seconds:
            arms = found.setdefault((each["cell"], each["count"]), {})
            arms.setdefault(each["arm"], {})[each["seed"]] = each
    return found


def rows_of(seeds: Mapping[int, Mapping[str, object]], common: Sequence[int]) -> np.ndarray:
    """Dice (seeds, patients) on the test part."""
    rows = [by_patient(seeds[s]["test"], list(map(str, seeds[s]["patients"])))[1] for s in common]
    return np.stack(rows)


def shown(found: Estimate) -> str:
    """A mean and its interval."""
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] ({found.seeds})"


def compared(found: Found, ours: str) -> dict[tuple[Key, str], Estimate]:
    """Our arm minus every other where both have a seed, all corrected together."""
    names, each = [], []
    for key, arms in found.items():
        for arm, seeds in arms.items():
            common = sorted(set(seeds) & set(arms.get(ours, {})))
            if arm != ours and common:
                names.append((key, arm))
                each.append(difference(rows_of(arms[ours], common), rows_of(seeds, common)))
    return dict(zip(names, corrected(each), strict=True))


def table(found: Found, ours: str) -> str:
    """Markdown: a row for each cell, a column for each arm."""
    arms = sorted({arm for each in found.values() for arm in each}, key=lambda arm: (arm != ours, arm))
    lines = ["| cell | " + " | ".join(arms) + " |", "|---" * (1 + len(arms)) + "|"]
    differences = compared(found, ours)
    for name, cell in CELLS.items():
        for count in cell.counts:
            row = [f"{name} {count}"]
            for arm in arms:
                seeds = found.get((name, count), {}).get(arm)
                text = shown(estimate(rows_of(seeds, sorted(seeds)))) if seeds else "-"
                if ((name, count), arm) in differences:
                    against = differences[(name, count), arm]
                    text += f"; ours {against.mean:+.3f}, p {against.p_holm:.3f}"
                row.append(text)
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--ours", default="foveate")
    arguments.add_argument("--times", type=float, default=1, help="of the smaller budgets")
    given = arguments.parse_args()
    print(table(results(given.times), given.ours))
    print("\nMean Dice per test volume [95 % over patients and seeds] (seeds); p after Holm, over all.")


if __name__ == "__main__":
    main()
