"""Evaluation: a fine-tuned run on labelled images, case by case, with intervals over patients."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foveate.commands.evaluate.boxed import Rows
from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.cohort import load_cohort, out_of_fold
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.groups import groups_of, lines_of, subgroups
from foveate.commands.evaluate.listed import boxes_given
from foveate.commands.evaluate.scores import Statistic, judge, judge_found
from foveate.commands.evaluate.unrun import cohort_without_run
from foveate.core import config as parsing
from foveate.core.files import csv_text, plain, replace_text
from foveate.core.types import Array, Ending, FoveateError
from foveate.nets.weights import store as weights
from foveate.runtime.config import RANDOM_WEIGHTS
from foveate.runtime.finetuned import Model, memory_explained, open_model
from foveate.runtime.folder import runs_in
from foveate.runtime.inputs.unfit import Kind, kind_of, refuse_unfit
from foveate.runtime.report.build import write_page
from foveate.runtime.resources.gpus import take_gpu
from foveate.scoring.protocols.sweeps import check_smoothing
from foveate.scoring.statistics import bca_interval
from foveate.train.logging import say

SHOWN = (
    "mean_fg_dice",
    "auroc",
    "r2",
    "mae",
    "c_index",
    "map",
    "cpm",
    "wall_mm",
    "rate_1cm",
)  # of subgroups in the terminal; summary.json has all
OUT_OF_FOLD = (
    "every image is scored by the network that was not trained on it; but its fold chose the checkpoint, so "
    "these scores are somewhat optimistic"
)
OF_TABLE = "these are scores of boxes of a table, not of those that the run's network finds"
OF_NETWORK = ("accelerator", "gpu", "mirror", "precision", "window")  # settings without effect on a table
NO_TEST = (
    "the run's split has no test part: scored on the validation images, which chose the checkpoint, so these "
    "scores are optimistic. Keep images for a test with `foveate finetune --split.test_share 0.2`"
)


def run_evaluate(config: EvaluateConfig) -> Ending:
    """Evaluate; the exit code is 1 if an image could not be used."""
    return Ending.FINISHED if evaluate(config) else Ending.INCOMPLETE


def evaluate(config: EvaluateConfig) -> bool:
    """Score a run and write the results; True if every image could be used."""
    refuse_idle(config)
    if config.run == RANDOM_WEIGHTS:
        refuse_unfit(config, EvaluateConfig(), ["table"])
        return evaluated_without_run(config)
    take_gpu(config.accelerator, config.gpu)
    runs = runs_in(config.run)
    folded = len(runs) > 1 and config.part in ("auto", "val")
    named: list[list[str]] = [[run] for run in runs] if folded else [runs]
    models = [open_model(some, config.accelerator, config.precision) for some in named]
    kinds: list[Kind] = ["table"] if config.predictions else [kind_of(model.task) for model in models]
    refuse_unfit(config, EvaluateConfig(), kinds)
    with memory_explained(models[0].device, "while the images were evaluated"):
        cohort = out_of_fold(config, runs, models) if folded else load_cohort(config, runs, models[0])
        return evaluated(config, runs, models, cohort)


def refuse_idle(config: EvaluateConfig) -> None:
    """Refuse keys that would have no effect."""
    if config.run != RANDOM_WEIGHTS and config.task != EvaluateConfig.task:
        raise FoveateError(f"--task {config.task}: accepted with --run none; a run has a task of its own.")
    if config.run != RANDOM_WEIGHTS and config.source != EvaluateConfig().source:
        raise FoveateError(
            f"--source {config.source.name}: accepted with --run none; a run has a source of its own."
        )
    if not config.predictions and (config.frame, config.unit, config.diameter) != ("stated", "stated", 0):
        raise FoveateError(
            "--frame, --unit, --diameter: accepted with --predictions, whose numbers they describe; those of "
            "the labels are --boxes.frame, --boxes.unit and --boxes.diameter."
        )
    check_smoothing(config.smooth_frames)
    if config.diameter < 0:
        raise FoveateError(f"--diameter {config.diameter:g}: accepted are numbers from 0.")


def evaluated(config: EvaluateConfig, runs: Sequence[str], models: Sequence[Model], cohort: Cohort) -> bool:
    """The same with the models of the runs, and the images."""
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    rows, statistic, extra = judge(config, models, cohort, out)
    for words in filter(None, (model.spared() for model in models)):
        say(words)
    first = models[0]
    about: dict[str, Any] = {
        "note": note_on(config, cohort),
        "task": first.card["task"]["name"],
        "class_names": list(first.task.class_names),
        "less_is_better": list(first.task.config.falling()),
        "settings": settings_of(config),
    }
    if not config.predictions:
        about["weights_data_hash"] = hashes_of(runs, first)
        about["settings"]["precision"] = first.precision
    return written(config, cohort, rows, statistic, {**about, **extra})


def hashes_of(runs: Sequence[str], first: Model) -> str | list[str] | None:
    """The hash of the data that the weights were trained on; of several runs a list."""
    if len(runs) > 1:
        return [weights.read(run)[1]["data_hash"] for run in runs]
    only: str | None = first.card["data_hash"]
    return only


def note_on(config: EvaluateConfig, cohort: Cohort) -> str:
    """What a reader must know of the scores of a run; "" where that is nothing."""
    if config.predictions:
        return OF_TABLE
    if cohort.owners:
        return OUT_OF_FOLD
    return NO_TEST if config.part == "auto" and cohort.part == "val" else ""


def evaluated_without_run(config: EvaluateConfig) -> bool:
    """The same of boxes that another detector has found."""
    out = Path(config.out)
    cohort, task = cohort_without_run(config)
    out.mkdir(parents=True, exist_ok=True)
    found = boxes_given(config, cohort, task.names)
    rows, statistic, extra = judge_found(config, task, found, cohort, out)
    about: dict[str, Any] = {
        "note": "",
        "task": task.name,
        "class_names": list(task.names),
        "less_is_better": list(task.falling()),
        "settings": settings_of(config),
    }
    return written(config, cohort, rows, statistic, {**about, **extra})


def settings_of(config: EvaluateConfig) -> dict[str, Any]:
    """What was asked for, without paths and without keys that say nothing here."""
    left_out = {"run", "data", "out", "predictions", "boxes"}
    left_out |= set(OF_NETWORK) if config.predictions else {"frame", "unit", "diameter"}
    left_out |= set() if config.run == RANDOM_WEIGHTS else {"task", "source"}
    return {key: value for key, value in parsing.to_mapping(config).items() if key not in left_out}


def written(
    config: EvaluateConfig, cohort: Cohort, rows: Rows, statistic: Statistic, about: Mapping[str, Any]
) -> bool:
    """Write the table of cases, the summary and the page; True if every image could be used."""
    out = Path(config.out)
    write_cases(out / "cases.csv", cohort, rows)
    groups, intervals = (
        groups_of(config.by, cohort.values, cohort.patients),
        partial(with_intervals, config=config),
    )
    summary = {
        "part": cohort.part,
        "cases": len(rows),
        "patients": len(set(cohort.patients)),
        "left_out": cohort.left_out,
        **about,
        "metrics": with_intervals(statistic, cohort.patients, config),
        **({"by": subgroups(groups, statistic, cohort.patients, intervals)} if groups else {}),
    }
    text = json.dumps(plain(summary), indent=1, allow_nan=False) + "\n"
    replace_text(out / "summary.json", text)
    say(f"{table_of(summary)}\non one page: {write_page(out, images=config.with_images)}", lines=True)
    return not cohort.left_out


def with_intervals(
    statistic: Statistic, patients: Sequence[str], config: EvaluateConfig
) -> dict[str, dict[str, float]]:
    """Every metric with its 95 % bootstrap interval over patients."""
    value = statistic(np.arange(len(patients)))
    drawn: dict[bytes, dict[str, float]] = {}

    def one(key: str) -> Callable[[Array], float]:
        def compute(picked: Array) -> float:
            name = picked.tobytes()
            if name not in drawn:  # all metrics of a draw at once: every key sees the same draws
                drawn[name] = statistic(picked)
            return drawn[name][key]

        return compute

    answer = {}
    for key, number in value.items():
        counts = key == "n" or key.startswith("n/")
        low, high = (
            (math.nan, math.nan)
            if counts
            else bca_interval(one(key), patients, seed=config.seed, draws=config.draws)
        )
        answer[key] = {"value": number, **({} if counts else {"low": low, "high": high})}
    return answer


def write_cases(path: Path, cohort: Cohort, rows: Rows) -> None:
    """A row per case under its salted name."""
    head, lines = ["id", "patient", *(["fold"] if cohort.owners else []), *rows[0]], []
    for i, (volume, patient, row) in enumerate(zip(cohort.volumes, cohort.patients, rows, strict=True)):
        cells = ["" if math.isnan(value) else f"{value:.6g}" for value in row.values()]
        lines.append([volume.entry.id, patient, *cohort.owners[i : i + 1], *cells])
    replace_text(path, csv_text(head, lines))


def table_of(summary: Mapping[str, Any]) -> str:
    """The metrics as a table for the terminal."""
    lines = [f"warning: {summary['note']}"] if summary["note"] else []
    lines.append(f"{summary['part']}: {summary['cases']} images of {summary['patients']} patients")
    for key, each in summary["metrics"].items():
        interval = f"  [{each['low']:.3f}, {each['high']:.3f}]" if "low" in each else ""
        lines.append(f"  {key:<28}{each['value']:>9.3f}{interval}")
    main = [key for key in summary["metrics"] if key in SHOWN] or list(summary["metrics"])[:1]
    lines += lines_of(summary.get("by", {}), main[:2])
    return "\n".join(lines)
