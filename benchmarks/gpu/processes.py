"""Runs of foveate beside others: a plain loop, and two processes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch

import training
from hardware import Measures, Row, Setting
from programs import METHODS, program


def loop(setting: Setting) -> Measures:
    """The same views, batch and network, in foveate and in a plain loop."""
    for dimension in (2,) if setting.miniature else (2, 3):
        for precision in ("bf16-mixed", "32-true"):
            what = f"foveate, {precision}, {dimension}D"
            yield what, partial(training.step, setting, dimension, "pcrlv2", precision=precision)
        yield f"plain loop, float32, {dimension}D", partial(plain, setting, dimension)


def plain(setting: Setting, dimension: int) -> Row:
    """The published step in a plain loop."""
    config = training.configured(setting, dimension, "pcrlv2")
    length = training.SHORT if setting.miniature else training.LONG
    crops = {name: getattr(config.method, f"{name}_crops") for name in ("global", "local")}
    flags = {
        "--images": training.images(setting, dimension),
        "--dimension": dimension,
        "--accelerator": setting.accelerator,
        "--width": config.encoder.width,
        "--batch": config.batch_size,
        "--workers": config.num_workers,
        "--steps": length.steps,
        "--warm": length.warm,
    }
    said = [part for pair in flags.items() for part in pair]
    said += ["--grid", *crops["global"].grid, "--crop", *crops["local"].grid]
    return json.loads(program(setting, METHODS / "pcrlv2_plain.py", *said).splitlines()[-1])


def devices(setting: Setting) -> Measures:
    """Samples a second of one process and of two."""
    count = torch.cuda.device_count() if setting.cuda else 0
    if count < 2:
        yield "two GPUs", lambda: {"not measured": f"{count} GPUs are here"}
        return
    for dimension in (2, 3):
        for number in (1, 2):
            yield f"pcrlv2, {dimension}D, {number} GPUs", partial(together, setting, dimension, number)


def together(setting: Setting, dimension: int, number: int) -> Row:
    """A run of `foveate pretrain` on so many GPUs."""
    config = training.configured(setting, dimension, "pcrlv2")
    flags = {
        "--data": config.data,
        "--out": config.out,
        "--method": "pcrlv2",
        "--dimension": dimension,
        "--devices": number,
        "--num_workers": max(1, setting.workers // number),
        "--steps": 60,
        "--log_every": 20,
        "--health_every": 0,
    }
    program(setting, "-m", "foveate.cli", "pretrain", *[part for pair in flags.items() for part in pair])
    lines = (Path(config.out) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row.get("step", 0) > 20 and "seconds_per_step" in row]
    seconds = sum(row["seconds_per_step"] for row in rows) / len(rows)
    return {"s a step": seconds, "samples/s": number * config.batch_size / seconds}
