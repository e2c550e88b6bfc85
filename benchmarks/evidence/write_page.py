"""docs/evidence.md from the finished runs in results/: tables, curves, hours, what is not run.

    python benchmarks/evidence/write_page.py [PAGE]

Every figure of the page is computed from `results/GRID/cells/*.json`; nothing else is read but the grids.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.commands.compare.arms import LONG, SCRATCH
from foveate.commands.compare.cells import FACTS, rows_of
from foveate.commands.compare.config import SPEC, CompareConfig, TaskConfig
from foveate.commands.compare.grid import jobs_of
from foveate.commands.compare.report import hours_of, lines_from, plateau
from foveate.core import config as parsing
from foveate.core.files import read_json, replace_text
from foveate.scoring import tables
from foveate.scoring.comparison import EXPLORATORY, Line

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/evidence.md"
GRIDS = {
    "acdc": "Heart structures on cine MR (ACDC), slices of volumes: primary",
    "lidc": "Lung nodules in cubes of CT (LIDC), 3D: primary",
    "hippocampus": "Hippocampus on MR, 3D: a declared control, on which published methods gained nothing",
    "acdc_terms": "Which term carries it: method foveate without one of its terms, on ACDC",
}
HEAD = """# Does pre-training help?

Written by `python benchmarks/evidence/write_page.py` from the finished runs in
`benchmarks/evidence/results`; do not edit it. The grids are `benchmarks/evidence/*.yaml`; `make evidence`
runs them and goes on after a stop. How arms are kept equal is in [protocol](protocol.md), what intervals
mean in [statistics](statistics.md). Scores are means over the test patients, each looked at once by the
weights of the last step. *Resolves* is the smallest difference to scratch that the spread of its seeds does
not hide.
"""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid with what of it is finished."""

    config: CompareConfig
    cells: Sequence[dict[str, Any]]
    facts: dict[str, Any]

    @property
    def done(self) -> str:
        """How many runs are finished."""
        return f"{len(self.cells)} of {len(jobs_of(self.config))} runs"


def read(name: str, results: Path) -> Grid:
    """A grid and its finished runs."""
    for variable in ("FOVEATE_DATA", "FOVEATE_EVIDENCE"):
        os.environ.setdefault(variable, str(HERE))  # nothing is read there
    config = SPEC.resolve(parsing.read_yaml(HERE / f"{name}.yaml"), {"out": str(HERE)}, HERE)
    folder = results / name
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("cells/*.json"))}
    cells = [found[job.name] for job in jobs_of(config) if job.name in found]
    cells = [cell | ({"cases": rows_of(cell["cases"])} if "cases" in cell else {}) for cell in cells]
    return Grid(config=config, cells=cells, facts=read_json(folder / FACTS) or {})


def page(results: Path) -> str:
    """The whole page."""
    parts = [HEAD]
    for name, title in GRIDS.items():
        grid = read(name, results)
        for task_name, task in grid.config.tasks.items():
            parts.append(f"## {title}\n\n" + section(grid, name, task_name, task))
    return "\n".join(parts)


def section(grid: Grid, name: str, task_name: str, task: TaskConfig) -> str:
    """What is known of a task."""
    if not grid.cells:
        return f"Not run: 0 of {len(jobs_of(grid.config))} runs of `benchmarks/evidence/{name}.yaml`.\n"
    lines = [line for line in lines_from(grid.config, grid.cells, {}) if line.group[0] == task_name]
    protocol = grid.facts.get(task_name, {}).get("commit", "unknown")
    total = sum(cell["seconds"] for cell in grid.cells) / 3600
    dates = ", ".join(dict.fromkeys(cell["commit"] for cell in grid.cells))
    said = [
        f"{grid.done} are finished, {total:.1f} hours of training. Arms, splits, budgets and endpoint stood "
        f"at commit {protocol} before the first test score; runs were done at {dates}.",
        tables.as_markdown(rows_for(grid, task_name, task, lines)),
        curves(task, lines),
        plateau([cell for cell in grid.cells if cell["task"] == task_name]),
        limitation(grid, task),
    ]
    return "\n\n".join(filter(None, said)) + "\n"


def rows_for(grid: Grid, task_name: str, task: TaskConfig, lines: Sequence[Line]) -> list[list[str]]:
    """The table: a row for every arm and number of labels, those that are not run included."""
    hours = hours_of(grid.config, grid.cells)
    head = ["arm", f"labelled {task.count}", f"{task.metric} [95 %]", "trainings"]
    rows = [[*head, f"minus {SCRATCH}", f"minus {LONG}", "resolves", "hours of the arm"]]
    for line in lines:
        _, arm, _, labels = line.group
        if line.score is None:
            rows.append([arm, str(labels), "not run", "0", "", "", "", ""])
            continue
        wanted = sum(
            (job.kind, job.task, job.arm, job.labels) == ("test", task_name, arm, labels)
            for job in jobs_of(grid.config)
        )
        made = f"{line.score.seeds}" + (f" of {wanted}" if line.score.seeds < wanted else "")
        against = [tables.compared(line.against.get(each)) for each in (SCRATCH, LONG)]
        resolves = tables.resolving(line)
        shown = f"{line.score.mean:.3f} [{line.score.low:.3f}, {line.score.high:.3f}]"
        spent = f"{hours.get((task_name, arm), 0.0):.2f}"
        rows.append([arm, str(labels), shown, made, *against, resolves, spent])
    return rows


def curves(task: TaskConfig, lines: Sequence[Line]) -> str:
    """Label efficiency as text: an arm a row, its means by number of labels."""
    counts = sorted({line.group[3] for line in lines if line.score})
    if len(counts) < 2:
        return ""
    means: dict[str, dict[int, float]] = {}
    for line in lines:
        if line.score:
            means.setdefault(line.group[1], {})[line.group[3]] = line.score.mean
    rows = [["arm", *(f"{count} {task.count}" for count in counts)]]
    rows += [
        [arm, *("" if count not in found else f"{found[count]:.3f}" for count in counts)]
        for arm, found in means.items()
        if len(found) > 1
    ]
    return "Label efficiency:\n\n" + tables.as_markdown(rows) if len(rows) > 1 else ""


def limitation(grid: Grid, task: TaskConfig) -> str:
    """The main limitation, in one sentence."""
    pretrainings = len({c["pretrain_seed"] for c in grid.cells if c["kind"] == "pretrain"})
    sets = len({(c["pretrain_seed"], c.get("label_set", 0)) for c in grid.cells if c["kind"] == "test"})
    blind = "" if task.count == "patients" else "; that no patient has two images is not known"
    seen = f"{pretrainings or 'no'} pre-training{'s' * (pretrainings != 1)} of each method"
    drawn = f"at most {sets} labelled set{'s' * (sets != 1)} of each size"
    return (
        f"Main limitation: {seen} and {drawn}, so what other ones would have given is outside the intervals "
        f"or makes them wide; rows that cannot see {EXPLORATORY:g} are marked exploratory{blind}."
    )


def main(page_path: Path, results: Path) -> None:
    """Write the page."""
    replace_text(page_path, page(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE, HERE / "results")
