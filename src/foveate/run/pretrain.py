"""Pre-training: from a configuration to a finished run folder."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from foveate.core.contracts import Method, MethodConfig, Trainable
from foveate.core.networks import Network
from foveate.core.rng import key
from foveate.core.types import Batch, Ending, FoveateError, Progress
from foveate.data.cache import Cache
from foveate.data.loader import batches, worker_deaths_explained
from foveate.nets.layers import cumulative_statistics, running_statistics
from foveate.nets.pyramid import Pyramid, build_pyramid
from foveate.nets.weights import store as weights
from foveate.run import folder, health, intake
from foveate.run.launch import needs_processes, run_processes
from foveate.run.processes import build_fabric, check_processes, settle
from foveate.run.selection import note_seen
from foveate.run.settings import METHODS, PretrainConfig, RunConfig
from foveate.train.loggers import names_of
from foveate.train.logging import CONSOLE, RunLog, say
from foveate.train.loop import Hooks, Schedule, fit
from foveate.train.optim import build_optimizer
from foveate.train.peers import Peers, check_same, lost_peers_explained
from foveate.train.pictures import write_preview
from foveate.views.pipeline import make_views, normalise, with_channels

CALIBRATION_BATCHES = 16


def pretrain(config: PretrainConfig) -> Ending:
    """Run to the end or to a signal; at the end weights are exported."""
    folder.check_resumable(config, Path(config.out))
    names_of(config.loggers)  # before any work: what is missing is said now
    if needs_processes(config):
        return run_processes("pretrain", config)
    with lost_peers_explained():
        return pretrain_here(config, build_fabric(config))


def pretrain_here(config: PretrainConfig, fabric: Fabric) -> Ending:
    """This process's share of the run."""
    out, peers = Path(config.out), Peers(fabric)
    say(folder.headline(config))
    given = weights.read(config.init) if config.init else None  # before hours of decoding
    method = build_method(config)
    with fabric.rank_zero_first():
        cache = folder.started_with(intake.open_cache(config, Path(config.data)), out)
        intake.check_volumes(cache, method.crops)
        cache = intake.derived(cache, method.derived)
    check_same(peers, cache.data_hash, "images")
    report = start_from(method, config, given, cache) if given else None
    with fabric.rank_zero_first():
        if fabric.is_global_zero:
            folder.prepare_out(config, out, cache.data_hash, report)
            folder.note_images(cache, out)
        held, cache = health.set_aside(cache, config)
        note_seen(out, cache.volumes, config.init, active=fabric.is_global_zero)
        measure = health.measure_of(config, fabric, method, held or cache)
    load = partial(batches_from, config, cache, method, fabric)
    hooks = Hooks(
        preview=partial(draw_preview, fabric, method, config, cache, out),
        name_volumes=partial(intake.name_volumes, cache, config.seed),
        measure=measure,
    )
    with RunLog(out, config.steps, active=fabric.is_global_zero, loggers=config.loggers) as log:
        log.note(f"{intake.summary(cache, method.crops)}{health.summary(config, held)}")
        if note := intake.tissue_note(cache, method.crops, config.seed):
            log.note(note)
        schedule = schedule_of(config)
        with worker_deaths_explained(config.num_workers):
            ending = fit(fabric, method, load, schedule=schedule, optim=config.optim, log=log, hooks=hooks)
        if ending and takes_part(fabric, config):
            recalibrate(method, islice(load(0), CALIBRATION_BATCHES))
        if ending and fabric.is_global_zero:
            card = folder.card(config, method, cache)
            path = weights.save(method.exported(), card, out / "exported")
            log.note(f"exported {path.relative_to(out)}")
        if not ending:
            log.note("stopped on a signal; a checkpoint is saved. The same command goes on from here.")
    peers.barrier()
    return ending


def takes_part(fabric: Fabric, config: RunConfig) -> bool:
    """Whether this process runs the network for process 0's sake: shared statistics need all of them."""
    return fabric.is_global_zero or config.sync_batchnorm


