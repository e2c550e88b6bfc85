"""Fine-tuning: from an encoder and labelled images to a run folder with a model that predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from foveate.commands.finetune.build import build_task, encoder_of, stride_of
from foveate.commands.finetune.config import SPEC, FinetuneConfig
from foveate.commands.finetune.folds import cross_validate, fold_of
from foveate.commands.finetune.images import LabelledImages, data_hash, load_images, scored_images, summary
from foveate.commands.finetune.intensity import decoded_as
from foveate.commands.finetune.semi import measure_of, source_of, trained_from, trained_task
from foveate.core import config as parsing
from foveate.core.config import read_yaml
from foveate.core.contracts import Trainable
from foveate.core.files import replace_text
from foveate.core.tasks import Task
from foveate.core.types import Ending, FoveateError
from foveate.data.cache.index import salted_id
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.data.cohort.splits import as_names
from foveate.data.loader import worker_deaths_explained
from foveate.data.salts import CACHES, read_salt
from foveate.nets.layers import forget_statistics
from foveate.nets.weights import store as weights
from foveate.runtime import folder, images as intake
from foveate.runtime.card import ancestor, input_notes, shared_card
from foveate.runtime.config import RANDOM_WEIGHTS
from foveate.runtime.launch import needs_processes, run_processes
from foveate.runtime.processes import build_fabric, check_processes, requeue_before_the_first_step
from foveate.runtime.resources.fitting import fitted, with_recorded_batch
from foveate.runtime.resources.gpus import on_one_device
from foveate.runtime.resources.shortage import shortage_explained
from foveate.runtime.selection import compared_with_pretraining, note_seen
from foveate.runtime.steps import batches_from, first_batches, first_step, schedule_of
from foveate.train import checkpoint, overlays
from foveate.train.logging import RunLog, say
from foveate.train.loop import Hooks, fit
from foveate.train.optim import parameter_groups
from foveate.train.peers import Peers, check_same, lost_peers_explained
from foveate.train.progress import counted

PICTURED_CASES = 3

RANK = "foveate.commands.finetune.run:from_file"  # what each process of a multi-process run calls


def start(config: FinetuneConfig) -> Ending:
    """As the command line starts a run: a signal before the first step puts the job back into the queue."""
    requeue_before_the_first_step()
    return finetune(config)


def from_file(path: Path) -> Ending:
    """This process's share of the run that a YAML file describes."""
    return finetune(SPEC.resolve(read_yaml(path), {}))


def finetune(config: FinetuneConfig) -> Ending:
    """Run to the end or to a signal; at the end weights are exported."""
    if config.folds or config.fold is not None:
        return cross_validate(config, finetune)
    config = with_recorded_batch(config)
    if needs_processes(config):
        return run_processes(RANK, config)
    with lost_peers_explained():
        return finetune_here(config, build_fabric(config))


def finetune_here(config: FinetuneConfig, fabric: Fabric) -> Ending:
    """This process's share of the run."""
    out, peers = Path(config.out), Peers(fabric)
    say(headline(config))
    with fabric.rank_zero_first():
        cache = cache_folder(out.parent, Path(config.data), decoded_as(config.prepare))
        images = load_images(config, cache)
    config = images.config
    folder.check_resumable(config, out)
    task = build_task(config)
    check_images(config, task, images)
    check_same(peers, data_hash(images), "images or labels")
    first = partial(first_batches, cache=source_of(config, images.train, None), fabric=fabric)
    config = fitted(config, build_trained, first, fabric, peers, least=least_of(config))
    images = replace(images, config=config)
    verdict = compared_with_pretraining(
        config.init, scored_images(images), config.on_seen, config.prepare.reading
    )
    active = fabric.is_global_zero
    with fabric.rank_zero_first():
        if active:
            folder.prepare_out(config, out, data_hash(images))
            write_split(config, images, out, cache)
        note_seen(out, [*images.train, *images.val, *(images.unlabelled or ())], config.init, active=active)
    with RunLog(out, config.steps, active=active, verb="fine-tuning", loggers=config.loggers) as log:
        log.note(f"{summary(images)}{verdict}")
        for line in start_from(task, images, out if active else None):
            log.note(line)
        trained, judged = trained_from(task, config)
        ending = train(fabric, trained, judged, images, log, peers)
        if ending and fabric.is_global_zero:
            wanted = config.validation.export == "best"
            score = restore_best(trained, out / "checkpoints") if wanted else math.nan
            path = weights.save(judged.exported(), card(config, task, images, score), out / "exported")
            best = f"the best checkpoint by validation (score {score:.4f})"
            last = "the weights of the last step" + ": there is no best checkpoint" * wanted
            log.note(f"exported {path.relative_to(out)}, {best if math.isfinite(score) else last}")
        elif not ending:
            log.note("stopped on a signal; a checkpoint is saved. The same command resumes from it.")
    peers.barrier()
    return ending


