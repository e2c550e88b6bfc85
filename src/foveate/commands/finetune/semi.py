"""What a run trains: the task, or the task with unlabelled images; and what of it is judged and exported."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from lightning_fabric import Fabric

from foveate.commands.finetune.config import FinetuneConfig, check_pairs
from foveate.core.boxes.tasks import BoxConfig
from foveate.core.config import field_values
from foveate.core.contracts import Trainable
from foveate.core.rng import key
from foveate.core.tasks import ImageTask, Task
from foveate.core.types import Batch
from foveate.data.boxes.places import around_places
from foveate.data.cache.volumes import Cache
from foveate.data.loader import Mixture, batches
from foveate.nets.ema import Averaged
from foveate.runtime.config import SHARES
from foveate.train.semi.consistency import Consistent
from foveate.train.semi.model import SemiSupervised
from foveate.train.semi.taught import Taught
from foveate.train.semi.views import views_for


def trained_from(task: Task, config: FinetuneConfig) -> tuple[Trainable, Task]:
    """What the loop trains, and the task that is validated and exported; after --init was read."""
    if not config.unlabelled:
        if not config.tuning.average:
            return task, task
        averaged = Averaged(task, config.tuning.average)
        return averaged, averaged.average
    check_pairs(config)  # the batch may have been made to fit into memory
    kind = Consistent if isinstance(task, ImageTask) else SemiSupervised
    model = kind(task, config.semi)
    return model, model.judged


def trained_task(trained: Trainable, judged: Task) -> Task:
    """The task whose weights the optimizer moves."""
    return trained.task if isinstance(trained, Taught | Averaged) else judged


def labelled_source(config: FinetuneConfig, labelled: Cache) -> Cache:
    """The labelled images, or the places in them that the task is trained on."""
    return around_places(labelled, config.task) if isinstance(config.task, BoxConfig) else labelled


def source_of(config: FinetuneConfig, labelled: Cache, unlabelled: Cache | None) -> Cache | Mixture:
    """The images that the loader draws from."""
    if unlabelled is None:
        return labelled_source(config, labelled)
    samples = math.prod(field_values(config)[name] for name in SHARES)
    first = config.semi.supervised_steps * samples
    return Mixture(labelled=labelled, unlabelled=unlabelled, first=first)


def measure_of(
    fabric: Fabric, model: Trainable, config: FinetuneConfig, unlabelled: Cache | None
) -> Callable[[int], dict[str, float]]:
    """What the loop asks for after every step: the health of the pseudo-labels where there are any."""
    kept: list[Batch] = []

    def look(step: int) -> dict[str, float]:
        every, begun = config.semi.health_every, step > config.semi.supervised_steps
        if unlabelled is None or not isinstance(model, Taught) or not (every and begun):
            return {}
        if step % every or not fabric.is_global_zero:
            return {}
        if not kept:
            views = partial(views_for(model), specs=model.crops, seed=config.seed)
            order = key(config.seed, "health") >> 1
            made = batches(unlabelled, views, seed=order, first_step=0, steps=1, batch_size=model.sample_size)
            kept.append(next(made))
        with fabric.autocast():
            return model.measure(fabric.to_device(kept[0]))

    return look
