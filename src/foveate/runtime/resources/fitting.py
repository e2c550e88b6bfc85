"""`--batch_size auto`: the largest batch that fits, by halves from the default downwards."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.single_device import SingleDeviceStrategy

from foveate.core.config import read_yaml
from foveate.core.contracts import Trainable
from foveate.core.memory import is_out_of_memory
from foveate.core.types import Batch, FoveateError, Progress
from foveate.runtime.config import RunConfig
from foveate.runtime.processes import plugin_of
from foveate.runtime.resources.shortage import halved
from foveate.train.logging import say
from foveate.train.loop import Recent, Stepping, training_step
from foveate.train.optim import build_optimizer
from foveate.train.peers import Peers

C = TypeVar("C", bound=RunConfig)
TRIED = 2  # steps: the first one allocates what the optimizer remembers


def with_recorded_batch(config: C) -> C:
    """The batch that a run took when it was started, where it is resumed: its samples may not change."""
    saved = Path(config.out) / "run.yaml"
    if not (config.fit_batch and saved.exists()):
        return config
    before = read_yaml(saved)
    return replace(config, batch_size=before["batch_size"], accumulate=before["accumulate"], fit_batch=False)


def fitted(
    config: C,
    build: Callable[[C], Trainable],
    load: Callable[[C, Trainable], Generator[Batch]],
    fabric: Fabric,
    peers: Peers,
    *,
    least: int,
) -> C:
    """The configuration with a batch that fits on every process, if it asks for that.

    Args:
        config: The run.
        build: Makes what is trained; what is tried is thrown away.
        load: This process's batches from the first step on.
        fabric: The device.
        peers: The other processes, which try at the same time, each for itself, and take the same.
        least: The smallest batch that it can be trained with.
    """
    if not config.fit_batch:
        return config
    tried = config
    while peers.highest(float(not fits(tried, build, load, fabric))):
        smaller = halved(tried, least)
        if smaller is None:
            raise FoveateError(
                f"--batch_size auto: not even {tried.batch_size} samples fit into memory; accepted: smaller "
                "views, a smaller --encoder.width, or --activation_checkpointing true."
            )
        tried = smaller
    say(f"--batch_size auto takes --batch_size {tried.batch_size} --accumulate {tried.accumulate}")
    return replace(tried, fit_batch=False)


def fits(
    config: C,
    build: Callable[[C], Trainable],
    load: Callable[[C, Trainable], Generator[Batch]],
    fabric: Fabric,
) -> bool:
    """Whether some steps go through; what they took is given back."""
    try:
        some_steps(config, build, load, fabric)
        fit = True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fit = False
    give_back()
    return fit


def some_steps(
    config: C,
    build: Callable[[C], Trainable],
    load: Callable[[C, Trainable], Generator[Batch]],
    fabric: Fabric,
) -> None:
    """A few steps of one micro-batch on this process's device, without the other processes."""
    alone = Fabric(
        accelerator=config.accelerator,
        devices=1,
        strategy=SingleDeviceStrategy(fabric.device),
        plugins=[plugin_of(config.precision, config.accelerator), LightningEnvironment()],
    )
    model = build(config)
    net, optimizer = alone.setup(model, build_optimizer(model, config.optim))
    with closing(load(replace(config, num_workers=0), model)) as source:
        batch = next(source)
    how = Stepping(clip_norm=config.optim.clip_norm, measure=True)  # which needs the most
    for step in range(TRIED):
        progress = Progress(step, config.steps, config.seed)
        training_step(alone, net, optimizer, iter([batch]), progress, how, Recent())


def give_back() -> None:
    """Free what is no longer used, for other parts of the process and for others on the same GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
