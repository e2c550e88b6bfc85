"""The runs of a comparison: their names, their order and their keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any, Literal, final

from foveate.commands.compare.arms import LONG, PLANTED_SEEDS, SCRATCH, TWICE, ArmConfig
from foveate.commands.compare.config import (
    SEEDS_PER_PRETRAINING,
    SEEDS_PER_SET,
    CompareConfig,
    TaskConfig,
    counts_of,
)
from foveate.commands.finetune.config import SPEC as FINETUNE, FinetuneConfig, labelled
from foveate.commands.pretrain.config import SPEC as PRETRAIN, PretrainConfig
from foveate.core import config as parsing
from foveate.core.types import Record
from foveate.data.cohort.splits import Split, SplitConfig, make_split
from foveate.runtime.config import RANDOM_WEIGHTS, REST
from foveate.runtime.registries import TASKS

Way = Literal["full", "probe"]
LATE = 0.8  # of a training: what it gains from here on says whether it was long enough
FROZEN = {"tuning.encoder": "frozen"}
LIGHT = {"decoder.light": True, "decoder.skips": False}  # what a dense probe reads the features with


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """One run; its name is that of its folder and of its result."""

    kind: Literal["pretrain", "choice", "test"]
    task: str
    arm: str
    pretrain_seed: int
    way: Way = "full"
    labels: int = 0
    label_set: int = 0  # from 1; 0: the seed draws the labelled images
    finetune_seed: int = 0
    rate: float = 0.0  # of a choice
    variant: int = 0  # of a choice: which of `variants`

    @property
    def name(self) -> str:
        """Deterministic, and safe as a file name."""
        start = f"{self.task}-{self.arm}-p{self.pretrain_seed}"
        if self.kind == "pretrain":
            return f"{start}-pretrain"
        drawn = f"l{self.label_set}-" if self.label_set else ""
        end = f"n{self.labels}-{drawn}f{self.finetune_seed}"
        tried = f"-rate{self.rate:g}" + (f"-v{self.variant}" if self.variant else "")
        return f"{start}-{self.way}-{end}" + (tried if self.kind == "choice" else "")

    @property
    def seed(self) -> int:
        """Seed of the run."""
        if self.kind == "pretrain":
            return self.pretrain_seed
        start = self.pretrain_seed * SEEDS_PER_PRETRAINING + self.finetune_seed
        return start + self.label_set * SEEDS_PER_SET

    @property
    def split_seed(self) -> int:
        """Seed of the draw of labelled images."""
        if not self.label_set:
            return self.seed
        return self.pretrain_seed * SEEDS_PER_PRETRAINING + self.label_set - 1


def jobs_of(config: CompareConfig) -> list[Job]:
    """All runs, an arm after the other: what stops early has whole rows and uses its pre-trainings first."""
    jobs: dict[Job, None] = {}
    for place, seed in enumerate(config.grid.pretrain_seeds):
        for arm in config.everyone:
            for name, task in config.tasks.items():
                origin = config.origin(arm)
                if origin in config.pretrained:
                    on = pretrained_on(config, name)
                    jobs[Job(kind="pretrain", task=on, arm=origin, pretrain_seed=seed)] = None
                if place == 0:
                    jobs |= dict.fromkeys(choices_of(config, arm, name, task))
                jobs |= dict.fromkeys(tests_of(config, arm, name, task, seed))
    return list(jobs)


def pretrained_on(config: CompareConfig, task: str) -> str:
    """The task whose pre-trainings a task starts from: the first with the same images, split and keys."""

    def facts(each: TaskConfig) -> tuple[object, ...]:
        return each.data, each.split, each.both, each.pretrain

    return next(name for name, each in config.tasks.items() if facts(each) == facts(config.tasks[task]))


def choices_of(config: CompareConfig, arm: str, name: str, task: TaskConfig) -> Iterator[Job]:
    """The runs that choose an arm's learning rate and what else is searched; none where nothing is."""
    if len(config.grid.learning_rates) == 1 and not task.chooses:
        return
    tried = list(product(config.grid.learning_rates, range(len(variants(config, arm, task)))))
    for way in ways_of(config, arm, task):
        for rate, variant in tried if len(tried) > 1 else ():
            yield Job(
                kind="choice",
                task=name,
                arm=arm,
                way=way,
                rate=rate,
                variant=variant,
                labels=task.choice_labels,
                pretrain_seed=config.grid.pretrain_seeds[0],
                finetune_seed=config.grid.choice_seed,
            )


def variants(config: CompareConfig, arm: str, task: TaskConfig) -> list[dict[str, Any]]:
    """The combinations of what a task searches beside the learning rate that an arm tries."""
    starts = config.arms.get(arm, ArmConfig()).starts
    weights = bool(starts) and starts != ("planted",)
    keys = [key for key in sorted(task.search) if weights or key.startswith("optim.")]
    return [dict(zip(keys, values, strict=True)) for values in product(*(task.search[key] for key in keys))]


