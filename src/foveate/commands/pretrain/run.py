"""Pre-training: from a configuration to a finished run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from foveate.commands.pretrain import card as pretrain_card, health
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.card import counts_of, headline, sets_note
from foveate.commands.pretrain.config import SPEC, PretrainConfig
from foveate.commands.pretrain.images import open_cache, sample_cache
from foveate.commands.pretrain.position import decision, note_position, settled
from foveate.commands.pretrain.probe import open_probe
from foveate.commands.pretrain.views import note_views
from foveate.core.config import read_yaml
from foveate.core.contracts import Method
from foveate.core.types import Batch, Ending, Progress
from foveate.data.cache.volumes import Cache
from foveate.data.loader import batches, worker_deaths_explained
from foveate.data.salts import CACHES
from foveate.nets.layers import cumulative_statistics, running_statistics
from foveate.nets.pyramid import Pyramid
from foveate.nets.weights import store as weights
from foveate.runtime import folder, images as intake
from foveate.runtime.card import input_notes
from foveate.runtime.launch import needs_processes, run_processes
from foveate.runtime.processes import build_fabric, check_processes, requeue_before_the_first_step
from foveate.runtime.resources.fitting import fitted, with_recorded_batch
from foveate.runtime.resources.gpus import on_one_device
from foveate.runtime.resources.shortage import shortage_explained
from foveate.runtime.selection import note_seen
from foveate.runtime.steps import batches_from, first_batches, first_step, schedule_of, takes_part
from foveate.train.loggers import names_of
from foveate.train.logging import CONSOLE, RunLog, say
from foveate.train.loop import Hooks, fit
from foveate.train.peers import Peers, check_same, lost_peers_explained
from foveate.train.pictures import write_preview
from foveate.views.pipeline import make_views, normalise, with_channels

CALIBRATION_BATCHES = 16
LEAST = 2  # samples of a batch: most methods compare them, or normalise over them

RANK = "foveate.commands.pretrain.run:from_file"  # what each process of a multi-process run calls


def start(config: PretrainConfig) -> Ending:
    """As the command line starts a run: a signal before the first step puts the job back into the queue."""
    requeue_before_the_first_step()
    return pretrain(config)


def from_file(path: Path) -> Ending:
    """This process's share of the run that a YAML file describes."""
    return pretrain(SPEC.resolve(read_yaml(path), {}))


def pretrain(config: PretrainConfig) -> Ending:
    """Run to the end or to a signal; at the end weights are exported."""
    config = with_recorded_batch(config)
    folder.check_resumable(config, Path(config.out))
    names_of(config.loggers)  # before any work: what is missing is said now
    if needs_processes(config):
        return run_processes(RANK, config)
    with lost_peers_explained():
        return pretrain_here(config, build_fabric(config))


