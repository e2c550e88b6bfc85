"""The training step of every method as a run makes it, and the memory that it takes."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from foveate.commands.plan.run import plan
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC, PretrainConfig
from foveate.commands.pretrain.images import open_cache
from foveate.core.types import Progress
from foveate.runtime.memory import peaks_mib
from foveate.runtime.processes import build_fabric
from foveate.runtime.registries import METHODS
from foveate.runtime.steps import batches_from, schedule_of
from foveate.testing.cohorts import blobs, write_picture, write_volume
from foveate.testing.runs import tiny_keys
from foveate.train.logging import RunLog
from foveate.train.loop import Hooks, fit
from hardware import Measures, Row, Setting, highest

IMAGES = {2: ((640, 512), 48), 3: ((160, 160, 128), 24)}
FEW = ("pcrlv2", "masked")  # the methods of a miniature
PLANNED = ("pcrlv2", "simclr")


@dataclass(frozen=True, kw_only=True)
class Length:
    """How many steps are made, and how many of them are not counted: workers start, algorithms are chosen."""

    steps: int
    warm: int


LONG, SHORT = Length(steps=40, warm=10), Length(steps=4, warm=2)
LOADERS = 4  # of very large batches: each holds some of them in shared memory


def images(setting: Setting, dimension: int) -> Path:
    """A folder of images with structure at several scales; the same for all sections."""
    folder = setting.scratch / f"images{dimension}"
    if folder.exists():
        return folder
    shape, count = IMAGES[dimension]
    if setting.miniature:
        shape, count = (tuple(n // 6 for n in shape), 3)
    part = Path(tempfile.mkdtemp(dir=setting.scratch))
    for i in range(count):
        if dimension == 2:
            write_picture(part / f"p{i}.png", blobs(shape, i))
        else:
            write_volume(part / f"v{i}.nii.gz", blobs(shape, i))
    return part.rename(folder)


def configured(setting: Setting, dimension: int, name: str, **keys: Any) -> PretrainConfig:
    """A run of a method at paper size, into a new folder."""
    out = Path(tempfile.mkdtemp(dir=setting.scratch)) / "run"
    data, more = images(setting, dimension), {"accelerator": setting.accelerator, **keys}
    if setting.miniature:
        return SPEC.from_keys(tiny_keys(dimension, data, out, {"name": name}, **more))
    said = {"data": str(data), "out": str(out), "dimension": dimension, "method": {"name": name}}
    return SPEC.from_keys({**said, "size": "paper", "num_workers": setting.workers, **more})


def steps(setting: Setting) -> Measures:
    """Every method in 2D and 3D with its defaults."""
    for dimension in (2, 3):
        for name in FEW if setting.miniature else METHODS.names():
            yield f"{name}, {dimension}D", partial(step, setting, dimension, name)


def step(setting: Setting, dimension: int, name: str, **keys: Any) -> Row:
    """Samples a second in the real loop, and what share of the device's ceiling that is."""
    config = configured(setting, dimension, name, **keys)
    found = measured(config, setting, SHORT if setting.miniature else LONG)
    operations = flops_per_sample(config)
    rate, most = float(found["samples/s"]) * operations / 1e12, highest(setting, dimension)
    return {
        **found,
        "GFLOP a sample": operations / 1e9,
        "TFLOP/s": rate,
        "share of the ceiling": rate / most if most else "not known",
    }


def measured(config: PretrainConfig, setting: Setting, length: Length) -> Row:
    """Some steps of the real loop, with its loader and its log."""
    out = Path(config.out)
    (out / "checkpoints").mkdir(parents=True)
    config = replace(config, steps=length.steps, log_every=length.warm, save_every=length.steps)
    fabric, method = build_fabric(config), build_method(config)
    cache = open_cache(config)
    marks: dict[int, float] = {}
    if setting.cuda:
        torch.cuda.reset_peak_memory_stats()

    def after(done: int) -> Mapping[str, float]:
        if done in (length.warm, length.steps):
            setting.wait()
            marks[done] = time.perf_counter()
        return {}

    load = partial(batches_from, config, cache, method, fabric)
    schedule, hooks = schedule_of(config), Hooks(measure=after)
    with RunLog(out, config.steps, active=True) as log:
        fit(fabric, method, load, schedule=schedule, optim=config.optim, log=log, hooks=hooks)
    seconds = marks[length.steps] - marks[length.warm]
    samples = (length.steps - length.warm) * config.batch_size * config.accumulate
    return {
        "batch": config.batch_size,
        "precision": config.precision,
        "workers": config.num_workers,
        "samples/s": samples / seconds,
        "s a step": seconds / (length.steps - length.warm),
        "data wait": data_wait(out, length.warm),
        "peak, MiB": peaks_mib(setting.cuda)[0],
    }


def data_wait(out: Path, warm: int) -> float:
    """The share of time that waited for data, after the first steps, as the log has it."""
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "data_wait" in row and row["step"] > warm]
    return sum(row["data_wait"] for row in rows) / len(rows)


def flops_per_sample(config: PretrainConfig) -> float:
    """Multiplications and additions of a step's forward and backward passes: the mean of four steps."""
    config = replace(config, batch_size=2, num_workers=0)
    fabric, method = build_fabric(config), build_method(config)
    net = fabric.setup_module(method)
    cache = open_cache(config)
    source, total = batches_from(config, cache, method, fabric, 0), 0
    for number, batch in enumerate(islice(source, 4)):
        on_device = fabric.to_device(batch)
        with FlopCounterMode(display=False) as counter:
            losses = net(on_device, Progress(number, config.steps, config.seed))
            fabric.backward(torch.stack(list(losses.values())).sum())
        total += counter.get_total_flops()
        net.zero_grad()
    return total / 4 / config.batch_size


def memory(setting: Setting) -> Measures:
    """The batch that `plan` says would fit, made."""
    for dimension in (2,) if setting.miniature else (2, 3):
        for name in PLANNED[:1] if setting.miniature else PLANNED:
            yield f"{name}, {dimension}D", partial(planned, setting, dimension, name)


def planned(setting: Setting, dimension: int, name: str) -> Row:
    """The peak that is said of a small batch and of the largest that fits, against those of runs."""
    small = configured(setting, dimension, name, batch_size=2 if setting.miniature else 8)
    text = plan(small)
    largest = said(text, r"up to about ([\d,]+) samples")
    batch = 4 if setting.miniature else largest - largest % 2
    if setting.cuda:
        torch.cuda.empty_cache()
    workers = min(LOADERS, setting.workers)
    config = configured(setting, dimension, name, batch_size=batch, num_workers=workers)
    found = measured(config, setting, SHORT)
    return {
        "a small batch": small.batch_size,
        "peak that plan says of it, MiB": said(text, r"([\d,]+) MiB at the peak"),
        "largest batch that plan says": largest,
        "batch that was run": batch,
        "its peak, MiB": found["peak, MiB"],
        "free at first, MiB": said(text, r"([\d,]+) MiB were free"),
    }


def said(text: str, pattern: str) -> int:
    """A whole number of a plan."""
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"the plan has no {pattern!r}: {text}")
    return int(match[1].replace(",", ""))
