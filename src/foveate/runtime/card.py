"""The card of a run's weights: what every run has to say, and what incoming weights are compared with."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch

from foveate.core import config as parsing
from foveate.core.contracts import Method
from foveate.core.dims import LAYERS
from foveate.core.tasks import Task
from foveate.data.cache.volumes import Cache
from foveate.nets.weights.store import FORMAT, Card, check_card, read
from foveate.runtime.config import (
    RunConfig,
)
from foveate.runtime.folder import commit
from foveate.runtime.inputs.facts import card_facts

UNSTATED = "not stated: ask the owner of the images"


def shared_card(config: RunConfig, trained: Method | Task, cache: Cache) -> Card:
    """What the weights of every run have to say."""
    mapping: dict[str, Any] = parsing.to_mapping(config)
    return {
        "format": FORMAT,
        "foveate": version("foveate"),
        "commit": commit(),
        "dimension": config.dimension,
        "axis_order": LAYERS[config.dimension].axis_order,
        "in_channels": config.encoder.in_channels,
        "intensity": mapping["prepare"],
        "normalisation": trained.normalisation,
        "spacing_mm": [round(float(value), 3) for value in median_spacing(cache)],
        "slices": slices_of(config, cache),
        "encoder": mapping["encoder"],
        "decoder": mapping["decoder"],
        "optim": mapping["optim"],
        "precision": config.precision,
        "float32_matmul": config.float32_matmul,
        "steps": config.steps,
        "samples": config.steps * config.batch_size * config.accumulate * config.devices * config.num_nodes,
        "views": {name: list(spec.grid) for name, spec in trained.crops.items()},
        "input": card_facts(cache, config.prepare),
        "images": len(cache),
        "patients": patients(cache),
        "weights_licence": UNSTATED,
        "data_licence": UNSTATED,
    }


def input_notes(given: Card, config: RunConfig, trained: Method | Task, cache: Cache) -> tuple[str, ...]:
    """How the images differ from those that weights saw; an error where nothing bridges it."""
    found = check_card(
        given,
        dimension=config.dimension,
        in_channels=config.encoder.in_channels,
        normalisation=trained.normalisation,
        intensity=parsing.to_mapping(config.prepare),
        spacing=median_spacing(cache),
        slices=slices_of(config, cache),
    )
    return tuple(found)


def patients(cache: Cache) -> int | None:
    """How many people the images are of; None where the source does not name them."""
    names = {volume.patient for volume in cache}
    return None if "" in names else len(names)


def ancestor(init: str) -> dict[str, Any] | None:
    """What the weights started from, in the words of its card: whose licence and citation go on."""
    if not init:
        return None
    _, before = read(init)
    kept = ("method", "family", "source_sha256", "data_hash", "weights_licence", "data_licence", "citation")
    return {key: before[key] for key in kept if key in before}


def slices_of(config: RunConfig, cache: Cache) -> dict[str, Any] | None:
    """How volumes were cut into slices; None where the images were seen as they are."""
    return parsing.to_mapping(config.slices) if cache[0].cut else None


def median_spacing(cache: Cache) -> list[float]:
    """Per axis, over the images."""
    spacings = torch.tensor([volume.view_spacing_mm for volume in cache], dtype=torch.float64)
    return list(spacings.median(dim=0).values.tolist())
