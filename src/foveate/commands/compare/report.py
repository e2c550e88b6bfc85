"""The report of a comparison, from the files that its runs left: tables, curves and the raw results."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from textwrap import shorten
from typing import Any

from foveate.commands.compare.arms import LONG, SCRATCH, ArmConfig
from foveate.commands.compare.config import CompareConfig
from foveate.commands.compare.folder import CELLS, FAILURES
from foveate.commands.compare.grid import Job, jobs_of, pretrained_on
from foveate.core.boxes.tasks import BoxConfig, Scan
from foveate.core.direction import compared_as
from foveate.core.files import read_json, replace_text
from foveate.core.tasks import ImageConfig, TaskConfig
from foveate.core.types import Dimension
from foveate.runtime.finetuned import task_config
from foveate.runtime.registries import TASKS
from foveate.runtime.report.build import write_page
from foveate.scoring import tables
from foveate.scoring.comparison import (
    EXPLORATORY,
    Group,
    Line,
    Result,
    Score,
    Scorer,
    lines_of,
    scores_of,
)
from foveate.scoring.figures import Point, draw_efficiency
from foveate.scoring.metrics import answer_metrics

REFERENCES = (SCRATCH, LONG)
PLATEAU = 0.01
RESOLVES = (
    "Resolves: the smallest difference to scratch that seeds alone do not hide, from the spread of scratch "
    f"over its seeds; a row that cannot see {EXPLORATORY:g} is exploratory, whatever it shows."
)
LONGEST = 140  # characters of a reason in a table; failures/ has the whole


def write(config: CompareConfig, out: Path) -> str:
    """Write the report of the runs finished so far; its Markdown for the terminal, and where its page is."""
    jobs = jobs_of(config)
    cells = [cell for job in jobs if (cell := read_json(out / CELLS / f"{job.name}.json"))]
    lines = lines_from(config, cells, notes_of(jobs, out))
    shown = tables.cells_of(lines, REFERENCES, hours_of(config, cells))
    text = "\n\n".join(f"## {task}\n\n{tables.as_markdown(rows)}" for task, rows in shown.items())
    text = f"{title(config)}{text}\n\n{foot(config, jobs, cells)}\n"
    replace_text(out / "results.json", "[\n" + ",\n".join(json.dumps(cell) for cell in cells) + "\n]\n")
    replace_text(out / "table.md", text)
    replace_text(out / "table.csv", tables.as_csv(lines, REFERENCES))
    replace_text(
        out / "table.tex", "\n\n".join(f"% {t}\n{tables.as_latex(rows)}" for t, rows in shown.items()) + "\n"
    )
    for task in config.tasks:
        draw(config, task, lines, out)
    return f"{text}\n\non one page: {write_page(out)}"


def lines_from(
    config: CompareConfig, cells: Sequence[dict[str, Any]], notes: Mapping[Group, str]
) -> list[Line]:
    """A line for every group of runs of a comparison, from the results of those that are finished."""
    results = [result_of(config, cell) for cell in cells if cell["kind"] == "test"]
    return lines_of(results, groups_of(jobs_of(config)), notes, REFERENCES, draws=config.grid.draws)


def title(config: CompareConfig) -> str:
    """What a reader must know before the tables; nothing where arms differ in their initial weights only."""
    if config.grid.allow_different != "inputs":
        return ""
    return "# Not a fair comparison: the images may be normalised differently in each arm\n\n"


def groups_of(jobs: Sequence[Job]) -> list[Group]:
    """The groups of runs, one per line of the table, in its order."""
    found = dict.fromkeys((j.task, j.arm, j.way, j.labels) for j in jobs if j.kind == "test")
    return sorted(found, key=lambda group: (group[0], group[2], group[3]))


def result_of(config: CompareConfig, cell: dict[str, Any]) -> Result:
    """The scores of a run."""
    metric, falling = config.tasks[cell["task"]].metric, falling_of(config, cell["task"])
    return Result(
        group=(cell["task"], cell["arm"], cell["way"], cell["labels"]),
        replicate=(cell["pretrain_seed"], cell.get("label_set", 0), cell["finetune_seed"]),
        scores=scores_of(cell["cases"], metric, score_of(cell), scorer_of(cell), less_is_better=falling),
        first_batch="" if config.arms.get(cell["arm"], ArmConfig()).other_scratch else cell["first_batch"],
    )


def falling_of(config: CompareConfig, task: str) -> tuple[str, ...]:
    """Metrics of which less is better, as the task that is learnt says."""
    return TASKS[str(config.tasks[task].finetune["task.name"])].Config.falling()


def score_of(cell: Mapping[str, Any]) -> Score | None:
    """How a run's task scores answers for whole images; None where its cases have their metrics."""
    if "answer" not in cell["cases"][0]:
        return None
    if "learnt" in cell:
        config = learnt(json.dumps(cell["learnt"]), cell["dimension"])
        assert isinstance(config, ImageConfig)
        return config.score
    names, activation = cell["class_names"], cell["activation"]  # of an earlier version
    return lambda answers, labels: answer_metrics(answers, labels, names, activation)