def train(
    fabric: Fabric, trained: Trainable, judged: Task, images: LabelledImages, log: RunLog, peers: Peers
) -> Ending:
    """Run the training loop with the hooks of fine-tuning."""
    config = images.config
    source = source_of(config, images.train, images.unlabelled)
    hooks = Hooks(
        preview=partial(draw_preview, fabric, judged, images.val, log.folder),
        name_volumes=partial(intake.name_volumes, source, config.seed),
        measure=measure_of(fabric, trained, config, images.unlabelled),
        validate=partial(validate, fabric, judged, validated(images), peers),
    )
    load = partial(batches_from, config, source, trained, fabric)
    task = trained_task(trained, judged)
    with worker_deaths_explained(config.num_workers), shortage_explained(config, least_of(config)):
        return fit(
            fabric,
            trained,
            load,
            schedule=schedule_of(config),
            optim=config.optim,
            log=log,
            hooks=hooks,
            groups=parameter_groups(task.stages(), set(encoder_of(task).parameters()), config.tuning),
        )


def build_trained(config: FinetuneConfig) -> Trainable:
    """What the loop trains, with random weights, to see whether a batch fits into memory."""
    return trained_from(build_task(config), config)[0]


def least_of(config: FinetuneConfig) -> int:
    """Samples of the smallest batch: with unlabelled images one of either kind."""
    return 2 if config.unlabelled else 1


def check_images(config: FinetuneConfig, task: Task, images: LabelledImages) -> None:
    """Refuse images that the network or the windows cannot take."""
    wanted = config.encoder.in_channels
    for cache in (images.train, images.val, *([images.unlabelled] if images.unlabelled else [])):
        if cache.channels not in (1, wanted):
            raise FoveateError(
                f"The images have {cache.channels} channels, the encoder takes {wanted}; accepted: {wanted}, "
                "or 1, which is repeated."
            )
        intake.check_volumes(cache, task.crops, config, stride_of(config))


def start_from(task: Task, images: LabelledImages, out: Path | None = None) -> list[str]:
    """Copy the weights of --init that `tuning` asks for; lines for the log, and the reports into `out`."""
    config = images.config
    if config.init == RANDOM_WEIGHTS:
        return ["weights: random (--init none)"]
    tensors, card = weights.read(config.init)
    parts = task.exported()
    notes = input_notes(card, config, task, images.train)
    lines = [f"--init, input: {note}" for note in notes]
    for part, least in {"encoder": config.min_transfer, "decoder": 0.0}.items():
        if part == "encoder" or (config.tuning.transfer == "encoder_decoder" and part in parts):
            held = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
            goal, source = {part: parts[part]}, f"--init {config.init}"
            report = weights.transfer(goal, held, min_share=least, source=source, notes=notes)
            lines.append(f"--init, {part}: {report.summary()}")
            if out:
                (out / f"transfer.{part}.json").write_text(report.to_json(), encoding="utf-8")
    if config.tuning.norm_statistics == "fresh":
        forget_statistics(parts["encoder"])
    return lines


