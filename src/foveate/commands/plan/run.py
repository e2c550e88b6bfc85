"""What a run will cost: a probe of ten steps on this machine, and what follows from it."""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import final

import torch
from lightning_fabric import Fabric

from foveate.commands.pretrain import health, run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.card import headline
from foveate.commands.pretrain.config import PretrainConfig
from foveate.commands.pretrain.images import images_of, open_given_cache
from foveate.core.contracts import Method
from foveate.core.types import Ending, FoveateError
from foveate.data.cache.index import is_prepared
from foveate.data.cache.volumes import Cache
from foveate.data.salts import CACHES
from foveate.runtime import images as intake
from foveate.runtime.memory import age_seconds, peaks_mib, room_mib
from foveate.runtime.processes import build_fabric, check_processes
from foveate.runtime.steps import batches_from, schedule_of
from foveate.train.logging import RunLog
from foveate.train.loop import Hooks, fit

WARM_STEPS = 3  # the first ones of a process also choose algorithms and fill caches
STEPS = 10
CALIBRATED = 4  # batches that recalibration is timed on, when loading has started
SMALL = 2  # samples of the probe that goes first, to learn what one more costs
MARGIN = 0.1  # of time: a machine is not the same from hour to hour
SHARE = 0.8  # of the memory that a suggestion may use


@final
@dataclass(kw_only=True)
class Probe:
    """What was measured. Times in seconds, memory in MiB."""

    images: int
    cached_mib: list[float]
    decoding: float  # per image
    steps: list[float] = field(default_factory=list)
    once: float = 0.0  # start and export
    save: float = 0.0
    preview: float = 0.0
    health: float = 0.0
    empty: float = 0.0  # memory before anything was computed
    small: float = 0.0  # peak of a step of few samples
    peak: float = 0.0
    worker: float = 0.0
    room: float = 0.0  # where the peak has to fit

    @property
    def per_sample(self) -> float:
        """Memory of one more sample in a batch."""
        return max((self.small - self.empty) / SMALL, 1.0)


def run_plan(config: PretrainConfig) -> Ending:
    """Print the plan."""
    print(plan(config))
    return Ending.FINISHED


def plan(config: PretrainConfig) -> str:
    """Probe, predict, and say how sure that is. Nothing is written but into a scratch folder."""
    check_processes(config)
    alone = replace(config, devices=1, num_nodes=1, num_workers=min(config.num_workers, 2))
    with tempfile.TemporaryDirectory(prefix="foveate-plan-") as scratch:
        alone = replace(alone, out=str(Path(scratch) / "run"))
        probe, cache = probed_data(alone, Path(scratch) / CACHES)
        fits = measure(alone, cache, probe)
    return "\n".join([headline(config), *report(config, probe, fits)])


def probed_data(config: PretrainConfig, scratch: Path) -> tuple[Probe, Cache]:
    """Some images, decoded, unless all of them are already."""
    data, decoding = Path(config.data), 0.0
    if is_prepared(data):
        cache = open_given_cache(config, data)
        found, once = len(cache), age_seconds()
    else:
        images = images_of(config, data)
        found, few = len(images), intake.sampled(images)
        with suppress(FoveateError):  # the first waits for the process that decodes, readable or not
            intake.decode(few[:1], scratch, config.prepare)
        once, started = age_seconds(), time.perf_counter()
        cache = intake.decode(few, scratch, config.prepare)
        decoding = (time.perf_counter() - started) / max(1, len(few) - 1)
    sizes = [volume.entry.file_bytes / 2**20 for volume in cache]
    return Probe(images=found, cached_mib=sizes, decoding=decoding, once=once), cache


def measure(config: PretrainConfig, cache: Cache, probe: Probe) -> bool:
    """A few samples, then the batch that was asked for unless it clearly does not fit; whether it did."""
    cuda = config.accelerator == "cuda"
    probe.empty, probe.room = peaks_mib(cuda)[0], room_mib(cuda)
    few = replace(config, batch_size=min(SMALL, config.batch_size), accumulate=1, steps=2)
    train(few, cache, lambda _step: None)
    probe.small = peaks_mib(cuda)[0]
    probe.peak = probe.small + (config.batch_size - few.batch_size) * probe.per_sample
    whole = replace(config, steps=WARM_STEPS + STEPS)
    fits = probe.peak <= probe.empty + probe.room
    times = timed(whole if fits else replace(few, steps=WARM_STEPS + STEPS), cache, probe)
    probe.steps = (
        times if fits else [t * config.accumulate * config.batch_size / few.batch_size for t in times]
    )
    if fits:
        probe.peak, probe.worker = peaks_mib(cuda)
    return fits


