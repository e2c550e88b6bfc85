"""The first log line of a pre-training run, and the card of its weights."""

from __future__ import annotations

import time
from importlib.metadata import version

import torch

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core import config as parsing
from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.data.cache.volumes import Cache
from foveate.nets.weights.store import Card
from foveate.runtime.card import ancestor, shared_card
from foveate.runtime.config import (
    RunConfig,
)
from foveate.runtime.registries import METHODS


def headline(config: PretrainConfig) -> str:
    """The first line of a run, with the estimated hours for paper size on a CPU."""
    what = f"foveate {version('foveate')}: {config.method.name}, {config.dimension}D, {config.encoder.name}"
    how = (
        f"size {config.size} (width {config.encoder.width}), batch {config.batch_size} x {config.accumulate}"
    )
    if (world := config.devices * config.num_nodes) > 1:
        how += f" x {world} processes"
    line = f"{what}, {how}, {config.steps} steps on {config.accelerator}, {config.precision}"
    if config.size == "paper" and config.accelerator == "cpu":
        line += f"\nNo accelerator: about {hours_on_cpu(config):,.0f} h at this size. For CPUs: --size small"
    return line


def hours_on_cpu(config: RunConfig) -> float:
    """Hours of the run, from the counted work of a step and the speed of one convolution here and now."""
    image, kernel = torch.randn(1, 32, 24, 24, 24), torch.randn(32, 32, 3, 3, 3)
    operations = 2 * kernel.numel() * 24**3
    torch.conv3d(image, kernel, padding=1)
    started = time.perf_counter()
    for _ in range(4):
        torch.conv3d(image, kernel, padding=1)
    per_second = 4 * operations / (time.perf_counter() - started)
    work = 1e9 * defaults(config.dimension, config.size).gflop_per_sample * config.batch_size
    return work * config.accumulate * config.steps / per_second / 3600


def card(config: PretrainConfig, method: Method, cache: Cache) -> Card:
    """What a later user must know of the weights. No path and no identity."""
    return shared_card(config, method, cache) | {
        "batch_norm_statistics": "re-estimated on clean global views",
        "method": parsing.to_mapping(config)["method"],
        "data_hash": cache.data_hash,
        "citation": citation(config),
        "initial_weights": ancestor(config.init),
    }


def citation(config: PretrainConfig) -> str:
    """The first line of the method's own page."""
    return str(METHODS[config.method.name].__doc__).splitlines()[0]