def tests_of(config: CompareConfig, arm: str, name: str, task: TaskConfig, seed: int) -> Iterator[Job]:
    """The runs of an arm that answer the test images."""
    counts = counts_of(task)
    sets, seeds = task.label_sets or (0,) * len(counts), task.seeds or (None,) * len(counts)
    own = config.arms.get(arm, ArmConfig()).labels or (task.long_labels if arm == LONG else ()) or counts
    most = config.arms.get(arm, ArmConfig()).seeds or None
    for labels, many, first in zip(counts, sets, seeds, strict=True):
        for drawn, finetune_seed, way in product(
            range(1, many + 1) if many else (0,),
            config.grid.finetune_seeds[:first][:most],
            ways_of(config, arm, task),
        ):
            if labels in (task.probe_labels if way == "probe" else own):
                yield Job(
                    kind="test",
                    task=name,
                    arm=arm,
                    way=way,
                    labels=labels,
                    label_set=drawn,
                    pretrain_seed=seed,
                    finetune_seed=finetune_seed,
                )


def ways_of(config: CompareConfig, arm: str, task: TaskConfig) -> tuple[Way, ...]:
    """A longer training is no other probe of random features; a frozen encoder has no unlabelled images."""
    probed = task.probe_labels and arm != LONG and not config.arms.get(arm, ArmConfig()).unlabelled
    return ("full", "probe") if probed else ("full",)


def pretrain_keys(config: CompareConfig, job: Job) -> dict[str, Any]:
    """Keys of `foveate pretrain`, without folders."""
    task, arm = config.tasks[job.task], config.arms[job.arm]
    return {
        **task.both,
        **task.pretrain,
        **arm.pretrain,
        "method.name": arm.method,
        "seed": job.seed,
        "keep_checkpoints": 1,
    }


def finetune_keys(
    config: CompareConfig, job: Job, rate: float, long_steps: int, variant: int = 0
) -> dict[str, Any]:
    """Keys of `foveate finetune`, without folders and weights."""
    task = config.tasks[job.task]
    arm, own = config.arms.get(job.arm, ArmConfig()), config.own_keys(job.arm)
    keys = {**task.both, **task.finetune, **own, **variants(config, job.arm, task)[variant]}
    if job.way == "probe":
        dense = TASKS[keys["task.name"]].Config.want == "maps"
        keys |= {**FROZEN, **(LIGHT if dense else {}), **task.probe}
    if job.arm == LONG:
        keys["steps"] = long_steps
    if arm.unlabelled:  # a folder is elsewhere in another place
        keys["unlabelled"] = REST if arm.unlabelled == REST else "a folder"
        keys.pop("tuning.average", None)  # the teacher is the average
    return {
        **keys,
        "seed": job.seed + (PLANTED_SEEDS if arm.other_scratch else 0),
        "optim.lr": rate,
        f"split.train_{task.count}": job.labels * (TWICE if arm.planted == "gain" else 1),
        "split.seed": job.split_seed,
        "keep_checkpoints": 1,
    }


def pretrain_config(keys: Mapping[str, Any], task: TaskConfig, out: Path, init: str = "") -> PretrainConfig:
    """A pre-training on the training images of a task's split."""
    said = {**keys, "data": task.data, "split": task.split, "out": str(out)}
    said |= {"init": init} if init else {}
    return PRETRAIN.resolve(parsing.nest({"preview_every": 10**9, **said}), {})


def pretraining(config: CompareConfig, job: Job, out: Path) -> PretrainConfig:
    """The pre-training of an arm."""
    keys = pretrain_keys(config, job)
    return pretrain_config(keys, config.tasks[job.task], out, config.arms[job.arm].weights)


def finetune_config(
    keys: Mapping[str, Any], task: TaskConfig, init: Path | None, out: Path, unlabelled: str = ""
) -> FinetuneConfig:
    """A fine-tuning on a task's split; it validates late and at its end, and its last weights count."""
    said = {**keys, "data": task.data, "split.source": task.split, "out": str(out)}
    said |= {"unlabelled": unlabelled} if unlabelled else {}
    said["init"] = str(init) if init else RANDOM_WEIGHTS
    said |= {"preview_every": 10**9, "validation.export": "last"}
    config = FINETUNE.resolve(parsing.nest(said), {})
    return replace(config, validate_every=max(1, round(LATE * config.steps)))


def fingerprint(keys: Mapping[str, Any]) -> str:
    """A hash of the keys of a run."""
    text = json.dumps(keys, sort_keys=True, default=list)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def is_pretrained(config: CompareConfig, job: Job) -> bool:
    """Whether a job starts from weights that a method of this comparison makes."""
    return job.kind != "pretrain" and config.origin(job.arm) in config.pretrained


def working_jobs(config: CompareConfig) -> list[Job]:
    """The runs to do now: those of `only`, with the pre-trainings that they start from."""
    origins = {config.origin(arm) for arm in config.working}
    return [
        job
        for job in jobs_of(config)
        if job.arm in config.working or (job.kind == "pretrain" and job.arm in origins)
    ]


def example(config: CompareConfig, task: str, nowhere: Path, arm: str = SCRATCH) -> FinetuneConfig:
    """A fine-tuning of an arm, from random weights."""
    job = next(job for job in jobs_of(config) if (job.task, job.kind, job.arm) == (task, "test", arm))
    keys = finetune_keys(config, job, config.grid.learning_rates[0], 1)
    unlabelled = config.arms.get(arm, ArmConfig()).unlabelled
    return finetune_config(keys, config.tasks[task], None, nowhere, unlabelled)


def split_of(config: FinetuneConfig) -> tuple[Split, Sequence[Record]]:
    """The whole split of a task, whatever the number of labels, and all labelled images."""
    records = labelled(config, Path(config.data)).records
    strata = [config.task.stratum(record.labels) for record in records]
    return make_split(records, strata, SplitConfig(source=config.split.source)), records
