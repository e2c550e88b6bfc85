"""What stop-gradient holds up: the spread of PCRLv2's embeddings with it and without it.

    python benchmarks/methods/stop_gradient.py --data FOLDER --out DIR [--steps 150] [--every 10]
        [--KEY VALUE ...]

Four short runs on the same batches from the same weights: projector `bn` (published) and `plain`, each with
and without stop-gradient. Every few steps the pooled features h, the projections z and the predictions p of
one fixed batch of global views are L2-normalised; the standard deviation over views, averaged over channels
and multiplied by sqrt(C), is 1 for directions spread evenly and 0 where all views got the same embedding.
Batch norm keeps that of z at 1 by construction, so the share of distinct directions is drawn as well: 1 less
the mean of exp(-2 d^2) over pairs of z; 0: all are equal, 0.5: half of them lie opposite the other half.
Writes `stop_gradient.json` and the curves, `stop_gradient.png`. Other keys are those of `foveate pretrain`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC, PretrainConfig
from foveate.commands.pretrain.images import open_cache
from foveate.core import config as parsing
from foveate.core.types import Batch, Progress
from foveate.data.loader import batches
from foveate.methods.pcrlv2 import PCRLv2
from foveate.nets.layers import running_statistics
from foveate.scoring.embedding import uniformity
from foveate.train.optim import build_optimizer, learning_rate, set_learning_rate
from foveate.views.pipeline import make_views

PROBES = 16  # samples of the batch that is looked at
ARMS = {
    f"{projector}, {'with' if stop else 'without'} stop-gradient": {
        "projector": projector,
        "stop_gradient": stop,
    }
    for projector in ("bn", "plain")
    for stop in (True, False)
}
QUANTITIES = {"h": "pooled features h", "z": "projections z", "p": "predictions p", "u": "distinct z"}
Curves = dict[str, dict[str, list[float]]]  # quantity -> stride of the scale -> value at each look


def spread(embedding: Tensor) -> float:
    """1 for directions spread evenly over the sphere, 0 for a single one."""
    return float(F.normalize(embedding, dim=1).std(0).mean() * embedding.shape[1] ** 0.5)


@torch.no_grad()
def look(method: PCRLv2, probe: Batch, seed: int) -> dict[str, dict[str, float]]:
    """Spread of every quantity at every scale, under batch statistics that are not kept."""
    with running_statistics(method, update=False):
        _, views, _ = method.looks(probe, seed)
        maps = method.net(torch.cat(views))
        embedded = method.embed(maps, method.scales)
    found: dict[str, dict[str, float]] = {name: {} for name in QUANTITIES}
    for s in method.scales:
        p, z = embedded[s]
        for name, value in (("h", maps[s].flatten(2).mean(2)), ("z", z), ("p", p)):
            found[name][f"1/{method.net.strides[s]}"] = spread(value)
        found["u"][f"1/{method.net.strides[s]}"] = 1 - math.exp(uniformity(z))
    return found


def train(config: PretrainConfig, source: Iterator[Batch], probe: Batch, every: int) -> dict[str, Any]:
    """One arm: steps of the looks, curves, and the terms at its end."""
    method = build_method(config)
    assert isinstance(method, PCRLv2)
    optimizer = build_optimizer(method, config.optim)
    at: list[int] = []
    curves: Curves = {}
    for step in range(config.steps + 1):
        if step % every == 0:
            at.append(step)
            for name, scales in look(method, probe, config.seed).items():
                for stride, value in scales.items():
                    curves.setdefault(name, {}).setdefault(stride, []).append(value)
        if step == config.steps:
            break
        losses = method(next(source), Progress(step, config.steps, config.seed))
        torch.stack(list(losses.values())).sum().backward()
        set_learning_rate(optimizer, learning_rate(config.optim, step, config.steps))
        optimizer.step()
        optimizer.zero_grad()
    return {"steps": at, "curves": curves, "last": {name: v.item() for name, v in losses.items()}}


def measure(config: PretrainConfig, every: int) -> dict[str, dict[str, Any]]:
    """All arms."""
    crops = build_method(config).crops
    cache = open_cache(config)
    views = partial(make_views, specs=crops, seed=config.seed)
    load = partial(batches, cache, views, first_step=0)
    probe = next(load(seed=config.seed + 1, steps=1, batch_size=PROBES))
    arms = {}
    for name, fields in ARMS.items():
        arm = replace(config, method=replace(config.method, **fields))
        source = load(seed=config.seed, steps=config.steps, batch_size=config.batch_size)
        arms[name] = train(arm, source, probe, every)
        print(name, {q: {s: round(v[-1], 3) for s, v in c.items()} for q, c in arms[name]["curves"].items()})
    return arms


# Drawing: a row per projector, a column per quantity; colour says stop-gradient, shade says scale.
PANEL, LEFT, TOP, GAP = (250, 170), 44, 58, 24
SHADES = {True: ("#08306b", "#2878b8", "#8fc1e3"), False: ("#7f2704", "#e6550d", "#fdae6b")}


def draw(arms: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """The curves of all arms."""
    width = LEFT + len(QUANTITIES) * (PANEL[0] + GAP)
    canvas = Image.new("RGB", (width, TOP + 2 * (PANEL[1] + 44)), "white")
    pen = ImageDraw.Draw(canvas)
    strides = list(next(iter(arms.values()))["curves"]["z"])
    key(pen, strides)
    for row, projector in enumerate(("bn", "plain")):
        top = TOP + 20 + row * (PANEL[1] + 44)
        for column, (quantity, title) in enumerate(QUANTITIES.items()):
            left = LEFT + column * (PANEL[0] + GAP)
            some = {stop: arms[f"{projector}, {w} stop-gradient"] for stop, w in WORDS.items()}
            axes(pen, left, top, f"projector {projector}: {title}", some[True]["steps"][-1])
            for stop, arm in some.items():
                for shade, stride in zip(SHADES[stop], strides, strict=False):
                    points = zip(arm["steps"], arm["curves"][quantity][stride], strict=True)
                    curve(pen, left, top, list(points), shade)
    canvas.quantize(64).save(path, optimize=True)


WORDS = {True: "with", False: "without"}


def key(pen: ImageDraw.ImageDraw, strides: list[str]) -> None:
    """What colours and shades mean."""
    for row, (stop, word) in enumerate(WORDS.items()):
        y = 14 + 20 * row
        pen.text((LEFT, y), f"{word} stop-gradient, scale", fill="black", font=font(13), anchor="lm")
        for i, (shade, stride) in enumerate(zip(SHADES[stop], strides, strict=False)):
            x = LEFT + 200 + 90 * i
            pen.line((x, y, x + 30, y), fill=shade, width=3)
            pen.text((x + 36, y), stride, fill="black", font=font(13), anchor="lm")


def axes(pen: ImageDraw.ImageDraw, left: int, top: int, title: str, steps: int) -> None:
    """Frame, grid from 0 to 1.2 and titles of one panel."""
    pen.text((left, top - 10), title, fill="black", font=font(13), anchor="lm")
    for value in (0.0, 0.5, 1.0):
        _, y = place(left, top, (0, value), 1)
        pen.line((left, y, left + PANEL[0], y), fill="#d0d0d0")
        pen.text((left - 5, y), f"{value:g}", fill="#404040", font=font(11), anchor="rm")
    for x, text, anchor in ((0, "0", "lt"), (1, f"{steps} steps", "rt")):
        pen.text(
            (left + x * PANEL[0], top + PANEL[1] + 4), text, fill="#404040", font=font(11), anchor=anchor
        )
    pen.rectangle((left, top, left + PANEL[0], top + PANEL[1]), outline="#808080")


def place(left: int, top: int, point: tuple[float, float], last: float) -> tuple[float, float]:
    """Pixel of (step, value)."""
    return left + point[0] / last * PANEL[0], top + PANEL[1] * (1 - min(point[1], 1.2) / 1.2)


def curve(
    pen: ImageDraw.ImageDraw, left: int, top: int, points: list[tuple[float, float]], shade: str
) -> None:
    """One curve."""
    last = points[-1][0]
    pen.line([place(left, top, point, last) for point in points], fill=shade, width=2, joint="curve")


def font(size: int) -> Any:
    """Pillow's own."""
    return ImageFont.load_default(size)


def main() -> None:
    """Measure and write."""
    flags, _ = parsing.read_flags(sys.argv[1:], ())
    if not {"data", "out"} <= set(flags):
        sys.exit(__doc__)
    every = int(flags.pop("every", "10"))
    out = Path(flags["out"])
    given = {"steps": "150", "size": "small", "accelerator": "cpu", "precision": "32-true", **flags}
    config = SPEC.resolve({}, {**given, "out": str(out / "run")})
    arms = measure(config, every)
    (out / "stop_gradient.json").write_text(json.dumps(arms, indent=1) + "\n", encoding="utf-8")
    draw(arms, out / "stop_gradient.png")


if __name__ == "__main__":
    main()