@torch.no_grad()
def validate(
    fabric: Fabric,
    task: Task,
    cases: Sequence[CachedVolume],
    peers: Peers,
    step: int,  # noqa: ARG001
) -> dict[str, float]:
    """Metrics of some images, which all processes share; the same as one process would find."""
    peers.same_buffers(task)
    task.eval()
    own, mine = cases[peers.rank :: peers.world], []
    with fabric.autocast(), counted("validation", len(own), active=fabric.is_global_zero) as advance:
        for case in own:
            mine.append(list(task.judged(case)))
            advance()
    task.train()
    shares = peers.gathered(mine)
    return task.metrics([shares[i % peers.world][i // peers.world] for i in range(len(cases))])


def validated(images: LabelledImages) -> list[CachedVolume]:
    """The validation images that are predicted while training: so many as asked for, evenly spread."""
    known, wanted = list(images.val), images.config.validation.cases
    count = min(wanted or len(known), len(known))
    return [known[i * len(known) // count] for i in range(count)]


@torch.no_grad()
def draw_preview(fabric: Fabric, task: Task, cases: Cache, out: Path, step: int) -> None:
    """Outlines of truth and prediction over the first few validation images."""
    if not fabric.is_global_zero:
        return
    task.eval()
    with fabric.autocast():
        drawn = [(volume, task.outlines(volume)) for volume in list(cases)[:PICTURED_CASES]]
    task.train()
    pictures = [
        overlays.Case(
            image=torch.from_numpy(volume.read([0] * len(volume.shape), volume.shape)[0]),
            regions=outlines,
            caption=f"validation image {number}" + scored(outlines),
        )
        for number, (volume, outlines) in enumerate(drawn, 1)
        if outlines
    ]
    if pictures:
        count = len(next(iter(pictures[0].regions.values())))
        names = task.class_names[-count:]  # the background has no outline
        overlays.write_overlays(out / "previews" / f"step-{step:09d}.png", pictures, names)


def scored(outlines: Mapping[str, torch.Tensor]) -> str:
    """The Dice of truth and prediction for a caption, where these two are drawn."""
    return f", mean Dice {overlays.dice(outlines):.3f}" if len(outlines) == 2 else ""


def restore_best(trained: Trainable, checkpoints: Path) -> float:
    """Load the best checkpoint into what was trained; its score, not a number where there was none."""
    state = checkpoint.read_best(checkpoints)
    if state is None:
        return float("nan")
    trained.load_state_dict(state["model"])
    return float(state["best"])


def write_split(config: FinetuneConfig, images: LabelledImages, out: Path, cache: Path) -> None:
    """Salted names into the run folder; plain ones only where the user asked for a file."""
    import json

    ids = {
        part: [v.entry.id for v in cache] for part, cache in (("train", images.train), ("val", images.val))
    }
    if images.unlabelled:
        ids["unlabelled"] = [v.entry.id for v in images.unlabelled]
    salt = read_salt(cache)
    ids["test"] = [salted_id(salt, record.relative) for record in images.split["test"]]
    text = json.dumps(ids, indent=1)
    replace_text(out / "split.json", text + "\n")
    if config.split.save_as:
        replace_text(Path(config.split.save_as), as_names(images.split))


def headline(config: FinetuneConfig) -> str:
    """The first line of a run."""
    start = "random weights" if config.init == RANDOM_WEIGHTS else "pre-trained weights"
    return (
        f"foveate {version('foveate')}: {config.task.name}, {config.dimension}D, "
        f"{config.encoder.name} (width {config.encoder.width}) from {start}, batch {config.batch_size} x "
        f"{config.accumulate}, {config.steps} steps on {config.accelerator}, {config.precision}"
    )


def card(config: FinetuneConfig, task: Task, images: LabelledImages, score: float) -> weights.Card:
    """What predict and a later user must know of the weights."""
    mapping: dict[str, Any] = parsing.to_mapping(config)
    return shared_card(config, task, images.train) | {
        "task": mapping["task"],
        "class_names": list(task.class_names),
        "activation": task.activation,
        "patch": list(task.patch),
        "tuning": mapping["tuning"],
        "started_from": "random weights"
        if config.init == RANDOM_WEIGHTS
        else weights.read(config.init)[1].get("data_hash", "weights of others"),
        "initial_weights": ancestor("" if config.init == RANDOM_WEIGHTS else config.init),
        "validation_score": score if math.isfinite(score) else None,
        **({"semi": mapping["semi"], "unlabelled": len(images.unlabelled)} if images.unlabelled else {}),
        "batch_norm_statistics": "of training",
        "data_hash": data_hash(images),
    }


def dry_run(config: FinetuneConfig) -> str:
    """Build everything from the first few images, do one step, and say what a real run would do."""
    import tempfile

    check_processes(config)
    config = on_one_device(fold_of(config, config.fold or 0) if config.folds else config)
    with tempfile.TemporaryDirectory() as scratch:
        fabric = build_fabric(config)
        images = load_images(config, Path(scratch) / CACHES, limit=intake.SAMPLE_IMAGES)
        config = images.config
        task = build_task(config)
        check_images(config, task, images)
        lines = start_from(task, images)
        trained, _ = trained_from(task, config)
        images_of_both = source_of(config, images.train, images.unlabelled)
        with shortage_explained(config, least_of(config)):
            source = batches_from(config, images_of_both, trained, fabric, 0)
            losses, seconds = first_step(fabric, trained, source, config)
    terms = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    return "\n".join(
        [
            headline(config),
            summary(images),
            *lines,
            f"outputs: {', '.join(task.class_names)} ({task.activation})",
            f"parameters: {sum(p.numel() for p in task.parameters()):,}",
            f"one step: {terms}; {seconds:.2f} s, the first step of a process is the slowest",
            f"a sample: {len(images.train) + len(images.val)} of {sum(map(len, images.split.values()))} "
            "labelled images were decoded; sizes and labels of the others were not looked at",
            f"would do: {config.steps} steps, about {config.steps * seconds / 3600:.1f} h, into "
            f"{config.out}; nothing was written there",
        ]
    )
