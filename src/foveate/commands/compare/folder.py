"""The folder of a comparison: what is finished, what failed, what was measured, and how a run is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, final

import torch

from foveate.commands.compare.arms import ArmConfig
from foveate.commands.compare.config import CompareConfig
from foveate.commands.compare.grid import (
    Job,
    finetune_config,
    finetune_keys,
    fingerprint,
    is_pretrained,
    jobs_of,
    pretrain_keys,
    pretrained_on,
)
from foveate.commands.finetune.config import FinetuneConfig
from foveate.core.files import read_json, write_json
from foveate.core.processes.claims import claim
from foveate.core.types import FoveateError, Record, reason_of
from foveate.data.salts import move_out, read_salt
from foveate.runtime.config import RunConfig
from foveate.runtime.folder import commit
from foveate.runtime.resources.cpus import usual_workers
from foveate.train.logging import say

C = TypeVar("C", bound=RunConfig)
BUDGET, CELLS, CLAIMS, FAILURES, RUNS = "budget.json", "cells", "claims", "failures", "runs"
EXPORTED = "exported/card.json"  # written last
PATIENCE = 2.0  # seconds between two looks at what other processes are at work on


@final
@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Images of a task that are held out, with their voxel hashes, and names that must reach no file.

    Attributes:
        records: Validation images, then test images.
        hashes: Of each.
        validation: How many of them are for validation.
        names: Of all images of the task.
    """

    records: Sequence[Record]
    hashes: Sequence[str | None]
    validation: int
    names: frozenset[str]

    @property
    def tests(self) -> Sequence[Record]:
        """The test images."""
        return self.records[self.validation :]


class StoppedError(Exception):
    """A signal stopped the comparison; the current run is saved."""


