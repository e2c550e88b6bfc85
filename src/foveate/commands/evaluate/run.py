"""Evaluation: a fine-tuned run on labelled images, case by case, with intervals over patients."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.scores import (
    Cohort,
    Rows,
    Statistic,
    judge_answers,
    judge_masks,
)
from foveate.commands.finetune.config import FinetuneConfig, labelled, run_config
from foveate.core import config as parsing
from foveate.core.files import plain, replace_text
from foveate.core.tasks import DenseTask, ImageTask
from foveate.core.types import Array, Ending, FoveateError, Record
from foveate.data.cache.index import salted_id
from foveate.data.cache.prepare import cache_folder
from foveate.data.cohort.draw import PARTS, patient_of
from foveate.data.cohort.leakage import seen_before
from foveate.data.cohort.splits import Split, make_split
from foveate.data.salts import read_salt
from foveate.evaluate.statistics import bca_interval
from foveate.runtime import images as intake
from foveate.runtime.finetuned import Model, memory_explained, open_model
from foveate.runtime.resources.gpus import take_gpu
from foveate.runtime.selection import say_notes
from foveate.train.logging import say

NO_TEST = (
    "the run's split has no test part: scored on the validation images, which chose the checkpoint, so these "
    "scores are optimistic. Keep images for a test with `foveate finetune --split.test_share 0.2`"
)


def run_evaluate(config: EvaluateConfig) -> Ending:
    """Evaluate; the exit code is 1 if an image could not be used."""
    return Ending.FINISHED if evaluate(config) else Ending.INCOMPLETE


def evaluate(config: EvaluateConfig) -> bool:
    """Score a run and write the results; True if every image could be used."""
    take_gpu(config.accelerator, config.gpu)
    model = open_model(config.run, config.accelerator, config.precision)
    with memory_explained(model.device, "while the images were evaluated"):
        return evaluated(config, model, Path(config.out))


def evaluated(config: EvaluateConfig, model: Model, out: Path) -> bool:
    """The same with the run's model."""
    cohort = load_cohort(config, model)
    note = NO_TEST if config.part == "auto" and cohort.part == "val" else ""
    out.mkdir(parents=True, exist_ok=True)
    if isinstance(model.task, DenseTask):
        rows, statistic, extra = judge_masks(config, model, model.task, cohort, out)
    else:
        rows, statistic, extra = judge_answers(config, model, model.task, cohort, out)
    if words := model.spared():
        say(words)
    write_cases(out / "cases.csv", cohort, rows)
    summary = {
        "part": cohort.part,
        "note": note,
        "cases": len(rows),
        "patients": len(set(cohort.patients)),
        "left_out": cohort.left_out,
        "task": model.card["task"]["name"],
        "class_names": list(model.task.class_names),
        "weights_data_hash": model.card["data_hash"],
        "settings": {k: v for k, v in parsing.to_mapping(config).items() if k not in ("run", "data", "out")}
        | {"precision": model.precision},
        "metrics": with_intervals(statistic, cohort.patients, config),
        **extra,
    }
    text = json.dumps(plain(summary), indent=1, allow_nan=False) + "\n"
    replace_text(out / "summary.json", text)
    say(table_of(summary))
    return not cohort.left_out


