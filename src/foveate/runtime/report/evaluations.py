"""The page of an evaluation: metrics with intervals, every case, the worst to look at, ROC, confusion."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from foveate.core.direction import is_less_better
from foveate.core.types import Array, Json
from foveate.pages.cases import Cell, case_table, read_number
from foveate.pages.curves import Curve, chart
from foveate.pages.elements import Html, Part, el, facts, folded, joined, table
from foveate.pages.page import Page
from foveate.pages.pictures import picture
from foveate.pages.plots import read_plots
from foveate.pages.scenes import read_scenes
from foveate.pages.viewer import viewer
from foveate.runtime.report.written import cells_of, inner, mapping_of
from foveate.scoring.figures import confusion, roc_points

SCENES, PLOTS = "worst.npz", "curves.json"
IDS = ("id", "patient", "fold")
AWAY = "distance to the label"
WORST_NOTE = "The cases with the worst scores. Label: outline; prediction: filled."


def add_evaluation(page: Page, folder: Path, name: str = "") -> None:
    """The sections of an evaluation."""
    summary = mapping_of(folder / "summary.json")
    head, rows = cells_of(folder / "cases.csv")
    before = f"{name}: " if name else ""
    page.add(f"{before}Summary", said(summary))
    page.add(f"{before}Scores", scores(summary.get("metrics")), *groups(summary.get("by")))
    page.add(f"{before}Cases", cases(page, head, rows, falling_of(summary)) if head else None)
    scenes = viewer(page, read_scenes(folder / SCENES))
    page.add(f"{before}Worst cases, slice by slice", el("p", WORST_NOTE) if scenes else None, scenes)
    page.add(f"{before}Answers", *answers(page, head, rows, summary))
    page.add(f"{before}Curves", *plots(page, folder / PLOTS))
    drawn = folder / "worst.png"
    page.add(
        f"{before}Worst cases, pictured", picture(page, drawn, "worst cases") if drawn.is_file() else None
    )


def said(summary: Mapping[str, Json]) -> Html:
    """What was scored."""
    note = summary.get("note")
    settings = summary.get("settings")
    pairs = [(key, summary.get(key)) for key in ("task", "part", "cases", "patients", "left_out")]
    pairs += [("listed places without a score", summary.get("places_without_score"))]
    pairs += [("hash of the training data", summary.get("weights_data_hash"))]
    rows = (
        [(key, json.dumps(value)) for key, value in settings.items()] if isinstance(settings, Mapping) else []
    )
    warning = el("div", el("p", el("b", str(note))), class_="verdict") if note else None
    known = [(key, ", ".join(map(str, v)) if isinstance(v, list) else v) for key, v in pairs]
    return joined(
        [warning, facts(known), folded("Settings", table(("key", "value"), rows)) if rows else None]
    )


def scores(metrics: Json, caption: str = "") -> Html:
    """Metrics with their intervals."""
    if not isinstance(metrics, Mapping) or not metrics:
        return Html("")
    rows = [
        (name, inner(metrics, name, "value"), inner(metrics, name, "low"), inner(metrics, name, "high"))
        for name in metrics
    ]
    head = ("metric", "value", "95 % from", "to")
    return table(head, rows, caption or "95 % intervals resample patients")


def groups(by: Json) -> list[Part]:
    """The same for every group of cases."""
    if not isinstance(by, Mapping):
        return []
    return [
        scores(
            inner(by, column, value, "metrics"),
            f"{column}: {value}, {inner(by, column, value, 'cases')} cases",
        )
        for column, members in by.items()
        for value in (members if isinstance(members, Mapping) else ())
    ]


def falling_of(summary: Mapping[str, Json]) -> list[str]:
    """Metrics of which less is better, as the evaluation's task says."""
    found = summary.get("less_is_better")
    return [str(name) for name in found] if isinstance(found, list) else []


