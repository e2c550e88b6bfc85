"""The one training loop. Pre-training and fine-tuning both run through `fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from foveate.core.contracts import Trainable
from foveate.core.processes.signals import stop_signals
from foveate.core.rng import key
from foveate.core.types import Batch, Ending, Progress
from foveate.train import checkpoint
from foveate.train.finite import Terms, check_finite
from foveate.train.logging import RunLog
from foveate.train.optim import Groups, OptimConfig, build_optimizer, learning_rate, set_learning_rate
from foveate.train.peers import Peers
from foveate.train.remaining import Remaining
from foveate.train.waiting import Waiting, waiting_of

if TYPE_CHECKING:  # what `Fabric.setup` gives, under a private name
    from lightning_fabric.wrappers import _FabricModule as Wrapped

ORDERS = (Ending.FINISHED, Ending.STOPPED, Ending.REQUEUE)  # none, and what signals ask for; the last wins


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run is and how often it speaks."""

    steps: int
    accumulate: int
    seed: int
    log_every: int
    save_every: int
    preview_every: int
    keep_checkpoints: int
    validate_every: int = 0


@dataclass(frozen=True, kw_only=True)
class Stepping:
    """How an optimizer step is made: micro-batches, limit of the gradient, whether the way is measured."""

    count: int = 1
    clip_norm: float = 0.0
    measure: bool = False


@dataclass(kw_only=True)
class Recent(Terms):
    """What happened since the last line of the log; none of it is read before the next."""

    started: float = field(default_factory=time.perf_counter)
    waiting: Waiting = field(default_factory=Waiting)


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the loop asks of whoever composed it.

    Attributes:
        preview: Draws pictures after a number of steps.
        name_volumes: Words for the volumes of sample indices, for the message of a non-finite loss.
        measure: Health after a number of steps by name; nothing at most steps, and never a change.
        validate: Metrics after a number of steps; the one called "score" decides which checkpoint is the
            best, more being better, the earlier one on a tie, and one that is not a number never.
    """

    preview: Callable[[int], None] = lambda _step: None
    name_volumes: Callable[[list[int]], str] = str
    measure: Callable[[int], Mapping[str, float]] = lambda _step: {}
    validate: Callable[[int], dict[str, float]] | None = None


def fit(
    fabric: Fabric,
    model: Trainable,
    batches: Callable[[int], Generator[Batch]],
    *,
    schedule: Schedule,
    optim: OptimConfig,
    log: RunLog,
    hooks: Hooks,
    groups: Groups | None = None,
) -> Ending:
    """Train `model` to `schedule.steps`, from the newest checkpoint below `log.folder` where there is one.

    `batches(step)` yields the micro-batches from a step on; `groups` are the optimizer's where
    weights do not move alike. After a signal to any process all of them save the same step and end.
    """
    peers = Peers(fabric)
    net, optimizer = fabric.setup(model, build_optimizer(model, optim, groups))
    state = first_state(net, optimizer, hooks)
    folder = log.folder / "checkpoints"
    checkpoint.load_newest(fabric, folder, state, log.note)
    log.resume_at(state["step"])
    log.remaining = remaining_of(schedule, hooks, state["step"])
    recent, ending = Recent(waiting=waiting_of(fabric.device)), Ending.FINISHED
    with closing(batches(state["step"])) as source, stop_signals() as stop:
        for step in range(state["step"], schedule.steps):
            torch.manual_seed(key(schedule.seed, "layers", step, fabric.global_rank) >> 1)
            progress = Progress(step, schedule.steps, schedule.seed)
            log_now, save_now, preview_now = due(step, schedule)
            set_learning_rate(optimizer, learning_rate(optim, step, schedule.steps), step)
            how = Stepping(count=schedule.accumulate, clip_norm=optim.clip_norm, measure=log_now)
            losses, moved = training_step(fabric, net, optimizer, source, progress, how, recent)
            model.after_step(progress)
            recent.losses.append((step, losses))
            state["step"] = step + 1
            log.advance(step + 1)
            ending = ORDERS[int(peers.highest(stop["order"]))]
            validated = validation_due(step + 1, schedule, hooks)
            if log_now or save_now or validated or not ending:  # not at every step: it waits for the device
                check_finite(recent, model, hooks.name_volumes, log, peers)
            if log_now:
                log.metrics(row_of(recent, step, optimizer, moved, peers))
                recent = Recent(waiting=recent.waiting)
            keep = schedule.keep_checkpoints if save_now or not ending else 0
            recent.started += between_steps(
                fabric, state, schedule, hooks, log, keep=keep, preview=preview_now
            )
            if not ending:
                break
    return Ending.FINISHED if state["step"] >= schedule.steps else ending


def training_step(
    fabric: Fabric,
    net: Wrapped,
    optimizer: Optimizer,
    source: Iterator[Batch],
    progress: Progress,
    how: Stepping,
    recent: Recent,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The one training step: the mean of each loss term, and how far the weights went where measured."""
    losses = gradients(fabric, net, source, progress, recent, count=how.count)
    moved = move(fabric, net, optimizer, how.clip_norm, measure=how.measure)
    recent.waiting.worked()
    return losses, moved


