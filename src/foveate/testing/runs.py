"""Runs of seconds, complete or left in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core import config as parsing
from foveate.core.boxes.tasks import BoxConfig
from foveate.core.contracts import MethodConfig
from foveate.core.tasks import ImageConfig
from foveate.core.types import Dimension
from foveate.runtime.registries import TASKS, method_defaults
from foveate.testing.cohorts import CANDIDATES
from foveate.train.logging import RunLog

VIEWS = {2: ([64, 64], [32, 32]), 3: ([16, 16, 16], [8, 8, 8])}


def adapt(keys: dict[str, Any], preset: MethodConfig) -> None:
    """Leave out what a method does not have, so that any method runs on the same small views."""
    known = parsing.to_mapping(preset)
    for name in [name for name in keys if name not in known]:
        del keys[name]
    for crops in [name for name in keys if name.endswith("_crops")]:
        if not known[crops]["source_sizes"]:
            keys[crops].pop("source_sizes", None)
    if not known.get("global_appearance", {}).get("swap_count"):
        keys.pop("global_appearance", None)


def tiny_keys(
    dimension: Dimension, data: Path, out: Path, method: Mapping[str, Any] | None = None, **keys: object
) -> dict[str, Any]:
    """Keyword arguments of `foveate.pretrain` for a run of seconds."""
    view, crop = VIEWS[dimension]
    nested: dict[str, Any] = {
        "data": str(data),
        "out": str(out),
        "dimension": dimension,
        "size": "small",
        "steps": 4,
        "batch_size": 2,
        "num_workers": 0,
        "log_every": 1,
        "encoder": {"width": 4},
        "method": {
            "global_crops": {"grid": view},
            "local_crops": {"grid": crop, "count": 2},
        },
    }
    if len(view) > 2:
        nested["method"]["global_crops"]["source_sizes"] = [[20, 20, 16], [16, 16, 16]]
        nested["method"]["local_crops"]["source_sizes"] = [[8, 8, 8], [12, 12, 8]]
        nested["method"]["global_appearance"] = {"swap_count": 4}
    method = method or {}
    names = {"method.name": method.get("name", "pcrlv2")}
    if "base" in method:
        names["method.base.name"] = method["base"]["name"]
    preset = method_defaults(names, dimension, "small")
    adapt(nested["method"], preset.wrapped or preset)
    if preset.wrapped:
        nested["method"] = {"base": nested["method"]}
    for name, value in method.items():
        known = nested["method"].get(name)
        nested["method"][name] = {**known, **value} if isinstance(known, dict) else value
    return {**nested, **keys}


def task_keys(task: str, dimension: Dimension, data: Path, out: Path, target: str) -> dict[str, Any]:
    """Keyword arguments of `foveate.finetune` for a run of seconds; `target` is the column to learn."""
    view, _ = VIEWS[dimension]
    preset = TASKS[task].Config.preset(dimension, "small", "none")
    keys: dict[str, Any] = {"name": task}
    if isinstance(preset, ImageConfig):
        keys["targets"] = [target]
    crops = parsing.to_mapping(preset).get("crops", {})
    if "grid" in crops:
        keys["crops"] = {"grid": view} | ({"source_sizes": [view]} if crops["source_sizes"] else {})
    table = {"file": str(data / CANDIDATES), "diameter": 4}
    listed = isinstance(preset, BoxConfig) and preset.places_given
    return {
        **({"boxes": table} if listed else {}),
        "data": str(data),
        "out": str(out),
        "task": keys,
        "init": "none",
        "dimension": dimension,
        "size": "small",
        "steps": 2,
        "batch_size": 2,
        "num_workers": 0,
        "validate_every": 2,
        "accelerator": "cpu",
        "precision": "32-true",
        "encoder": {"width": 4},
        "split": {"val_share": 0.25, "test_share": 0.25},
    }


def stop_at(config: PretrainConfig, step: int) -> None:
    """Leave a run as SIGTERM after `step` leaves it."""
    from foveate.commands.pretrain import run

    class Bomb(RunLog):
        def advance(self, step_done: int) -> None:
            super().advance(step_done)
            if step_done == step:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "RunLog", Bomb)
        assert not run.pretrain(config)
