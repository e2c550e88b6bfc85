"""What a run will cost: a probe of ten steps on this machine, and what follows from it."""

from __future__ import annotations

import math
import resource
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from foveate.commands.plan.measure import LARGER, SMALL, Probe, measure, probed_data
from foveate.commands.pretrain.card import headline, sets_note
from foveate.commands.pretrain.config import PretrainConfig
from foveate.commands.pretrain.position import decision, settled
from foveate.core.types import Ending, FoveateError, spelled
from foveate.data.salts import CACHES
from foveate.runtime.processes import check_processes
from foveate.runtime.resources.cpus import cpus_of_process
from foveate.runtime.resources.gpus import on_one_device

MARGIN = 0.1  # of time: a machine is not the same from hour to hour
SHARE = 0.8  # of the memory that a suggestion may use


def run_plan(config: PretrainConfig) -> Ending:
    """Print the plan."""
    print(spelled(plan(config), keep="\n"))
    return Ending.FINISHED


def plan(config: PretrainConfig) -> str:
    """Probe, predict, and say how sure that is. Nothing is written but into a scratch folder."""
    check_processes(config)
    if config.batch_size < SMALL:
        raise FoveateError(f"--batch_size {config.batch_size}: batch statistics need at least 2 samples.")
    alone = on_one_device(config)
    with tempfile.TemporaryDirectory(prefix="foveate-plan-") as scratch:
        alone = replace(alone, out=str(Path(scratch) / "run"))
        probe, cache, counts = probed_data(alone, Path(scratch) / CACHES)
        alone, position = settled(alone, cache)
        measure(alone, cache, probe)
    lines = [headline(config), sets_note(config, counts), *report(config, probe), decision(position)]
    return "\n".join(filter(None, lines))


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


def report(config: PretrainConfig, probe: Probe) -> list[str]:
    """The lines of a plan."""
    world = config.devices * config.num_nodes
    lines = [
        f"images: {probe.images}, of which {probe.looked} were looked at",
        f"cache: {probe.cache_mib:,.0f} MiB, made in {probe.images * probe.decoding / 60:.1f} min",
        *times(config, probe),
        *memory(config, probe),
    ]
    if config.accelerator == "cuda":
        lines += [f"host memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"]
    lines += [
        "How sure: the range is two standard errors of the ten steps and 10 % for the machine's own drift; "
        "another load on the machine, a slower disk and images unlike those decoded are not in it."
    ]
    if world > 1:
        lines += [f"{world} processes: each needs this memory; their exchange of gradients was not measured."]
    return lines


def times(config: PretrainConfig, probe: Probe) -> list[str]:
    """Of a step and of the run, and the workers that keep up with it."""
    if not probe.steps:
        return [f"step: not measured, since not even {SMALL} samples fit into memory"]
    step, low, high = spread(probe.steps)
    whole = [total_seconds(config, probe, each) / 3600 for each in (step, low, high)]
    return [
        f"step: {step:.3f} s ({min(probe.steps):.3f} to {max(probe.steps):.3f} in {len(probe.steps)} steps)",
        workers(config, probe, step),
        f"run of {config.steps} steps: {whole[0]:.2f} h, likely {whole[1]:.2f} to {whole[2]:.2f} h",
    ]


def workers(config: PretrainConfig, probe: Probe, step: float) -> str:
    """How many workers make the samples of a step while the device computes one."""
    samples, computing = config.batch_size * config.accumulate, max(step - probe.waited, 1e-6)
    needed = math.ceil(samples * probe.sample / computing)
    cpus = cpus_of_process(config.devices)
    line = (
        f"workers: {needed} so that the device never waits ({1000 * probe.sample:.1f} ms of a CPU for each "
        f"of {samples} samples, {computing:.3f} s of computing); --num_workers is {config.num_workers}, with "
        f"which a step waits {probe.waited:.3f} s"
    )
    if needed > config.num_workers and config.accelerator == "cuda":
        line += f": give --num_workers {min(needed, cpus)}"
    return f"{line}; this process has {cpus} CPUs" + (
        ", on which the network computes as well" if config.accelerator == "cpu" else ""
    )


def memory(config: PretrainConfig, probe: Probe) -> list[str]:
    """The peak, and the batch that fits."""
    where = "device memory" if config.accelerator == "cuda" else "memory"
    if not probe.small:
        return [
            f"{where}: {probe.room:.0f} MiB were free, and not even {SMALL} samples fit; use smaller views, "
            "a smaller --encoder.width or --activation_checkpointing true"
        ]
    share = f", and {probe.worker:.0f} MiB in a worker, what it shares counted in" if probe.worker else ""
    peak = f"{where}: {probe.peak:.0f} MiB at the peak{share}; {probe.room:.0f} MiB were free"
    if not probe.fits:
        peak += f": the batch does not fit; times and peak are scaled from a batch of {SMALL}"
    return [peak, suggestion(config, probe)]


def suggestion(config: PretrainConfig, probe: Probe) -> str:
    """A batch that fits, and the accumulation that keeps the samples of a step."""
    allowed = SHARE * (probe.empty + probe.room) - probe.fixed
    most = max(SMALL, int(allowed / probe.per_sample))
    total = config.batch_size * config.accumulate
    if probe.fits and most >= config.batch_size:
        return f"batch: {config.batch_size} x {config.accumulate} fits; up to about {most} samples would"
    failed = min(config.batch_size, LARGER) if not probe.larger else config.batch_size
    below = config.batch_size if probe.fits else failed - 1
    batch = max([b for b in range(SMALL, min(most, below) + 1) if total % b == 0], default=SMALL)
    advice = f"--batch_size {batch} --accumulate {-(-total // batch)}"
    return f"batch: give {advice} for the same {total} samples a step"
