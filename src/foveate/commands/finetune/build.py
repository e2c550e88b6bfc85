"""A task on its network, from the configuration of a run."""

from __future__ import annotations

import torch

from foveate.commands.finetune.config import FinetuneConfig
from foveate.core.rng import key
from foveate.core.tasks import Task
from foveate.core.types import FoveateError
from foveate.nets.pyramid import build_pyramid
from foveate.runtime.processes import settle
from foveate.runtime.registries import TASKS


def build_task(config: FinetuneConfig) -> Task:
    """The task on its network; initial weights are a draw of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(config.seed, "initial weights") >> 1)
        net = build_pyramid(config.encoder, config.decoder, config.dimension)
        task: Task = TASKS[config.task.name].build(net, config.task)
    for name, spec in task.crops.items():
        if len(spec.grid) != config.dimension or any(n % net.stride for n in spec.grid):
            raise FoveateError(
                f"task.crops.grid {list(spec.grid)} ({name}): accepted are {config.dimension} multiples of "
                f"{net.stride}, the coarsest stride of --encoder {config.encoder.name}."
            )
    if config.tuning.encoder == "frozen":
        task.freeze()
    task.validation_overlap = config.validation.overlap
    settle(task, config)
    return task


def stride_of(config: FinetuneConfig) -> int:
    """The coarsest stride of the network."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return build_pyramid(config.encoder, config.decoder, config.dimension).stride


def encoder_of(task: Task) -> torch.nn.Module:
    """The part that was pre-trained."""
    return task.exported()["encoder"]