def scorer_of(cell: Mapping[str, Any]) -> Scorer | None:
    """How a run's task scores boxes; None where its cases have none."""
    if "boxes" not in cell["cases"][0]:
        return None
    config = learnt(json.dumps(cell["learnt"]), cell["dimension"])
    assert isinstance(config, BoxConfig)
    return config.scorer([Scan.from_numbers(case["boxes"]) for case in cell["cases"]])


@cache
def learnt(text: str, dimension: Dimension) -> TaskConfig:
    """The Config of a task for whole images or of one whose answers are boxes."""
    return task_config(json.loads(text), dimension, "none")


def notes_of(jobs: Sequence[Job], out: Path) -> dict[Group, str]:
    """Why runs of a group failed."""
    notes: dict[Group, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for job in jobs:
        if job.kind == "test" and (found := read_json(out / FAILURES / f"{job.name}.json")):
            notes[job.task, job.arm, job.way, job.labels][found["reason"]] += 1
    return {
        group: "; ".join(f"{n} failed: {shorten(reason, LONGEST)}" for reason, n in reasons.items())
        for group, reasons in notes.items()
    }


def hours_of(config: CompareConfig, cells: Sequence[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Hours of training by task and arm, with choices of learning rates and (also shared) pre-training."""
    hours: dict[tuple[str, str], float] = defaultdict(float)
    for cell in cells:
        before = cell["kind"] == "pretrain"
        users = [t for t in config.tasks if (pretrained_on(config, t) if before else t) == cell["task"]]
        arms = [arm for arm in config.arms if before and config.origin(arm) == cell["arm"]] or [cell["arm"]]
        for task, arm in product(users, arms):
            hours[task, arm] += cell["seconds"] / 3600
    return hours


def foot(config: CompareConfig, jobs: Sequence[Job], cells: Sequence[dict[str, Any]]) -> str:
    """What a reader of the table must know."""
    rates = dict.fromkeys(
        " ".join([f"{c['task']}/{c['arm']}/{c['way']}: {c['rate']:g}", *searched(c)])
        for c in cells
        if c["kind"] == "test"
    )
    steps = dict.fromkeys(
        f"{c['task']}/{c['arm']}: {c['steps']}" for c in cells if c["kind"] == "pretrain" or c["arm"] == LONG
    )
    compared = {name: compared_as(t.metric, falling_of(config, name)) for name, t in config.tasks.items()}
    metrics = ", ".join(f"{name}: {metric}" for name, metric in compared.items())
    words = {"cases": "cases, no patient known to have several", "patients": "patients"}
    counted = "; ".join(f"{name}: {words[task.count]}" for name, task in config.tasks.items())
    commits = ", ".join(dict.fromkeys(c["commit"] for c in cells))
    total = sum(c["seconds"] for c in cells) / 3600
    return "\n".join(
        [
            f"Scores: {metrics}. Seeds are replicates (pre-training seed x fine-tuning seed), each with its "
            "own labelled images; intervals are over patients and seeds, differences are paired, p is "
            "Holm-corrected within a task and a reference.",
            f"Labels are counted in {counted}.",
            RESOLVES,
            f"Learning rates: {', '.join(rates) or '-'}.",
            plateau(cells),
            f"Steps: {', '.join(steps) or '-'}.",
            f"{len(cells)} of {len(jobs)} runs, {total:.2f} hours of training; commit {commits or '-'}.",
        ]
    )


def searched(cell: Mapping[str, Any]) -> list[str]:
    """What was chosen beside the learning rate."""
    return [f"{key}={value}" for key, value in cell.get("searched", {}).items()]


def plateau(cells: Sequence[dict[str, Any]]) -> str:
    """Which arms were still getting better when they ended: the mean over their runs, by number of labels."""
    gains: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        if cell["kind"] == "test" and "late_gain" in cell:
            gains[f"{cell['task']}/{cell['arm']}/{cell['way']}/{cell['labels']}"].append(cell["late_gain"])
    if not gains:
        return "Whether trainings were long enough was not checked."
    means = {name: sum(each) / len(each) for name, each in gains.items()}
    found = ", ".join(f"{name} {mean:+.3f}" for name, mean in means.items() if mean > PLATEAU) or "none"
    return (
        f"Gained more than {PLATEAU:g} in the last fifth of the training (validation, train longer): {found}."
    )


def draw(config: CompareConfig, task: str, lines: Sequence[Line], out: Path) -> None:
    """Label efficiency as PNG and SVG, where there is something to draw."""
    curves: dict[str, list[Point]] = {}
    for line in lines:
        name, arm, way, labels = line.group
        if line.score and (name, way) == (task, "full"):
            score = line.score
            curves.setdefault(arm, []).append(Point(labels, score.mean, score.low, score.high))
    ordered = {arm: curves[arm] for arm in config.everyone if arm in curves}
    if ordered:
        for kind in ("png", "svg"):
            metric = compared_as(config.tasks[task].metric, falling_of(config, task))
            ylabel = f"{metric} on the test images"
            xlabel = f"labelled training {config.tasks[task].count}"
            draw_efficiency(out / f"curves-{task}.{kind}", ordered, xlabel, ylabel)
