"""The probe of a plan: a few steps on this machine, what they take, and what their batches take."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar, final

import torch
from lightning_fabric import Fabric

from foveate.commands.pretrain import health, run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import PretrainConfig
from foveate.commands.pretrain.images import images_of, open_given_cache, together
from foveate.core.contracts import Method
from foveate.core.memory import is_out_of_memory
from foveate.core.types import Batch, FoveateError, Record
from foveate.data.cache.index import is_prepared
from foveate.data.cache.volumes import Cache
from foveate.runtime import images as intake
from foveate.runtime.memory import age_seconds, peaks_mib, room_mib
from foveate.runtime.processes import build_fabric
from foveate.runtime.resources.clock import device_clock
from foveate.runtime.steps import batches_from, schedule_of
from foveate.train.logging import RunLog
from foveate.train.loop import Hooks, fit

T = TypeVar("T")
WARM_STEPS = 3  # the first ones of a process also choose algorithms and fill caches
STEPS = 10
CALIBRATED = 4  # batches that recalibration is timed on, when loading has started
SMALL, LARGER = 2, 4  # samples of the steps that say what one more costs in memory
SAMPLED = 4  # batches of SMALL whose making is timed


@final
@dataclass(kw_only=True)
class Probe:
    """What was measured. Times in seconds, memory in MiB."""

    images: int
    looked: int  # how many of them
    cache_mib: float  # of all
    decoding: float  # per image
    steps: list[float] = field(default_factory=list)  # empty: not even SMALL samples fit
    waited: float = 0.0  # per step, for batches
    sample: float = 0.0  # of one CPU, to make one
    once: float = 0.0  # start and export
    save: float = 0.0
    preview: float = 0.0
    health: float = 0.0
    empty: float = 0.0  # memory before anything was computed
    small: float = 0.0  # peak of steps of SMALL samples
    larger: float = 0.0  # peak of steps of LARGER samples; 0: they did not fit
    peak: float = 0.0
    worker: float = 0.0
    room: float = 0.0  # where the peak has to fit
    fits: bool = True  # the batch that was asked for

    @property
    def per_sample(self) -> float:
        """Memory of one more sample in a batch."""
        if not self.larger:  # all that SMALL samples took: more than one of them does
            return max((self.small - self.empty) / SMALL, 1.0)
        return max((self.larger - self.small) / (LARGER - SMALL), 1.0)

    @property
    def fixed(self) -> float:
        """Memory that a batch of any size needs: the process, weights, what the optimizer remembers."""
        return max(self.small - SMALL * self.per_sample, self.empty)


def probed_data(config: PretrainConfig, scratch: Path) -> tuple[Probe, Cache, list[int]]:
    """Some images of every data set, decoded unless all of them are already, and how many each set has."""
    counts: list[int] = []
    probe = Probe(images=0, looked=0, cache_mib=0.0, decoding=0.0)

    def some(data: Path) -> Cache:
        seconds, started = 0.0, age_seconds()
        if is_prepared(data):
            cache = open_given_cache(config, data)
            counts.append(len(cache))
        else:
            images = images_of(config, data)
            counts.append(len(images))
            cache, each, started = decoded(config, intake.sampled(images), scratch / str(len(counts)))
            seconds = each * len(images)
        probe.once = probe.once or started
        sizes = [volume.entry.file_bytes / 2**20 for volume in cache]
        probe.looked += len(sizes)
        probe.cache_mib += counts[-1] * statistics.fmean(sizes)
        probe.decoding += seconds
        return cache

    cache = together(config, some)
    probe.images, probe.decoding = sum(counts), probe.decoding / sum(counts)
    return probe, cache, counts


def decoded(config: PretrainConfig, few: list[Record], folder: Path) -> tuple[Cache, float, float]:
    """Images in a cache, the seconds of each, and what the start took."""
    with suppress(FoveateError):  # the first waits for the process that decodes, readable or not
        intake.decode(few[:1], folder, config.prepare)
    once, started = age_seconds(), time.perf_counter()
    cache = intake.decode(few, folder, config.prepare)
    cache = intake.seen_in(cache, config.dimension, config.slices)
    return cache, (time.perf_counter() - started) / max(1, len(few) - 1), once


def measure(config: PretrainConfig, cache: Cache, probe: Probe) -> None:
    """Steps of two small batches for the memory of one sample more, then those that were asked for.

    On a GPU they are tried, on a CPU only if they should fit: there the system would end this process.
    """
    cuda = config.accelerator == "cuda"
    probe.empty, probe.room = peaks_mib(cuda)[0], room_mib(cuda)
    probe.small = peak_of(config, cache, SMALL)
    if not probe.small:
        probe.fits = False
        return
    probe.larger = peak_of(config, cache, LARGER)
    probe.peak = probe.fixed + config.batch_size * probe.per_sample
    whole = replace(config, steps=WARM_STEPS + STEPS)
    likely = cuda or probe.peak <= probe.empty + probe.room
    probe.fits = likely and unless_short(config, lambda: timed(whole, cache, probe)) is not None
    if probe.fits:
        probe.peak, probe.worker = peaks_mib(cuda)
    else:
        few = replace(whole, batch_size=min(SMALL, config.batch_size), accumulate=1)
        timed(few, cache, probe)
        times = config.accumulate * config.batch_size / few.batch_size
        probe.steps, probe.waited = [each * times for each in probe.steps], probe.waited * times


def unless_short(config: PretrainConfig, action: Callable[[], T]) -> T | None:
    """What an action gives; None where memory ran out, which is then given back."""
    found = None
    try:
        found = action()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()
    if config.accelerator == "cuda":
        torch.cuda.empty_cache()
    return found


def peak_of(config: PretrainConfig, cache: Cache, samples: int) -> float:
    """Peak of two steps of one micro-batch, 0 where it does not fit.

    The second of them holds what the optimizer remembers.
    """
    cuda = config.accelerator == "cuda"
    few = replace(config, batch_size=samples, accumulate=1, steps=2, num_workers=min(1, config.num_workers))
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def peak() -> float:
        train(few, cache, Marks())
        return peaks_mib(cuda)[0]

    return unless_short(config, peak) or 0.0


@final
@dataclass(kw_only=True)
class Marks:
    """When steps were done, and how long each batch was waited for."""

    done: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def train(config: PretrainConfig, cache: Cache, marks: Marks) -> tuple[Fabric, Method]:
    """Some steps of the real loop."""
    fabric, method = build_fabric(config), build_method(config)
    intake.check_volumes(cache, method.crops, config, method.net.stride)
    out = Path(tempfile.mkdtemp(dir=Path(config.out).parent))
    (out / "checkpoints").mkdir()

    def load(step: int) -> Generator[Batch]:
        return watched(batches_from(config, cache, method, fabric, step), config.accelerator, marks.waits)

    def after(_step: int) -> dict[str, float]:
        marks.done.append(device_clock(config.accelerator))
        return {}

    schedule = replace(schedule_of(config), log_every=config.steps, save_every=config.steps)
    with RunLog(out, config.steps, active=False) as log:
        fit(fabric, method, load, schedule=schedule, optim=config.optim, log=log, hooks=Hooks(measure=after))
    return fabric, method


def watched(source: Generator[Batch], accelerator: str, waits: list[float]) -> Generator[Batch]:
    """The same batches; how long the device had nothing to do before each is added to `waits`."""
    with closing(source):
        while True:
            started = device_clock(accelerator)
            batch = next(source, None)
            if batch is None:
                return
            waits.append(time.perf_counter() - started)
            yield batch


def timed(config: PretrainConfig, cache: Cache, probe: Probe) -> Probe:
    """Seconds of each step, and of everything that a run does now and then, into the probe."""
    marks, started = Marks(), time.perf_counter()
    fabric, method = train(config, cache, marks)
    probe.save = device_clock(config.accelerator) - marks.done[-1]
    probe.once += marks.done[0] - started
    probe.waited = sum(marks.waits[WARM_STEPS * config.accumulate :]) / STEPS
    probe.steps = [b - a for a, b in zip(marks.done[WARM_STEPS - 1 :], marks.done[WARM_STEPS:], strict=False)]
    clock = partial(seconds, config.accelerator)
    (Path(config.out) / "previews").mkdir(parents=True, exist_ok=True)
    probe.preview = clock(lambda: run.draw_preview(fabric, method, config, cache, Path(config.out), 1))
    if config.health_every:
        look = health.look_of(config, fabric, method, cache)
        probe.health = clock(lambda: look(1))
    with closing(batches_from(config, cache, method, fabric, 0)) as source:
        first = clock(lambda: run.recalibrate(method, islice(source, 1)))  # waits for the workers to start
        more = clock(lambda: run.recalibrate(method, islice(source, CALIBRATED))) / CALIBRATED
    probe.once += first + more * (run.CALIBRATION_BATCHES - 1)
    probe.sample = sample_seconds(config, cache, method, fabric)
    return probe


def sample_seconds(config: PretrainConfig, cache: Cache, method: Method, fabric: Fabric) -> float:
    """What a worker needs for one sample, its share of the batch's draws counted in.

    Made here and now with torch's threads of this process, so their work counts where it is longer.
    """
    alone = replace(config, batch_size=SMALL, accumulate=1, steps=1 + SAMPLED, num_workers=0)
    with closing(batches_from(alone, cache, method, fabric, 0)) as source:
        next(source)  # files are opened, tables made
        started, worked = time.perf_counter(), time.process_time()
        made = sum(len(batch["index"]) for batch in source)
        return max(time.perf_counter() - started, time.process_time() - worked) / made


def seconds(accelerator: str, action: Callable[[], object]) -> float:
    """How long an action takes, on the device."""
    started = device_clock(accelerator)
    action()
    return device_clock(accelerator) - started