def load_cohort(config: EvaluateConfig, model: Model) -> Cohort:
    """The images of the chosen part."""
    settings = run_config(config.run)
    cache = cache_folder(Path(config.out).absolute().parent, Path(config.data), model.prepare)
    known = cache_folder(Path(config.run).absolute().parent, Path(config.data), model.prepare)
    cache = known if known.is_dir() else cache
    found = labelled(settings, Path(config.data))
    say_notes([*found.notes, found.patients])
    split = split_of(config, settings, found.records, known)
    part = config.part if config.part != "auto" else "test" if split["test"] else "val"
    chosen = list(found.records) if part == "all" else split[part]
    if not chosen:
        raise FoveateError(
            f"--part {part}: the run's split has no images in it; accepted: --part val, whose images "
            "chose the checkpoint, or --part all on a data set that the run never saw."
        )
    wanted = isinstance(model.task, ImageTask) and model.task.uses_validation
    tuned = split["val"] if part in ("test", "all") and wanted else []
    names = {record.relative for record in chosen}
    tuned = [record for record in tuned if record.relative not in names]
    both = intake.decode([*chosen, *tuned], cache, model.prepare)
    by_name = {volume.relative: volume for volume in both}
    encoded = {
        name: model.seen(v).replaced(labels=settings.task.encode(v.labels)) for name, v in by_name.items()
    }
    kept = [record for record in chosen if record.relative in by_name]
    if not kept:
        raise FoveateError(f"--data {config.data}: none of the {len(chosen)} images could be used.")
    if part == "all":
        warn_of_seen(config.run, kept, [by_name[record.relative].entry.voxel_hash for record in kept])
    salt = read_salt(cache)
    return Cohort(
        volumes=[encoded[record.relative] for record in kept],
        patients=[salted_id(salt, patient_of(record)) for record in kept],
        calibration=[encoded[record.relative] for record in tuned if record.relative in by_name],
        part=part,
        left_out=len(chosen) - len(kept),
    )


def warn_of_seen(run: str, records: Sequence[Record], voxels: Sequence[str]) -> None:
    """Warn if the run was trained on these images or their patients, whatever the files are called now."""
    try:
        seen = len(seen_before(Path(run), records, voxels))
    except FoveateError as error:
        say(f"warning: whether the run was trained on these images is not known. {error}")
        return
    if seen:
        parts = "training, validation or pre-training"
        say(f"warning: {seen} of these images, or their patients, were in the run's {parts}")


def split_of(
    config: EvaluateConfig, settings: FinetuneConfig, records: Sequence[Record], cache: Path
) -> Split:
    """The run's own split by the salted names it wrote down; for `all` nothing must be in it."""
    used = json.loads((Path(config.run) / "split.json").read_text(encoding="utf-8"))
    salt = read_salt(cache) if cache.is_dir() else b""
    ids = {salted_id(salt, record.relative): record for record in records} if salt else {}
    if config.part == "all":
        return {"train": [], "val": [], "test": []}
    split = {part: [ids[name] for name in used.get(part, []) if name in ids] for part in PARTS}
    missing = sum(map(len, used.values())) - sum(map(len, split.values()))
    if "test" not in used and config.part in (
        "auto",
        "test",
    ):  # a run of before they were noted: drawn or read again
        strata = [settings.task.stratum(record.labels) for record in records]
        again = make_split(records, strata, settings.split)
        places = {record.relative: part for part in PARTS for record in again[part]}
        missing += sum(places.get(r.relative) != part for part in ("train", "val") for r in split[part])
        split["test"] = again["test"]
    if missing:
        raise FoveateError(
            f"--data {config.data} does not give the split of {config.run} ({missing} of its images are "
            "missing or in other parts): these are other images, the cache beside the run is gone, or an "
            "earlier version drew the split. Accepted: the images of the run, or --part all for images that "
            "it never saw."
        )
    return split


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
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["id", "patient", *rows[0]])
    for volume, patient, row in zip(cohort.volumes, cohort.patients, rows, strict=True):
        cells = ["" if math.isnan(value) else f"{value:.6g}" for value in row.values()]
        writer.writerow([volume.entry.id, patient, *cells])
    replace_text(path, text.getvalue())


def table_of(summary: Mapping[str, Any]) -> str:
    """The metrics as a table for the terminal."""
    lines = [f"warning: {summary['note']}"] if summary["note"] else []
    lines.append(f"{summary['part']}: {summary['cases']} images of {summary['patients']} patients")
    for key, each in summary["metrics"].items():
        interval = f"  [{each['low']:.3f}, {each['high']:.3f}]" if "low" in each else ""
        lines.append(f"  {key:<28}{each['value']:>9.3f}{interval}")
    return "\n".join(lines)