def gradients(
    fabric: Fabric,
    net: Wrapped,
    source: Iterator[Batch],
    progress: Progress,
    recent: Recent,
    *,
    count: int,
) -> dict[str, Tensor]:
    """Gradients of one optimizer step over `count` micro-batches; the mean of each term."""
    sums: dict[str, Tensor] = {}
    for micro in range(count):
        before = time.perf_counter()
        batch = next(source)
        recent.waiting.came(time.perf_counter() - before)
        recent.indices.append(batch["index"])
        with fabric.no_backward_sync(net, enabled=micro + 1 < count):
            losses: dict[str, Tensor] = net(fabric.to_device(batch), progress)
            fabric.backward(torch.stack(list(losses.values())).sum() / count)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.detach() / count
        recent.waiting.worked()
    return sums


def move(
    fabric: Fabric, net: Wrapped, optimizer: Optimizer, limit: float, *, measure: bool
) -> dict[str, Tensor]:
    """One step of the optimizer, its gradient clipped where a limit is set; how far it went where wanted."""
    found = gradient_norms(net) if measure else {}
    if limit > 0:
        fabric.clip_gradients(net, optimizer, max_norm=limit, error_if_nonfinite=False)
    weights = [p for p in net.parameters() if p.requires_grad] if measure else []
    before = [p.detach().clone() for p in weights]
    optimizer.step()
    if measure:
        length = torch.nn.utils.get_total_norm(before)
        torch._foreach_sub_(before, [p.detach() for p in weights])
        found["update_ratio"] = torch.nn.utils.get_total_norm(before) / length.clamp_min(1e-12)
    optimizer.zero_grad()
    return found


def gradient_norms(net: nn.Module) -> dict[str, Tensor]:
    """Length of the gradient, of all weights and of each part."""
    parts: dict[str, list[Tensor]] = {}
    for name, weight in net.named_parameters():
        if weight.grad is not None:
            parts.setdefault(part_of(name), []).append(weight.grad)
    norms = {f"grad_norm/{part}": torch.nn.utils.get_total_norm(g) for part, g in parts.items()}
    return {"grad_norm": torch.stack(list(norms.values())).norm(), **norms} if norms else {}


def part_of(name: str) -> str:
    """The part that a parameter belongs to.

    >>> part_of("net.encoder.stem.weight"), part_of("embed.0.predictor.0.bias")
    ('encoder', 'heads')
    """
    return next((part for part in ("encoder", "decoder") if part in name.split(".")), "heads")


def measure_health(hooks: Hooks, log: RunLog, step: int) -> float:
    """Log the health of a step where it is measured; the seconds that took, which are not the steps' own."""
    before = time.perf_counter()
    found = hooks.measure(step)
    elapsed = time.perf_counter() - before
    if found:
        log.remaining.did("health", elapsed)
        log.measured({"step": step, **found, "health_seconds": elapsed})
    return elapsed


