"""The images that no arm may learn from: found before the first run, refused where one is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foveate.commands.compare.folder import RUNS, Bench, HeldOut
from foveate.commands.compare.grid import (
    example,
    pretrained_on,
    pretraining,
    split_of,
    working_jobs,
)
from foveate.commands.finetune.config import FinetuneConfig
from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.types import FoveateError
from foveate.data.cache.index import is_prepared
from foveate.data.catalogue import SOURCES
from foveate.data.cohort.leakage import hashes_of, refuse_shared_voxels
from foveate.runtime.config import REST
from foveate.runtime.selection import images_for_pretraining


def held_out(bench: Bench, task: str) -> HeldOut:
    """Validation and test images of a task, checked against its training images, once."""
    if task not in bench.held:
        start = ("pretrain", pretrained_on(bench.config, task))
        first = next((job for job in working_jobs(bench.config) if (job.kind, job.task) == start), None)
        nowhere = bench.out / RUNS / "none"
        seen = pretraining(bench.config, first, nowhere) if first else None
        folders = dict.fromkeys(arm.unlabelled for arm in bench.config.arms.values())
        bench.held[task] = guard(example(bench.config, task, nowhere), seen, list(folders))
    return bench.held[task]


def guard(config: FinetuneConfig, before: PretrainConfig | None, unlabelled: Sequence[str] = ()) -> HeldOut:
    """Refuse a split whose validation or test images or patients are in the pre-training set, or shared.

    Args:
        config: A fine-tuning of the task.
        before: A pre-training for it.
        unlabelled: What arms learn from without labels; "rest" is a part of the training images.

    Raises:
        FoveateError: naming the first such image.
    """
    split, everything = split_of(config)
    seen = (
        []
        if before is None
        else images_for_pretraining(before.source, Path(before.data), before.split, before.patient_pattern)
    )
    others = {
        f"{folder}/{record.relative}": record
        for folder in unlabelled
        if folder not in ("", REST) and not is_prepared(Path(folder))  # a cache names nobody
        for record in images_for_pretraining(
            SOURCES["folder"].Config(), Path(folder), "", config.patient_pattern
        )
    }
    held = [*split["val"], *split["test"]]
    parts = {"training": [*split["train"], *seen], "val": split["val"], "test": split["test"]}
    patients = {record.patient for record in [*parts["training"], *others.values()]} - {""}
    if shared := [record.relative for record in held if record.patient in patients]:
        raise FoveateError(
            f"{shared[0]} is for validation or the test, and its patient is in the training or pre-training "
            "set; accepted: every patient in one part only."
        )
    unique = others | {record.relative: record for records in parts.values() for record in records}
    hashes = dict(zip(unique, hashes_of(list(unique.values()), reading=config.prepare.reading), strict=True))
    names = {part: dict.fromkeys(record.relative for record in records) for part, records in parts.items()}
    names["training"] |= dict.fromkeys(others)
    refuse_shared_voxels(names, hashes)
    return HeldOut(
        records=held,
        hashes=[hashes[record.relative] for record in held],
        validation=len(split["val"]),
        names=frozenset(record.relative for record in [*everything, *seen, *others.values()]),
    )
