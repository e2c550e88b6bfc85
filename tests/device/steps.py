"""Single steps of the real loop on the pretended device, and what each of them waits for."""

import logging
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from ledger import BLOCKING, LEDGER, WAIT, total

from foveate.commands.finetune.build import build_task
from foveate.commands.finetune.config import SPEC as TUNING, FinetuneConfig
from foveate.commands.finetune.images import load_images
from foveate.commands.finetune.semi import source_of, trained_from
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC as PRETRAINING
from foveate.commands.pretrain.images import open_cache
from foveate.runtime.processes import build_fabric
from foveate.runtime.registries import METHODS
from foveate.runtime.steps import batches_from, schedule_of
from foveate.testing.cohorts import write_cohort, write_labelled
from foveate.testing.runs import VIEWS, task_keys, tiny_keys
from foveate.train.logging import CONSOLE, RunLog
from foveate.train.loop import Hooks, fit

STEPS = 5  # the first prepares the optimizer's state, the last one logs and saves: those between are counted
ON_DEVICE = {"accelerator": "cuda", "precision": "bf16-mixed"}
TASKS = {"segmentation": "grade", "classification": "grade"}
UNLABELLED = {"unlabelled": "rest", "split": {"train_cases": 2, "val_share": 0.25, "test_share": 0.25}}
OVERLAPPING = {"classes": ["bright=1", "again=1"]}

ROOT = Path(tempfile.mkdtemp(prefix="foveate-device-"))
IMAGES, LABELLED = {}, {}


def quiet():
    """No progress bar, no warnings, one thread."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    CONSOLE.quiet = True


def images(dimension):
    if dimension not in IMAGES:
        IMAGES[dimension] = write_cohort(ROOT / f"images{dimension}", dimension)
    return IMAGES[dimension]


def labelled(dimension):
    if dimension not in LABELLED:
        LABELLED[dimension] = write_labelled(ROOT / f"labelled{dimension}", dimension)
    return LABELLED[dimension]


def new_folder():
    return Path(tempfile.mkdtemp(dir=ROOT)) / "run"


def method_config(dimension, name, method=None, **keys):
    """A pre-training of seconds on the device."""
    keys = {**ON_DEVICE, "steps": 2, **keys}
    out = keys.pop("out", None) or new_folder()
    return PRETRAINING.from_keys(
        tiny_keys(dimension, images(dimension), out, {"name": name, **(method or {})}, **keys)
    )


def task_config(dimension, name, target="grade", **keys):
    """A fine-tuning of seconds on the device."""
    made = task_keys(name, dimension, labelled(dimension), new_folder(), target) | ON_DEVICE
    made["task"] |= keys.pop("task", {})
    return TUNING.from_keys({**made, **keys})


@dataclass(frozen=True)
class Counted:
    """The most of every kind in one step, and the events of all counted steps."""

    waits: int
    blocking: int
    events: Counter


def counted(config):
    """Steps of `config` in the real loop, none of which logs, saves or measures."""
    fabric = build_fabric(config)
    if isinstance(config, FinetuneConfig):
        material = load_images(config, ROOT / "caches")
        config = material.config
        model, _ = trained_from(build_task(config), config)
        cache = source_of(config, material.train, material.unlabelled)
    else:
        model, cache = build_method(config), open_cache(config)
    config = replace(config, steps=STEPS, out=str(new_folder()))
    Path(config.out, "checkpoints").mkdir(parents=True)
    ends = []

    def after(_step):
        ends.append(LEDGER.copy())
        return {}

    schedule = replace(schedule_of(config), log_every=STEPS, save_every=STEPS, preview_every=STEPS)
    load = partial(batches_from, config, cache, model, fabric)
    with RunLog(Path(config.out), STEPS, active=False) as log:
        fit(fabric, model, load, schedule=schedule, optim=config.optim, log=log, hooks=Hooks(measure=after))
    steps = [end - begin for begin, end in pairwise(ends[:-1])]
    return Counted(
        waits=max(total(step, WAIT) for step in steps),
        blocking=max(total(step, BLOCKING) for step in steps),
        events=sum(steps, Counter()),
    )


def variants(dimension):
    """Name -> configuration of everything whose steps are counted."""
    found = {name: partial(method_config, dimension, name) for name in METHODS.names()}
    found["simsiam, every corruption"] = partial(
        method_config, dimension, "simsiam", {"global_appearance": everything(dimension)}
    )
    found["context_restoration, moved_weight 3"] = partial(
        method_config, dimension, "context_restoration", {"moved_weight": 3.0}
    )
    found["region_contrast, means"] = partial(
        method_config,
        dimension,
        "region_contrast",
        {"region_pool": "mean", "sampling": {"fewest_cells": 1}},
    )
    for name, target in TASKS.items():
        found[f"task {name}"] = partial(task_config, dimension, name, target)
    semi = partial(task_config, dimension, "segmentation", **UNLABELLED)
    found["task segmentation, unlabelled"] = semi
    found["task segmentation, unlabelled, overlapping classes"] = partial(semi, task=OVERLAPPING)
    return found


def everything(dimension):
    """An appearance with every operation on."""
    small, large = {2: ([4, 4], [8, 8]), 3: ([3, 3, 3], [5, 5, 5])}[dimension]
    window = [VIEWS[dimension][1][0] // 4] * dimension
    return {
        "blur_sigma": [0.5, 1.0],
        "blur_probability": 0.6,
        "noise_std": [0.0, 0.1],
        "brightness": 0.2,
        "brightness_probability": 0.5,
        "contrast": 0.2,
        "log_gamma": [-0.2, 0.2],
        "gamma_probability": 0.5,
        "bias_field": 0.3,
        "bezier_strength": 1.0,
        "bezier_probability": 0.7,
        "shuffle_window": window,
        "paint_windows": 3,
        "swap_patch": small,
        "swap_patch_largest": large,
        "swap_count": 3,
        "normalisation": {2: "imagenet", 3: "zscore"}[dimension],
        "cutout_size": small,
        "cutout_count": 2,
    }
