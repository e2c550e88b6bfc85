"""The cost of the runs of a comparison, measured once, and from it the length of scratch_long."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foveate.commands.compare.arms import LONG, SCRATCH
from foveate.commands.compare.config import CompareConfig
from foveate.commands.compare.folder import BUDGET, RUNS, Bench
from foveate.commands.compare.grid import Job, example, pretrained_on, pretraining
from foveate.commands.finetune.build import build_task
from foveate.commands.finetune.config import FinetuneConfig
from foveate.commands.finetune.images import load_images
from foveate.commands.finetune.semi import source_of, trained_from
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


def measure_missing(bench: Bench, *, keep: bool, before: Mapping[str, Any]) -> None:
    """Measure what BUDGET lacks: a step of every arm and task, and the steps of scratch_long.

    Args:
        bench: The comparison.
        keep: Write it down.
        before: What was found in another place: the steps of scratch_long stay as they are there.
    """
    if keep:
        with bench.alone(BUDGET):  # the first process measures for all
            bench.budget = read_json(bench.out / BUDGET) or {}
            measure_all(bench, before)
            write_json(bench.out / BUDGET, bench.budget)
    else:
        measure_all(bench, before)


def measure_all(bench: Bench, carried: Mapping[str, Any]) -> None:
    """Measure every task."""
    for name in bench.config.tasks:
        known = bench.budget.setdefault(name, {"seconds": {}})
        if "long_steps" in carried.get(name, {}):
            known.setdefault("long_steps", carried[name]["long_steps"])
        before = bench.budget[pretrained_on(bench.config, name)]
        for what in ("seconds", "losses"):
            mine, theirs = known.setdefault(what, {}), before.get(what, {})
            mine |= {a: s for a, s in theirs.items() if "/" not in a and a not in (SCRATCH, *mine)}
        measure(bench, name, known)


def measure(bench: Bench, task: str, known: dict[str, Any]) -> None:
    """Computing, reading and work seconds of a step, where not known; an arm that fails is excluded."""
    config = bench.config
    tuning = example(config, task, Path(config.grid.out) / RUNS / "none")
    steps = {SCRATCH: tuning.steps}
    look(bench, known, SCRATCH, tuning)
    every = not (
        config.tasks[task].long_steps or "long_steps" in known
    )  # it is as long as the most expensive of all
    origins = {config.origin(arm) for arm in config.working}
    for arm in config.pretrained:
        if not (every or arm in origins):
            continue
        job = Job(kind="pretrain", task=task, arm=arm, pretrain_seed=config.grid.pretrain_seeds[0])
        settings = pretraining(
            config, job, Path(config.grid.out) / RUNS / "none"
        )  # a key that is wrong stops here, before the first run
        steps[arm] = settings.steps
        with contextlib.suppress(Exception):  # the run itself fails in the same way, and is reported
            look(bench, known, arm, settings)
    for arm in semi_supervised(config):
        own = example(config, task, Path(config.grid.out) / RUNS / "none", arm)
        if every or arm in config.working:
            with contextlib.suppress(Exception):
                look(bench, known, tuned(arm), own)
    known["steps"] = {**known.get("steps", {}), **steps}
    if "long_steps" not in known:
        tunings = {arm: (config.origin(arm), tuned(arm)) for arm in semi_supervised(config)}
        known["long_steps"] = long_steps(steps, known["seconds"], tunings)


def look(bench: Bench, known: dict[str, Any], who: str, config: PretrainConfig | FinetuneConfig) -> None:
    """Measure the first steps of a training where they are not known: their seconds and their losses."""
    losses = known.setdefault("losses", {})
    if who not in known["seconds"] or who not in losses:
        seconds, losses[who] = first_steps(bench.placed(config, {}))
        known["seconds"].setdefault(who, seconds)


def semi_supervised(config: CompareConfig) -> list[str]:
    """The arms whose fine-tuning learns from unlabelled images as well."""
    return [name for name, arm in config.arms.items() if arm.unlabelled]


def tuned(arm: str) -> str:
    """The key for a step of such a fine-tuning, in which half of the batch is unlabelled."""
    return f"{arm}/unlabelled"


def long_steps(
    steps: Mapping[str, int],
    seconds: Mapping[str, Sequence[float]],
    tunings: Mapping[str, tuple[str, str]],
) -> int:
    """Fine-tuning steps that take as much work as the most expensive pre-training and fine-tuning together.

    Args:
        steps: Of the fine-tuning of scratch, and of the pre-trainings.
        seconds: Of their steps; the third is the work.
        tunings: Arms with another fine-tuning: whose pre-training it follows, and the key of its seconds.

    >>> long_steps({"scratch": 400, "a": 300}, {"scratch": [0, 0, 0.2], "a": [0, 0, 0.4]}, {})
    1000
    """
    usual, no = seconds[SCRATCH][2], (0.0, 0.0, 0.0)
    before = {arm: count * seconds.get(arm, no)[2] for arm, count in steps.items() if arm != SCRATCH}
    works = [work + steps[SCRATCH] * usual for work in before.values()]
    works += [
        before.get(origin, 0.0) + steps[SCRATCH] * seconds.get(key, no)[2] for origin, key in tunings.values()
    ]
    return max(steps[SCRATCH], round(max(works, default=0.0) / usual))


def seconds(bench: Bench, job: Job) -> float:
    """What a run is expected to take: computing and reading side by side where a worker reads."""
    known = bench.budget[job.task]
    who = job.arm if job.kind == "pretrain" else SCRATCH
    steps = known["steps"].get(who, 0)
    each = step_of(known["seconds"], job.arm, job.kind) or (0.0, 0.0, 0.0)
    if job.arm == LONG:
        steps = bench.long_steps(job.task)
    workers = bench.config.tasks[job.task].both.get("num_workers", 1)
    return float(steps * (max(each[:2]) if workers else sum(each[:2])))


def step_of(known: Mapping[str, Sequence[float]], arm: str, kind: str) -> Sequence[float] | None:
    """Seconds of a step of an arm's pre-training or fine-tuning, where they could be measured."""
    return known.get(arm) if kind == "pretrain" else known.get(tuned(arm), known[SCRATCH])