def train(config: PretrainConfig, cache: Cache, after: Callable[[int], None]) -> tuple[Fabric, Method]:
    """Some steps of the real loop; `after` is called with the number of steps done."""
    fabric, method = build_fabric(config), build_method(config)
    intake.check_volumes(cache, method.crops)
    out = Path(tempfile.mkdtemp(dir=Path(config.out).parent))
    (out / "checkpoints").mkdir()
    load = partial(batches_from, config, cache, method, fabric)

    def done(step: int) -> dict[str, float]:
        if config.accelerator == "cuda":
            torch.cuda.synchronize()
        after(step)
        return {}

    schedule = replace(schedule_of(config), log_every=config.steps, save_every=config.steps)
    with RunLog(out, config.steps, active=False) as log:
        fit(fabric, method, load, schedule=schedule, optim=config.optim, log=log, hooks=Hooks(measure=done))
    return fabric, method


def timed(config: PretrainConfig, cache: Cache, probe: Probe) -> list[float]:
    """Seconds of each step, and of everything that a run does now and then."""
    marks: list[float] = []
    started = time.perf_counter()
    fabric, method = train(config, cache, lambda _step: marks.append(time.perf_counter()))
    probe.save = time.perf_counter() - marks[-1]
    probe.once += marks[0] - started
    (Path(config.out) / "previews").mkdir(parents=True)
    probe.preview = seconds(lambda: run.draw_preview(fabric, method, config, cache, Path(config.out), 1))
    if config.health_every:
        look = health.look_of(config, fabric, method, cache)
        probe.health = seconds(lambda: look(1))
    source = batches_from(config, cache, method, fabric, 0)
    first = seconds(lambda: run.recalibrate(method, islice(source, 1)))  # waits for the workers to start
    more = seconds(lambda: run.recalibrate(method, islice(source, CALIBRATED))) / CALIBRATED
    source.close()
    probe.once += first + more * (run.CALIBRATION_BATCHES - 1)
    return [b - a for a, b in zip(marks[WARM_STEPS - 1 :], marks[WARM_STEPS:], strict=False)]


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def total_seconds(config: PretrainConfig, probe: Probe, step: float) -> float:
    """Of a whole run whose cache is still to be made."""
    every = (config.save_every, config.preview_every, config.health_every)
    costs = (probe.save, probe.preview, probe.health)
    extras = sum(config.steps // n * cost for n, cost in zip(every, costs, strict=True) if n)
    return probe.images * probe.decoding + probe.once + config.steps * step + extras


def spread(steps: list[float]) -> tuple[float, float, float]:
    """Mean of the steps, and a range for the mean of many: two standard errors and a machine's own drift."""
    mean = statistics.fmean(steps)
    width = 2 * statistics.stdev(steps) / len(steps) ** 0.5 + MARGIN * mean
    return mean, max(mean - width, 0.0), mean + width


def report(config: PretrainConfig, probe: Probe, fits: bool) -> list[str]:
    """The lines of a plan."""
    step, low, high = spread(probe.steps)
    whole = [total_seconds(config, probe, each) / 3600 for each in (step, low, high)]
    mib, world = probe.images * statistics.fmean(probe.cached_mib), config.devices * config.num_nodes
    where = "device memory" if config.accelerator == "cuda" else "memory"
    workers = f", and {probe.worker:.0f} MiB in a worker, what it shares counted in" if probe.worker else ""
    peak = f"{where}: {probe.peak:.0f} MiB at the peak{workers}; {probe.room:.0f} MiB were free"
    lines = [
        f"images: {probe.images}, of which {len(probe.cached_mib)} were looked at",
        f"cache: {mib:,.0f} MiB, made in {probe.images * probe.decoding / 60:.1f} min",
        f"step: {step:.3f} s ({min(probe.steps):.3f} to {max(probe.steps):.3f} in {len(probe.steps)} steps)",
        f"run of {config.steps} steps: {whole[0]:.2f} h, likely {whole[1]:.2f} to {whole[2]:.2f} h",
        peak if fits else f"{peak}: it would NOT fit; times and peak are scaled from a batch of {SMALL}",
        suggestion(config, probe),
        "How sure: the range is two standard errors of the ten steps and 10 % for the machine's own drift; "
        "another load on the machine, a slower disk and images unlike those decoded are not in it.",
    ]
    if config.accelerator == "cuda":
        lines[5:5] = [f"host memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"]
    if world > 1:
        lines += [f"{world} processes: each needs this memory; their exchange of gradients was not measured."]
    return lines


def suggestion(config: PretrainConfig, probe: Probe) -> str:
    """A batch that fits, and the accumulation that keeps the samples of a step."""
    if config.batch_size < SMALL:
        raise FoveateError(f"--batch_size {config.batch_size}: batch statistics need at least 2 samples.")
    allowed = SHARE * (probe.empty + probe.room) - probe.empty
    most = max(SMALL, int(allowed / probe.per_sample))
    if most >= config.batch_size:
        return f"batch: {config.batch_size} x {config.accumulate} fits; up to about {most} samples would"
    total = config.batch_size * config.accumulate
    batch = max([b for b in range(SMALL, most + 1) if total % b == 0], default=SMALL)
    advice = f"--batch_size {batch} --accumulate {-(-total // batch)}"
    return f"batch: say {advice} for the same {total} samples a step"
