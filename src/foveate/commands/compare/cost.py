"""The cost of the runs of a comparison, measured once, and from it the length of scratch_long."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foveate.commands.compare.config import LONG, SCRATCH, CompareConfig
from foveate.commands.compare.folder import BUDGET, RUNS, Bench, example
from foveate.commands.compare.grid import Job, pretrain_config, pretrain_keys, pretrained_on
from foveate.commands.finetune.build import build_task
from foveate.commands.finetune.config import FinetuneConfig
from foveate.commands.finetune.images import load_images
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import PretrainConfig
from foveate.commands.pretrain.images import sample_cache
from foveate.core.contracts import Trainable
from foveate.core.files import read_json, write_json
from foveate.core.types import Batch, Progress
from foveate.data.salts import CACHES
from foveate.runtime import images as intake
from foveate.runtime.config import RunConfig
from foveate.runtime.processes import build_fabric
from foveate.runtime.steps import batches_from
from foveate.train.loop import Recent, Stepping, training_step
from foveate.train.optim import build_optimizer


def measure_missing(bench: Bench, *, keep: bool) -> None:
    """Measure what BUDGET lacks: a step of every arm and task, and the steps of scratch_long."""
    if keep:
        with bench.alone(BUDGET):  # the first process measures for all
            bench.budget = read_json(bench.out / BUDGET) or {}
            measure_all(bench)
            write_json(bench.out / BUDGET, bench.budget)
    else:
        measure_all(bench)


def measure_all(bench: Bench) -> None:
    """Measure every task."""
    for name in bench.config.tasks:
        known = bench.budget.setdefault(name, {"seconds": {}})
        before = bench.budget[pretrained_on(bench.config, name)]["seconds"]
        known["seconds"] |= {a: s for a, s in before.items() if a != SCRATCH and a not in known["seconds"]}
        measure(bench, name, known)


def measure(bench: Bench, task: str, known: dict[str, Any]) -> None:
    """Computing, reading and work seconds of a step, where not known; an arm that fails is excluded."""
    config = bench.config
    tuning = example(config, task, Path(config.grid.out) / RUNS / "none")
    seconds, steps = known["seconds"], {SCRATCH: tuning.steps}
    if SCRATCH not in seconds:
        seconds[SCRATCH] = step_seconds(bench.placed(tuning, {}))
    for arm in config.pretrained:
        settings = pretraining(config, task, arm)  # a key that is wrong stops here, before the first run
        steps[arm] = settings.steps
        if arm not in seconds:
            with contextlib.suppress(Exception):  # the run itself fails in the same way, and is reported
                seconds[arm] = step_seconds(bench.placed(settings, {}))
    known["steps"] = steps
    if "long_steps" not in known:
        known["long_steps"] = long_steps(steps, seconds)


def pretraining(config: CompareConfig, task: str, arm: str) -> PretrainConfig:
    """The first pre-training of an arm."""
    job = Job(kind="pretrain", task=task, arm=arm, pretrain_seed=config.grid.pretrain_seeds[0])
    nowhere = Path(config.grid.out) / RUNS / "none"
    return pretrain_config(pretrain_keys(config, job), config.tasks[task], nowhere)


def long_steps(steps: dict[str, int], seconds: dict[str, Sequence[float]]) -> int:
    """Fine-tuning steps that take as much work as the most expensive pre-training and a fine-tuning together.

    >>> long_steps({"scratch": 400, "a": 300}, {"scratch": [0, 0, 0.2], "a": [0, 0, 0.4]})
    1000
    """
    works = [steps[arm] * each[2] for arm, each in seconds.items() if arm in steps and arm != SCRATCH]
    return steps[SCRATCH] + round(max(works, default=0.0) / seconds[SCRATCH][2])


def seconds(bench: Bench, job: Job) -> float:
    """What a run is expected to take: computing and reading side by side where a worker reads."""
    known = bench.budget[job.task]
    who = job.arm if job.kind == "pretrain" else SCRATCH
    steps, each = known["steps"].get(who, 0), known["seconds"].get(who, (0.0, 0.0, 0.0))
    if job.arm == LONG:
        steps = bench.long_steps(job.task)
    workers = bench.config.tasks[job.task].both.get("num_workers", 1)
    return float(steps * (max(each[:2]) if workers else sum(each[:2])))


def hours(bench: Bench, jobs: Sequence[Job]) -> float:
    """Hours of some runs, one after the other."""
    return sum(seconds(bench, job) for job in jobs) / 3600


MEASURED_STEPS = 4


def step_seconds(config: PretrainConfig | FinetuneConfig) -> tuple[float, float, float]:
    """Seconds of a step's computing, of making its batch, and of the processors' work in computing.

    The least of a few after one to warm up. The work is what budgets are compared by: on a machine that
    others use as well, the clock on the wall counts them too.
    """
    config = replace(config, num_workers=0, steps=1 + MEASURED_STEPS)
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(config, FinetuneConfig):
            images = load_images(config, Path(scratch) / CACHES, limit=intake.SAMPLE_IMAGES)
            config, cache = images.config, images.train
            trained: Trainable = build_task(config)
        else:
            trained = build_method(config)
            cache = sample_cache(config, Path(scratch) / CACHES)[1]
        with closing(batches_from(config, cache, trained, build_fabric(config), 0)) as source:
            taken = list(timed(config, trained, source))
    computing, reading, work = (min(each) * config.accumulate for each in zip(*taken[1:], strict=True))
    return computing, reading, work


def timed(config: RunConfig, trained: Trainable, source: Iterator[Batch]) -> Iterator[tuple[float, ...]]:
    """Seconds of computing, reading and work for every step."""
    fabric = build_fabric(config)
    net, optimizer = fabric.setup(trained, build_optimizer(trained, config.optim))
    worked = time.process_time if config.accelerator == "cpu" else time.perf_counter
    for step in range(1 + MEASURED_STEPS):
        started = time.perf_counter()
        batch = next(source)
        read, before = time.perf_counter(), worked()
        progress = Progress(step, config.steps, config.seed)
        losses, _ = training_step(fabric, net, optimizer, iter([batch]), progress, Stepping(), Recent())
        torch.stack(list(losses.values())).sum().item()  # waits for the device
        yield time.perf_counter() - read, read - started, worked() - before
