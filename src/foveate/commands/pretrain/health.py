"""What health is measured on: held-out images, and labelled cases for a probe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from lightning_fabric import Fabric

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.contracts import Method
from foveate.core.memory import is_out_of_memory
from foveate.core.rng import key
from foveate.core.types import Batch, FoveateError, Progress
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.data.loader import batches
from foveate.train.health import SAMPLES, measure
from foveate.train.logging import say
from foveate.views.pipeline import make_views

Measure = Callable[[int], dict[str, float]]


def hold_out(cache: Cache, config: PretrainConfig) -> tuple[Cache | None, Cache]:
    """The images held out of training (`holdout` of them), and the rest; chosen by content, not by name."""
    if config.holdout == 0:
        return None, cache
    if not 0 < config.holdout < len(cache):
        raise FoveateError(
            f"--holdout {config.holdout}: accepted are 0 to {len(cache) - 1}, one less than the images."
        )
    ranked = sorted(cache, key=lambda volume: key(config.seed, f"holdout {volume.entry.content_hash}"))
    held = {identity(volume) for volume in ranked[: config.holdout]}
    keep = [identity(volume) not in held for volume in cache]
    return Cache([v for v, kept in zip(cache, keep, strict=True) if not kept]), cache.only(keep)


def identity(volume: CachedVolume) -> tuple[Path, str]:
    """Two data sets may call an image alike."""
    return volume.folder, volume.entry.id


def summary(config: PretrainConfig, held: Cache | None) -> str:
    """On what health is measured."""
    if config.health_every == 0:
        return ""
    where = f"on {len(held)} held-out images" if held else "on training images (--holdout N keeps N out)"
    return f"; health every {config.health_every} steps and at the end, {where}"


def measure_of(
    config: PretrainConfig,
    fabric: Fabric,
    method: Method,
    cache: Cache,
    probe: Callable[[], dict[str, float]] | None = None,
) -> Measure:
    """What the loop asks for after every step; `probe` learns from the features of a few labelled cases."""
    look = look_of(config, fabric, method, cache)

    def due(step: int) -> dict[str, float]:
        now = config.health_every and (step % config.health_every == 0 or step == config.steps)
        found = without_stopping(look, step) if now else {}
        if probe and (step % config.probe_every == 0 or step == config.steps):
            found |= probe()
        return found

    return due


def without_stopping(look: Measure, step: int) -> dict[str, float]:
    """A look that is left out, and said so, where there is no memory for its batch: the run goes on."""
    try:
        return look(step)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    say(f"step {step}: health was not measured, for want of memory; --health_every 0 leaves it out")
    return {}


def look_of(config: PretrainConfig, fabric: Fabric, method: Method, cache: Cache) -> Measure:
    """The function that measures health on one batch, which is made at its first call."""
    kept: list[Batch] = []

    def look(step: int) -> dict[str, float]:
        if not kept:
            views = partial(make_views, specs=method.crops, seed=config.seed)
            order = key(config.seed, "health") >> 1
            kept.append(next(batches(cache, views, seed=order, first_step=0, steps=1, batch_size=SAMPLES)))
        with fabric.autocast():
            return measure(method, fabric.to_device(kept[0]), Progress(step, config.steps, config.seed))

    return look
