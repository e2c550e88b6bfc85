"""One run of a comparison: pre-train, or fine-tune and predict the test images once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.commands.compare.folder import RUNS, Bench, HeldOut, StoppedError
from foveate.commands.compare.grid import Job, pretraining, split_of
from foveate.commands.compare.shuffled import SHUFFLED, shuffled
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.scores import answers_of, masks_of
from foveate.commands.finetune import run as finetune
from foveate.commands.finetune.build import build_task
from foveate.commands.finetune.config import FinetuneConfig, run_config
from foveate.commands.finetune.images import load_images
from foveate.commands.finetune.semi import labelled_source
from foveate.commands.pretrain import run as pretrain
from foveate.commands.pretrain.config import PretrainConfig
from foveate.core import config as parsing
from foveate.core.boxes.tasks import BoxTask
from foveate.core.contracts import Trainable
from foveate.core.tasks import DenseTask
from foveate.core.types import Batch, FoveateError
from foveate.data.cache.index import salted_id
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.volumes import Cache
from foveate.data.cohort.draw import patient_of
from foveate.data.cohort.leakage import seen_before
from foveate.runtime import images as intake
from foveate.runtime.config import RunConfig
from foveate.runtime.finetuned import open_model
from foveate.runtime.processes import build_fabric
from foveate.runtime.steps import batches_from
from foveate.scoring.metrics import mask_metrics
from foveate.train.semi.settings import SemiConfig


def work(bench: Bench, job: Job) -> None:
    """Do a run and keep its result."""
    run = bench.out / RUNS / job.name
    if job.kind == "pretrain":
        config = bench.placed(pretraining(bench.config, job, run), bench.keys(job))
        if bench.config.arms[job.arm].planted == "shuffled":
            config = shuffled(config, bench.out / SHUFFLED / job.name)
        found = run_pretraining(config, bench.held[job.task])
    else:
        tuning, held = bench.tuning(job, run), bench.held[job.task]
        found = run_finetuning(tuning, held, bench.salt, test=job.kind == "test")
    if found is None:
        raise StoppedError
    bench.keep(job, found)


def run_pretraining(config: PretrainConfig, held: HeldOut) -> dict[str, Any] | None:
    """Pre-train, then check again that no held-out image was seen; the result, None after a signal."""
    if not pretrain.pretrain(config):
        return None
    run = Path(config.out)
    if found := seen_before(run, held.records, held.hashes):
        name, why = next(iter(found.items()))
        raise FoveateError(f"{name} is an image for validation or the test, and {why}.")
    seconds = seconds_of(run)
    drop_checkpoints(run)
    return {"steps": config.steps, "batch_size": config.batch_size, "seconds": seconds}


def run_finetuning(
    config: FinetuneConfig, held: HeldOut, salt: bytes, *, test: bool
) -> dict[str, Any] | None:
    """Fine-tune, then predict the test images unless it chooses a learning rate; None after a signal."""
    if not finetune.finetune(config):
        return None
    run = Path(config.out)
    if leaks := seen_before(run, held.records[held.validation :], held.hashes[held.validation :]):
        name, why = next(iter(leaks.items()))
        raise FoveateError(f"{name} is an image for the test, and {why}.")
    rows = [row for row in metrics_of(run) if "val/score" in row]
    found: dict[str, Any] = {
        "steps": config.steps,
        "batch_size": config.batch_size,
        "seconds": seconds_of(run),
        "validation": rows[-1]["val/score"],
        "first_batch": first_batch(config),
    }
    before = {row["step"]: row["val/score"] for row in rows if row["step"] < config.steps}
    earlier = before[max(before)] if before else None
    if None not in (earlier, found["validation"]):  # no score: a class was missing among the images
        found["late_gain"] = found["validation"] - earlier
    if test:
        found |= answers(config, salt)
    drop_checkpoints(run)
    return found


def answers(config: FinetuneConfig, salt: bytes) -> dict[str, Any]:
    """Predictions of the last weights for every test image, under salted names."""
    model = open_model(config.out, config.accelerator)
    config = replace(config, task=run_config(config.out).task)  # with the classes found in the labels
    split, _ = split_of(config)
    tests = {record.relative: record for record in split["test"]}
    cache = intake.decode(list(tests.values()), cache_place(config), config.prepare)
    if cache.rejects:
        raise FoveateError(f"Test image {cache.rejects[0].relative}: {cache.rejects[0].reason}.")
    volumes = [model.seen(v).replaced(labels=config.task.encode(v.labels)) for v in cache]
    names = [
        {"id": salted_id(salt, v.relative), "patient": salted_id(salt, patient_of(tests[v.relative]))}
        for v in volumes
    ]
    if isinstance(model.task, DenseTask):
        judge, task = EvaluateConfig(accelerator=config.accelerator), model.task
        rows = [mask_metrics(*masks_of(judge, model, task, v), v.spacing_mm) for v in volumes]
        return {"cases": [{**name, **row} for name, row in zip(names, rows, strict=True)]}
    said: dict[str, Any] = {
        "class_names": list(model.task.class_names),
        "activation": model.task.activation,
        "learnt": parsing.to_mapping(model.task.config),  # how the answers are scored
        "dimension": config.dimension,
    }
    if isinstance(model.task, BoxTask):
        overlap = EvaluateConfig().window.overlap
        scans = [model.task.config.scan(v, model.boxes(v, overlap)) for v in volumes]
        pairs = zip(names, scans, strict=True)
        return said | {"cases": [{**name, "boxes": scan.numbers()} for name, scan in pairs]}
    found = answers_of(model, model.task, volumes)
    return said | {
        "cases": [
            {**name, "answer": answer.tolist(), "label": label.tolist()}
            for name, answer, label in zip(names, *found, strict=True)
        ]
    }


def cache_place(config: RunConfig) -> Path:
    """The cache beside the runs."""
    return cache_folder(Path(config.out).parent, Path(config.data), config.prepare)


def first_batch(config: FinetuneConfig) -> str:
    """A hash of the bytes of the first batch: equal for all arms with equal labels and seed.

    For an arm with unlabelled images it is the one that its labelled images alone would make.
    """
    config = replace(config, num_workers=0, unlabelled="", semi=SemiConfig())
    images = load_images(config, cache_place(config))
    config = images.config
    with closing(batches(config, labelled_source(config, images.train), build_task(config))) as source:
        return digest(next(source))


def digest(batch: Batch) -> str:
    """A hash of everything in a batch."""
    found = blake2b(digest_size=16)
    for part in ("crops", "affines", "regions", "labels"):
        tensors: Mapping[str, torch.Tensor] = batch[part]
        for name in sorted(tensors):
            found.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    found.update(np.array(batch["index"], np.int64).tobytes())
    return found.hexdigest()


def batches(config: RunConfig, cache: Cache, trained: Trainable) -> Generator[Batch]:
    """The batches of a run from its start."""
    return batches_from(config, cache, trained, build_fabric(config), 0)


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def seconds_of(run: Path) -> float:
    """Training time as the log has it, whether the run was interrupted or not."""
    total, before = 0.0, 0
    for row in metrics_of(run):
        if "seconds_per_step" in row:
            total += row["seconds_per_step"] * (row["step"] - before)
            before = row["step"]
    return round(total, 1)


def drop_checkpoints(run: Path) -> None:
    """Remove the checkpoints: a finished run needs its exported weights only."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
