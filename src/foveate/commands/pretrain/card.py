"""The first log line of a pre-training run, and the card of its weights."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core import config as parsing
from foveate.core.config import field_values
from foveate.core.contracts import Method
from foveate.core.dims import defaults
from foveate.data.cache.volumes import Cache
from foveate.data.named_sets import shares_of
from foveate.data.order import Mix, Weighted
from foveate.data.position import Position
from foveate.nets.weights.store import Card
from foveate.runtime.card import ancestor, shared_card
from foveate.runtime.config import SHARES, RunConfig
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


def card(config: PretrainConfig, method: Method, cache: Cache, position: Position | None = None) -> Card:
    """What a later user must know of the weights. No path and no identity."""
    return (
        shared_card(config, method, cache)
        | {
            "batch_norm_statistics": "re-estimated on clean global views",
            "method": parsing.to_mapping(config)["method"],
            "data_hash": cache.data_hash,
            "citation": citation(config),
            "initial_weights": ancestor(config.init),
        }
        | ({"sets": sets_of(config, counts_of(cache))} if cache.mix else {})
        | ({"position": position.as_json()} if position else {})
    )


def counts_of(cache: Cache) -> list[int]:
    """How many images each of several data sets has; [] where there is one."""
    return [each.images for each in cache.mix.sets] if cache.mix else []


def sets_of(config: PretrainConfig, counts: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Of every data set in `data`: its share, its images and how many samples of the run are of it."""
    shares = shares_of(config.data)
    parts = zip(shares.items(), counts, strict=True)
    mix = Mix(tuple(Weighted(name=name, share=share, images=n) for (name, share), n in parts))
    samples = mix.drawn(config.seed, config.steps * math.prod(field_values(config)[k] for k in SHARES))
    return {
        each.name: {"share": float(each.share), "images": each.images, "samples": drawn}
        for each, drawn in zip(mix.sets, samples, strict=True)
    }


def sets_note(config: PretrainConfig, counts: Sequence[int]) -> str:
    """The same for the log; "" where there is one data set."""
    if not config.sets:
        return ""
    parts = [
        f"{name} {100 * each['share']:.4g} % ({each['images']} images, {each['samples']:,} samples, so each "
        f"image {each['samples'] / each['images']:.3g} times)"
        for name, each in sets_of(config, counts).items()
    ]
    return f"data sets by weight: {', '.join(parts)}"


def citation(config: PretrainConfig) -> str:
    """The first line of the method's own page."""
    return str(METHODS[config.method.name].__doc__).splitlines()[0]
