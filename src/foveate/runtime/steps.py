"""What pretrain and finetune share of a run: its schedule, its batches and one step for a dry run."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial

from lightning_fabric import Fabric

from foveate.core.config import field_names, field_values
from foveate.core.contracts import Trainable
from foveate.core.types import Batch, Progress
from foveate.data.cache.volumes import Cache
from foveate.data.loader import Mixture, batches
from foveate.runtime import images as intake
from foveate.runtime.config import RunConfig
from foveate.runtime.resources.clock import device_clock
from foveate.train.loop import Recent, Schedule, Stepping, training_step
from foveate.train.optim import build_optimizer
from foveate.train.semi.views import views_for
from foveate.views.drawn import draw_ahead


def takes_part(fabric: Fabric, config: RunConfig) -> bool:
    """Whether this process runs the network outside the loop: process 0, or all with sync_batchnorm."""
    return fabric.is_global_zero or config.sync_batchnorm


def schedule_of(config: RunConfig) -> Schedule:
    """The keys of the configuration that the loop reads."""
    known, names = field_values(config), field_names(Schedule)
    return Schedule(**{name: value for name, value in known.items() if name in names})


def batches_from(
    config: RunConfig, cache: Cache | Mixture, method: Trainable, fabric: Fabric, step: int
) -> Generator[Batch]:
    """This process's micro-batches from an optimizer step on; `views.pipeline.make_views` draws the views."""
    return batches(
        cache if isinstance(cache, Mixture) else intake.derived(cache, method.derived),
        partial(views_for(method), specs=method.crops, seed=config.seed),
        seed=config.seed,
        first_step=step,
        steps=config.steps,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        rank=fabric.global_rank,
        world=fabric.world_size,
        num_workers=config.num_workers,
        pin_memory=config.accelerator == "cuda",
        finish=partial(draw_ahead, draws=method.draws, seed=config.seed),
    )


def first_batches(
    config: RunConfig, method: Trainable, cache: Cache | Mixture, fabric: Fabric
) -> Generator[Batch]:
    """This process's micro-batches from the start."""
    return batches_from(config, cache, method, fabric, 0)


def first_step(
    fabric: Fabric, model: Trainable, source: Iterator[Batch], config: RunConfig
) -> tuple[dict[str, float], float]:
    """The loss terms of a first training step, and the seconds of an optimizer step."""
    net, optimizer = fabric.setup(model, build_optimizer(model, config.optim))
    batch = next(source)
    started = device_clock(config.accelerator)
    progress = Progress(0, config.steps, config.seed)
    losses, _ = training_step(fabric, net, optimizer, iter([batch]), progress, Stepping(), Recent())
    seconds = (device_clock(config.accelerator) - started) * config.accumulate
    return {name: value.item() for name, value in losses.items()}, seconds