def pretrain_here(config: PretrainConfig, fabric: Fabric) -> Ending:
    """This process's share of the run."""
    out, peers = Path(config.out), Peers(fabric)
    say(headline(config))
    given = weights.read(config.init) if config.init else None  # before hours of decoding
    method = build_method(config)
    with fabric.rank_zero_first():
        cache = folder.started_with(open_cache(config), out)
        intake.check_volumes(cache, method.crops, config, method.net.stride)
        cache = intake.derived(cache, method.derived)
        asked, (config, position) = config, settled(config, cache)
    if position:
        method = build_method(config)
    check_same(peers, cache.data_hash, "images")
    first = partial(first_batches, cache=cache, fabric=fabric)
    config = fitted(config, build_method, first, fabric, peers, least=LEAST)
    report = start_from(method, config, given, cache) if given else None
    with fabric.rank_zero_first():
        if fabric.is_global_zero:
            folder.prepare_out(replace(config, method=asked.method), out, cache.data_hash, report)
            folder.note_images(cache, out)
            note_position(position, out)
        held, cache = health.hold_out(cache, config)
        note_seen(out, cache.volumes, config.init, active=fabric.is_global_zero)
        hooks = hooks_of(fabric, method, config, cache, held)
        if fabric.is_global_zero:
            note_views(method, config, cache, out)
    load = partial(batches_from, config, cache, method, fabric)
    with RunLog(out, config.steps, active=fabric.is_global_zero, loggers=config.loggers) as log:
        log.note(f"{intake.summary(cache, method.crops)}{health.summary(config, held)}")
        sets, few = sets_note(config, counts_of(cache)), few_note(config, method)
        tissue = intake.tissue_note(cache, method.crops, config.seed)
        for note in filter(None, [decision(position), sets, tissue, few]):
            log.note(note)
        schedule = schedule_of(config)
        with worker_deaths_explained(config.num_workers), shortage_explained(config, LEAST):
            ending = fit(fabric, method, load, schedule=schedule, optim=config.optim, log=log, hooks=hooks)
        if ending and takes_part(fabric, config):
            recalibrate(method, islice(load(0), CALIBRATION_BATCHES))
        if ending and fabric.is_global_zero:
            card = pretrain_card.card(config, method, cache, position)
            path = weights.save(method.exported(), card, out / "exported")
            log.note(f"exported {path.relative_to(out)}")
        if not ending:
            log.note("stopped on a signal; a checkpoint is saved. The same command resumes from it.")
    peers.barrier()
    return ending


def hooks_of(
    fabric: Fabric, method: Method, config: PretrainConfig, cache: Cache, held: Cache | None
) -> Hooks:
    """What the loop asks for between its steps."""
    probe = open_probe(config, method, fabric) if config.probe else None
    return Hooks(
        preview=partial(draw_preview, fabric, method, config, cache, Path(config.out)),
        name_volumes=partial(intake.name_volumes, cache, config.seed),
        measure=health.measure_of(config, fabric, method, held or cache, probe),
    )


def few_note(config: PretrainConfig, method: Method) -> str:
    """A word on a batch that is too small for the method to learn; "" where it is not."""
    samples = config.batch_size * config.devices * config.num_nodes
    if samples >= method.fewest:
        return ""
    return (
        f"--batch_size {config.batch_size}: {config.method.name} was seen not to learn with {samples} "
        f"samples in a batch; accepted, but give {method.fewest} or more where there is memory for them"
    )


def start_from(
    method: Method, config: PretrainConfig, given: tuple[dict[str, Tensor], weights.Card], cache: Cache
) -> weights.TransferReport:
    """Copy the weights of `init` into the parts that transfer, and say what went where."""
    tensors, card = given
    notes = input_notes(card, config, method, cache)
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
        path = out / "previews" / f"step-{step:09d}.png"
        write_preview(path, pictures, slices="slice" in first)


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
    config = on_one_device(config)
    with tempfile.TemporaryDirectory() as scratch:
        fabric, method = build_fabric(config), build_method(config)
        found, cache = sample_cache(config, Path(scratch) / CACHES)
        intake.check_volumes(cache, method.crops, config, method.net.stride)
        if config.init:
            start_from(method, config, weights.read(config.init), cache)
        with shortage_explained(config, LEAST):
            source = batches_from(config, cache, method, fabric, 0)
            losses, seconds = first_step(fabric, method, source, config)
    parameters = sum(p.numel() for p in method.parameters())
    terms = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    crops = "; ".join(f"{n}: {spec.count} of {list(spec.grid)}" for n, spec in method.crops.items())
    sets = f"{note}\n" if (note := sets_note(config, found)) else ""
    return (
        f"{headline(config)}\n{sets}"
        f"images: {sum(found)} found, {len(cache)} decoded for this dry run\n"
        f"views per sample: {crops}\n"
        f"parameters: {parameters:,}\n"
        f"one step: {terms}; {seconds:.2f} s, the first step of a process is the slowest\n"
        f"would do: {config.steps} steps of batch {config.batch_size} x {config.accumulate}, "
        f"about {config.steps * seconds / 3600:.1f} h, into {config.out}; nothing was written there"
    )