def hours(bench: Bench, jobs: Sequence[Job]) -> float:
    """Hours of some runs, one after the other."""
    return sum(seconds(bench, job) for job in jobs) / 3600


MEASURED_STEPS = 4


def first_steps(config: PretrainConfig | FinetuneConfig) -> tuple[tuple[float, float, float], list[float]]:
    """Seconds of a step's computing, of making its batch, and of the processors' work in computing; losses.

    The least of a few after one to warm up. The work is what budgets are compared by: on a machine that
    others use as well, the clock on the wall counts them too. The losses of all of them say whether another
    version of the code computes the same.
    """
    config = replace(config, num_workers=0, steps=1 + MEASURED_STEPS)
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(config, FinetuneConfig):
            if config.unlabelled:  # every step with unlabelled images: a little too high
                config = replace(config, semi=replace(config.semi, supervised_steps=0))
            images = load_images(config, Path(scratch) / CACHES, limit=intake.SAMPLE_IMAGES)
            config, cache = images.config, source_of(images.config, images.train, images.unlabelled)
            trained: Trainable = trained_from(build_task(config), config)[0]
        else:
            trained = build_method(config)
            cache = sample_cache(config, Path(scratch) / CACHES)[1]
        with closing(batches_from(config, cache, trained, build_fabric(config), 0)) as source:
            taken = list(timed(config, trained, source))
    times = [each[:3] for each in taken[1:]]
    computing, reading, work = (min(each) * config.accumulate for each in zip(*times, strict=True))
    if config.accelerator == "cpu":  # beside other work the clock counts that as well
        computing = min(computing, work)
    return (computing, reading, work), [float(f"{each[3]:.6g}") for each in taken]


def timed(config: RunConfig, trained: Trainable, source: Iterator[Batch]) -> Iterator[tuple[float, ...]]:
    """Seconds of computing, reading and work for every step, and its loss."""
    fabric = build_fabric(config)
    net, optimizer = fabric.setup(trained, build_optimizer(trained, config.optim))
    worked = time.process_time if config.accelerator == "cpu" else time.perf_counter
    for step in range(1 + MEASURED_STEPS):
        started = time.perf_counter()
        batch = next(source)
        read, before = time.perf_counter(), worked()
        progress = Progress(step, config.steps, config.seed)
        losses, _ = training_step(fabric, net, optimizer, iter([batch]), progress, Stepping(), Recent())
        loss = float(torch.stack(list(losses.values())).sum().item())  # waits for the device
        yield time.perf_counter() - read, read - started, worked() - before, loss