def cases(
    page: Page, head: Sequence[str], rows: Sequence[Sequence[str]], less_is_better: Collection[str]
) -> Html:
    """Every case, the worst first: by the distance of an answer to its label, else by the first metric."""
    cells: list[list[Cell]] = [
        [text if name in IDS else read_number(text) for name, text in zip(head, row, strict=True)]
        for row in rows
    ]
    names = [name for name in head if name not in IDS]
    first = names[0] if names else head[0]
    if (wrong := mistakes(head, rows)) is not None:
        head, first = [*head, AWAY], AWAY
        cells = [[*row, value] for row, value in zip(cells, wrong, strict=True)]
    sort, falling = list(head).index(first), is_less_better(first, [*less_is_better, AWAY])
    return case_table(page, "Cases", head, cells, sort=sort, falling=falling)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], start: str) -> tuple[list[str], Array]:
    """Names and numbers of the columns whose name starts with a word; NaN where there is nothing."""
    places = [i for i, name in enumerate(head) if name.startswith(start)]
    numbers = [[float(row[i]) if row[i] else np.nan for i in places] for row in rows]
    return [head[i].removeprefix(start) for i in places], np.array(numbers).reshape(len(rows), len(places))


def mistakes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Cell] | None:
    """How far every answer for a whole image is from its label, where these can be told from each other."""
    (names, found), (targets, truth) = (columns(head, rows, start) for start in ("answer/", "label/"))
    if not names or not targets:
        return None
    if names == targets:
        return list(np.nan_to_num(np.abs(found - truth)).max(1).tolist())
    shares = softmax(found)
    known = np.nan_to_num(truth[:, 0], nan=0).astype(int).clip(0, len(names) - 1)
    return list((1 - shares[np.arange(len(rows)), known]).tolist())


def softmax(logits: Array) -> Array:
    """Shares of each row."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    shares: Array = raised / raised.sum(1, keepdims=True)
    return shares


def answers(
    page: Page, head: Sequence[str], rows: Sequence[Sequence[str]], summary: Mapping[str, Json]
) -> list[Part]:
    """ROC curves and confusion of answers for whole images."""
    (names, found), (targets, truth) = (columns(head, rows, start) for start in ("answer/", "label/"))
    if not names or not any(key.startswith("auroc") for key in metrics_of(summary)):
        return []
    one = len(targets) == 1 and names != targets
    known = ~np.isnan(truth[:, 0]) & (truth[:, 0] >= 0) if one else ~np.isnan(truth)
    curves, parts = {}, list[Part]()
    for k, name in enumerate(names):
        some = known if one else known[:, k]
        positive = truth[some, 0] == k if one else truth[some, k] > 0
        if positive.any() and not positive.all():
            curves[name] = roc_curve(found[some, k], positive)
    if curves:
        x, y = "false positive rate", "true positive rate"
        parts.append(chart(page, "ROC", curves, x=x, y=y, square=True))
    if one:
        counts = confusion(found[known].argmax(1), truth[known, 0], len(names))
        lines = [(f"true: {name}", *map(int, row)) for name, row in zip(names, counts, strict=True)]
        parts.append(table(("", *(f"answer: {name}" for name in names)), lines, "Confusion"))
    return parts


def plots(page: Page, path: Path) -> list[Part]:
    """Curves that the evaluation wrote, such as FROC of findings: each chart under its title."""
    return [
        chart(page, title, each.curves, x=each.x, y=each.y, log_x=each.log_x)
        for title, each in read_plots(path).items()
    ]


def roc_curve(scores_: Array, positive: Array) -> Curve:
    """Points of a ROC curve."""
    x, y = roc_points(scores_, positive)
    return Curve(x.tolist(), y.tolist())


def metrics_of(summary: Mapping[str, Json]) -> list[str]:
    """Names of the metrics."""
    found = summary.get("metrics")
    return list(found) if isinstance(found, Mapping) else []