def remaining_of(schedule: Schedule, hooks: Hooks, step: int) -> Remaining:
    """What a run that is at a step has to do."""
    every = {"checkpoints": schedule.save_every, "previews": schedule.preview_every}
    if hooks.validate:
        every["validation"] = schedule.validate_every
    return Remaining(total=schedule.steps, every=every, begun=step)


def between_steps(
    fabric: Fabric,
    state: dict[str, Any],
    schedule: Schedule,
    hooks: Hooks,
    log: RunLog,
    *,
    keep: int,
    preview: bool,
) -> float:
    """Health, validation, a checkpoint and previews where it is time to; the seconds that they took.

    `keep`: how many checkpoints are kept once one is saved; 0: none is saved now.
    """
    done, spent = state["step"], measure_health(hooks, log, state["step"])
    work: dict[str, Callable[[], object]] = {}
    if hooks.validate and validation_due(done, schedule, hooks):
        work["validation"] = partial(keep_best, fabric, state, hooks.validate, log)
    if preview:
        work["previews"] = partial(hooks.preview, done)
    if keep:  # last: a run that is killed goes on after it
        work["checkpoints"] = partial(checkpoint.save, fabric, log.folder / "checkpoints", state, keep)
    for name, do in work.items():
        started = time.perf_counter()
        do()
        elapsed = time.perf_counter() - started
        log.remaining.did(name, elapsed)
        spent += elapsed
    return spent


def row_of(
    recent: Recent, step: int, optimizer: Optimizer, moved: Mapping[str, Tensor], peers: Peers
) -> dict[str, float]:
    """One line of metrics.jsonl: means since the last one and over the processes."""
    names, count = recent.losses[-1][1], len(recent.losses)
    seconds = time.perf_counter() - recent.started
    terms = {name: sum(numbers([losses[name] for _, losses in recent.losses])) / count for name in names}
    means = peers.mean(terms | {"data_wait": recent.waiting.total() / seconds})
    waited = means.pop("data_wait")
    return {
        "step": step + 1,
        "loss": sum(means.values()),
        **{f"loss/{name}": value for name, value in means.items()},
        "lr": float(optimizer.param_groups[0]["lr"]),
        **dict(zip(moved, numbers(list(moved.values())), strict=True)),
        "seconds_per_step": seconds / count,
        "data_wait": waited,
    }


def numbers(values: Sequence[Tensor]) -> list[float]:
    """Scalars from the device, in one wait."""
    found: list[float] = torch.stack(list(values)).tolist() if values else []
    return found


def first_state(net: nn.Module, optimizer: Optimizer, hooks: Hooks) -> dict[str, Any]:
    """What checkpoints hold, before any is loaded."""
    best = {"best": -math.inf} if hooks.validate else {}
    return {"model": net, "optimizer": optimizer, "step": 0, **best}


def keep_best(
    fabric: Fabric, state: dict[str, Any], validate: Callable[[int], dict[str, float]], log: RunLog
) -> None:
    """Validate, and keep the weights if they are the best so far."""
    metrics = validate(state["step"])
    log.validated(state["step"], metrics)
    if metrics["score"] > state["best"]:
        state["best"] = metrics["score"]
        best = {key: state[key] for key in ("model", "step", "best")}
        checkpoint.save_best(fabric, log.folder / "checkpoints", best)


def validation_due(done: int, schedule: Schedule, hooks: Hooks) -> bool:
    """Whether to validate after so many steps."""
    return hooks.validate is not None and (done == schedule.steps or done % schedule.validate_every == 0)


def due(step: int, schedule: Schedule) -> tuple[bool, bool, bool]:
    """Whether to log, save and preview after a step; all at the end, but what is off."""
    done, last = step + 1, step + 1 == schedule.steps
    every = (schedule.log_every, schedule.save_every, schedule.preview_every)
    log, save, preview = (n > 0 and (last or done % n == 0) for n in every)
    return log, save, preview
