"""The page of a comparison, finished or not: its tables, label efficiency, every run, what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from foveate.core.types import Json
from foveate.pages.cases import Cell, case_table
from foveate.pages.curves import Curve, chart
from foveate.pages.elements import Html, Part, el, joined, table
from foveate.pages.page import Page
from foveate.runtime.report.runs import verdicts
from foveate.runtime.report.written import cells_of, mapping_of, rows_of

CELLS, FAILURES, RUNS, TABLE = "cells", "failures", "runs", "table.csv"
RUN_COLUMNS = (
    "task",
    "kind",
    "arm",
    "way",
    "labels",
    "pretrain_seed",
    "finetune_seed",
    "validation",
    "steps",
)
LATER = (
    "Runs that were finished after these tables were written, or before there were any: {}. The command of "
    "the comparison, given again, goes on and writes them."
)


def add_comparison(page: Page, folder: Path, name: str = "") -> None:
    """The sections of a comparison."""
    before = f"{name}: " if name else ""
    cells = {path.stem: mapping_of(path) for path in sorted((folder / CELLS).glob("*.json"))}
    page.head += unhealthy(folder, before)
    head, rows = cells_of(folder / TABLE)
    lines = [dict(zip(head, row, strict=True)) for row in rows]
    page.add(f"{before}Results", older(folder), *results(page, lines), foot(folder))
    page.add(f"{before}Failures", failures(folder))
    page.add(f"{before}Runs", runs(page, cells) if cells else None)


def unhealthy(folder: Path, before: str) -> list[Part]:
    """Verdicts of its runs."""
    found: list[Part] = []
    for run in sorted((folder / RUNS).glob("*")):
        found += verdicts(
            rows_of(run / "metrics.jsonl"), mapping_of(run / "run.yaml"), f"{before}{run.name}: "
        )
    return found


def older(folder: Path) -> Part:
    """A note where runs are finished that the tables do not know."""
    path = folder / TABLE
    written = path.stat().st_mtime if path.is_file() else 0.0
    later = sum(each.stat().st_mtime > written for each in (folder / CELLS).glob("*.json"))
    return el("p", LATER.format(later), class_="note") if later else None


def results(page: Page, lines: Sequence[Mapping[str, str]]) -> list[Part]:
    """Of every task a table and its curves over the number of labels."""
    parts: list[Part] = []
    for task in dict.fromkeys(line["task"] for line in lines):
        mine = [line for line in lines if line["task"] == task]
        references = [
            k.removesuffix("_mean") for k in mine[0] if k.startswith("minus_") and k.endswith("_mean")
        ]
        head = ["arm", "way", "labels", "score [95 %]"]
        head += [word.replace("minus_", "minus ") for word in references]
        rows = [row_of(line, references) for line in mine]
        parts += [el("h3", task), efficiency(page, mine), table([*head, "resolves", "note"], rows, task)]
    return parts


def row_of(line: Mapping[str, str], references: Sequence[str]) -> list[Part]:
    """A line of a table for people."""
    against = [joined([interval(line, name), *said_of(line, name)]) for name in references]
    known = [line["arm"], line["way"], line["labels"], interval(line, "score")]
    resolves = f"{float(line['resolves']):.3f}" if line["resolves"] else ""
    return [*known, *against, resolves, line["note"]]


def said_of(line: Mapping[str, str], name: str) -> list[Part]:
    """The corrected p of a difference, and its verdict."""
    p, verdict = line.get(f"{name}_p_holm", ""), line.get(f"{name}_verdict", "")
    corrected = [el("br"), f"p = {float(p):.3g} (Holm)"] if p else []
    return [*corrected, el("br"), verdict] if verdict else []


def interval(line: Mapping[str, str], name: str) -> str:
    """A mean with its interval."""
    cells = [line.get(f"{name}_{part}", "") for part in ("mean", "low", "high")]
    if not cells[0]:
        return "-"
    sign = "+" if name.startswith("minus_") else ""
    mean, low, high = (format(float(each or "nan"), f"{sign}.3f") for each in cells)
    return f"{mean} [{low}, {high}]"


def efficiency(page: Page, lines: Sequence[Mapping[str, str]]) -> Html:
    """Scores over the number of labels, a curve with intervals for every arm."""
    drawn, arms = [], list(dict.fromkeys(line["arm"] for line in lines))
    for way in dict.fromkeys(line["way"] for line in lines):
        curves: dict[str, Curve] = {}
        for arm in arms:
            known = [n for n in lines if (n["arm"], n["way"]) == (arm, way) and n["score_mean"]]
            known = sorted(known, key=lambda line: int(line["labels"]))
            cells = [[float(n[f"score_{part}"] or "nan") for n in known] for part in ("mean", "low", "high")]
            if known:
                curves[arm] = Curve([float(n["labels"]) for n in known], *cells)
        if curves:
            title = f"{lines[0]['task']}, {way}: score over labels"
            x = "labelled training cases"
            drawn.append(chart(page, title, curves, x=x, log_x=True, dots=True, names=arms))
    return el("div", joined(drawn), class_="two") if drawn else Html("")


def foot(folder: Path) -> Part:
    """What a reader of the tables must know, as the comparison wrote it."""
    try:
        text = (folder / "table.md").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line and not line.startswith(("|", "## "))]
    return joined(el("p", line.removeprefix("# ")) for line in lines)


def failures(folder: Path) -> Part:
    """Runs that failed, and why."""
    found = [
        (path.stem, mapping_of(path).get("reason")) for path in sorted((folder / FAILURES).glob("*.json"))
    ]
    return table(("run", "reason"), found, "Runs that failed") if found else None


def runs(page: Page, cells: Mapping[str, Mapping[str, Json]]) -> Html:
    """Every finished run."""
    rows: list[list[Cell]] = [
        [name, *(cell_of(each.get(key)) for key in RUN_COLUMNS), minutes(each)]
        for name, each in cells.items()
    ]
    return case_table(page, "Finished runs", ["run", *RUN_COLUMNS, "minutes"], rows)


def minutes(cell: Mapping[str, Json]) -> Cell:
    """How long a run took."""
    seconds = cell.get("seconds")
    return seconds / 60 if isinstance(seconds, int | float) else None


def cell_of(value: Json) -> Cell:
    """A fact of a run as a cell."""
    return value if isinstance(value, str | int | float) or value is None else str(value)