def build_method(config: PretrainConfig) -> Method:
    """The method on its network; initial weights are a draw of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(config.seed, "initial weights") >> 1)
        net = build_pyramid(config.encoder, config.decoder, config.dimension)
        method = build_on(net, config.method)
    check_views(config, method, net)
    settle(method, config)
    return method


def build_on(net: Network, config: MethodConfig) -> Method:
    """A method on a network; one that wraps another is handed that one: no method imports a sibling."""
    build = METHODS[config.name].build
    return build(net, config, build_on) if config.wrapped else build(net, config)


def check_views(config: RunConfig, method: Trainable, net: Pyramid) -> None:
    """Refuse views that the network cannot halve as often as it does, or a batch without statistics."""
    for name, spec in method.crops.items():
        if len(spec.grid) != config.dimension or any(n % net.stride for n in spec.grid):
            raise FoveateError(
                f"method.{name}_crops.grid {list(spec.grid)}: accepted are {config.dimension} multiples of "
                f"{net.stride}, the coarsest stride of --encoder {config.encoder.name}."
            )
    if config.batch_size < 2:
        raise FoveateError(f"--batch_size {config.batch_size}: batch statistics need at least 2 samples.")


def schedule_of(config: RunConfig) -> Schedule:
    """The part of the configuration that the loop reads."""
    names = Schedule.__dataclass_fields__
    return Schedule(**{name: getattr(config, name) for name in names if hasattr(config, name)})


def batches_from(
    config: RunConfig, cache: Cache, method: Trainable, fabric: Fabric, step: int
) -> Generator[Batch]:
    """This rank's micro-batches from a step on."""
    return batches(
        intake.derived(cache, method.derived),
        partial(make_views, specs=method.crops, seed=config.seed),
        seed=config.seed,
        first_step=step,
        steps=config.steps,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        rank=fabric.global_rank,
        world=fabric.world_size,
        num_workers=config.num_workers,
        pin_memory=config.accelerator == "cuda",
    )


def start_from(
    method: Method, config: PretrainConfig, given: tuple[dict[str, Tensor], weights.Card], cache: Cache
) -> weights.TransferReport:
    """Copy the weights of `init` into the parts that transfer, and say what went where."""
    tensors, card = given
    notes = folder.input_notes(card, config, method, cache)
    source, share = f"--init {config.init}", config.min_transfer
    parts = method.exported()
    report = weights.transfer(parts, tensors, min_share=share, source=source, notes=notes)
    method.weights_given()
    CONSOLE.print(report.table())
    return report


@torch.no_grad()
def draw_preview(
    fabric: Fabric, method: Method, config: PretrainConfig, cache: Cache, out: Path, step: int
) -> None:
    """The same few samples at every call, so that pictures of a run can be compared."""
    if not takes_part(fabric, config):
        return
    views = partial(make_views, specs=method.crops, seed=config.seed)
    first = next(batches(cache, views, seed=config.seed, first_step=0, steps=1, batch_size=config.batch_size))
    with running_statistics(method, update=False), fabric.autocast():
        pictures = method.preview(fabric.to_device(first), Progress(step, config.steps, config.seed))
    if pictures and fabric.is_global_zero:
        write_preview(out / "previews" / f"step-{step:09d}.png", pictures)


@torch.no_grad()
def recalibrate(method: Method, source: Iterator[Batch]) -> None:
    """Re-estimate the exported normalisation statistics on clean global views."""
    device, net = next(method.parameters()).device, cast(Pyramid, method.net)
    with cumulative_statistics(net):
        for batch in source:
            clean = with_channels(batch["crops"]["global"].to(device), net.in_channels).flatten(0, 1)
            net(normalise(clean, method.normalisation))


def dry_run(config: PretrainConfig) -> str:
    """Build everything from the first few files, do one step, and say what a real run would do."""
    import tempfile

    check_processes(config)
    config = replace(config, devices=1, num_nodes=1)
    with tempfile.TemporaryDirectory() as scratch:
        fabric, method = build_fabric(config), build_method(config)
        found, cache = intake.sample_cache(config, Path(config.data), Path(scratch))
        intake.check_volumes(cache, method.crops)
        if config.init:
            start_from(method, config, weights.read(config.init), cache)
        net, optimizer = fabric.setup(method, build_optimizer(method, config.optim))
        batch = fabric.to_device(next(batches_from(config, cache, method, fabric, 0)))
        started = time.perf_counter()
        losses = net(batch, Progress(0, config.steps, config.seed))
        fabric.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()
        seconds = (time.perf_counter() - started) * config.accumulate
    parameters = sum(p.numel() for p in method.parameters())
    terms = ", ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
    crops = "; ".join(f"{n}: {spec.count} of {list(spec.grid)}" for n, spec in method.crops.items())
    return (
        f"{folder.headline(config)}\n"
        f"images: {found} found, {len(cache)} decoded for this dry run\n"
        f"views per sample: {crops}\n"
        f"parameters: {parameters:,}\n"
        f"one step: {terms}; {seconds:.2f} s, the first of a process being the slowest\n"
        f"would do: {config.steps} steps of batch {config.batch_size} x {config.accumulate}, "
        f"about {config.steps * seconds / 3600:.1f} h, into {config.out}; nothing was written there"
    )