@final
class Bench:
    """The folder of a comparison: what is finished, what failed, what was measured."""

    def __init__(self, config: CompareConfig) -> None:
        self.config, self.out = config, Path(config.grid.out).resolve()
        self.budget: dict[str, Any] = {}
        self.held: dict[str, HeldOut] = {}
        self.gpus: tuple[int, ...] = ()  # of this process; empty: not chosen
        self.kept: list[Callable[[Job, dict[str, Any]], None]] = []  # told of every run that finishes

    def placed(self, config: C, keys: Mapping[str, Any]) -> C:
        """A run of one process on this process's GPU; its workers leave CPUs for processes on other GPUs."""
        if not self.gpus or config.accelerator != "cuda" or config.devices > 1:
            return config
        config = replace(config, gpus=self.gpus)
        if "num_workers" in keys:
            return config
        every = len(self.config.grid.devices) or torch.cuda.device_count()
        return replace(config, num_workers=usual_workers("cuda", every))

    def open(self) -> None:
        """Make the folder, or read an existing one."""
        for name in (CELLS, FAILURES, RUNS):
            (self.out / name).mkdir(parents=True, exist_ok=True)
        if note := move_out(self.out):
            say(note)
        self.salt = read_salt(self.out)
        self.budget = read_json(self.out / BUDGET) or {}

    def cell(self, job: Job) -> dict[str, Any] | None:
        """The result of a finished run; refuses one that had another configuration."""
        found = read_json(self.out / CELLS / f"{job.name}.json")
        if found:
            self.check_fingerprint(job, found, f"--out {self.out}")
        return found

    def check_fingerprint(self, job: Job, found: Mapping[str, Any], where: str) -> None:
        """Refuse a finished run that had another configuration."""
        if found["fingerprint"] != fingerprint(self.keys(job)):
            raise FoveateError(
                f"{where} holds {job.name} with another configuration; accepted: the values that "
                "it was started with (more arms, labels and seeds may be added), or another folder."
            )

    def has_weights(self, job: Job) -> bool:
        """Whether the weights of a finished pre-training are in this folder."""
        return (self.out / RUNS / job.name / EXPORTED).exists()

    def failure(self, job: Job) -> str:
        """Why a run failed when it was last tried; empty where it did not."""
        return str((read_json(self.out / FAILURES / f"{job.name}.json") or {}).get("reason", ""))

    def keys(self, job: Job) -> dict[str, Any]:
        """The keys of a run."""
        if job.kind == "pretrain":
            return pretrain_keys(self.config, job)
        rate, variant = self.chosen(job)
        return finetune_keys(self.config, job, rate, self.long_steps(job.task), variant)

    def long_steps(self, task: str) -> int:
        """Fine-tuning steps of scratch_long: as configured, or as measured."""
        return self.config.tasks[task].long_steps or int(self.budget.get(task, {}).get("long_steps", 0))

    def chosen(self, job: Job) -> tuple[float, int]:
        """Learning rate and variant: those of a choice, the only ones, or the best on validation images."""
        if job.kind == "choice":
            return job.rate, job.variant
        scores = self.choices(job)
        if not scores:
            return self.config.grid.learning_rates[0], 0
        known = {tried: score for tried, score in scores.items() if score is not None}
        if len(known) < len(scores):
            raise FoveateError("not every learning rate could be tried")
        return max(known, key=lambda tried: (known[tried], -tried[0], -tried[1]))

    def choices(self, job: Job) -> dict[tuple[float, int], float | None]:
        """Validation scores of an arm's learning rates and variants, as far as they are known."""
        found = {}
        for each in self.choice_jobs(job):
            cell = read_json(self.out / CELLS / f"{each.name}.json")
            found[each.rate, each.variant] = (cell or {}).get("validation")
        return found

    def choice_jobs(self, job: Job) -> list[Job]:
        """The runs that choose a job's learning rate."""
        mine = (job.task, job.arm, job.way)
        return [
            each
            for each in jobs_of(self.config)
            if each.kind == "choice" and (each.task, each.arm, each.way) == mine
        ]

    def claim(self, name: str) -> AbstractContextManager[bool]:
        """Lock a name for this process; False if another process of the comparison holds it."""
        return claim(self.out / CLAIMS / name)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Lock a name, waiting for the process that holds it."""
        while True:
            with self.claim(name) as free:
                if free:
                    yield
                    return
            time.sleep(PATIENCE)

    def is_taken(self, job: Job) -> bool:
        """Whether another process holds a run."""
        with self.claim(job.name) as free:
            return not free

    def needs(self, job: Job) -> list[Job]:
        """The runs that a job starts from."""
        before = [self.pretraining(job)] if is_pretrained(self.config, job) else []
        return before + (self.choice_jobs(job) if job.kind == "test" else [])

    def pretraining(self, job: Job) -> Job:
        """The run that a job starts from."""
        task = pretrained_on(self.config, job.task)
        return Job(
            kind="pretrain", task=task, arm=self.config.origin(job.arm), pretrain_seed=job.pretrain_seed
        )

    def keep(self, job: Job, found: Mapping[str, Any]) -> None:
        """Write the result of a finished run."""
        keys = self.keys(job)
        facts = {
            "name": job.name,
            **asdict(job),
            **({"rate": keys["optim.lr"]} if "optim.lr" in keys else {}),
            **({"searched": {k: keys[k] for k in self.config.tasks[job.task].search if k in keys}}),
            "fingerprint": fingerprint(keys),
            "commit": commit(),
        }
        write_json(self.out / CELLS / f"{job.name}.json", {**facts, **found})
        for tell in self.kept:
            tell(job, {**facts, **found})
        (self.out / FAILURES / f"{job.name}.json").unlink(missing_ok=True)

    def tuning(self, job: Job, run: Path) -> FinetuneConfig:
        """The configuration of a fine-tuning."""
        none = ArmConfig()
        arm, start = (self.config.arms.get(n, none) for n in (job.arm, self.config.origin(job.arm)))
        init = Path(start.weights) if start.weights and not start.method else None
        if is_pretrained(self.config, job):
            before = self.pretraining(job)
            if self.cell(before) is None:
                raise FoveateError(f"its pre-training failed: {self.failure(before) or 'not done'}")
            init = self.out / RUNS / before.name
        keys = self.keys(job)
        config = finetune_config(keys, self.config.tasks[job.task], init, run, arm.unlabelled)
        return self.placed(config, keys)

    def fail(self, job: Job, error: BaseException) -> str:
        """Write the reason without names of images and folders; return it with them, for the terminal."""
        reason = reason_of(error)
        held = self.held.get(job.task)
        names = {*(held.names if held else ()), self.config.tasks[job.task].data, str(self.out)}
        write_json(self.out / FAILURES / f"{job.name}.json", {"reason": without(reason, names)})
        return reason


def without(reason: str, names: set[str]) -> str:
    """A reason in which every name of an image, and every folder, is replaced."""
    parts = {
        part for name in names for part in (name, Path(name).name, Path(name).name.split(".")[0]) if part
    }
    for part in sorted(parts, key=len, reverse=True):
        reason = reason.replace(part, "<name>")
    return reason
