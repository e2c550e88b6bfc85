"""Prediction: a fine-tuned run over files, one at a time, with results in each file's own geometry.

What is done is never done again, what fails is said and excluded, and no file is half-written.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import final

from foveate.commands.predict.boxes import BoxFiles
from foveate.commands.predict.config import PredictConfig
from foveate.commands.predict.journal import Journal
from foveate.commands.predict.places import with_places
from foveate.commands.predict.reading import Opened, read_ahead
from foveate.commands.predict.results import refuse_format, result_names, write_all
from foveate.commands.predict.sweeps import write_sweeps
from foveate.commands.predict.table import (
    EARLIER,
    WARNING,
    doubt_cells,
    read_table,
    words_of,
    write_table,
)
from foveate.core import config as parsing
from foveate.core.boxes.tasks import BoxTask
from foveate.core.files import cell, read_json, replace_text
from foveate.core.tasks import DenseTask, ImageTask
from foveate.core.types import Ending, FoveateError, Record, reason_of
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import CachedVolume
from foveate.data.image_files import image_files
from foveate.data.roles.channels import channel_notes
from foveate.data.sources.folder import FolderSource
from foveate.nets.weights import store as weights
from foveate.runtime.finetuned import (
    SCRATCH_FOLDER,
    Model,
    open_model,
    prepared,
    segment_volume,
)
from foveate.runtime.folder import runs_in
from foveate.runtime.inputs.facts import Gate, as_trained, trained_facts
from foveate.runtime.inputs.unfit import kind_of, refuse_unfit
from foveate.runtime.resources.gpus import take_gpu
from foveate.scoring.members.doubt import Asked, Doubt, doubt_of_values
from foveate.scoring.members.mirrors import LETTERS, mirror_images
from foveate.scoring.members.shares import mean_of
from foveate.scoring.protocols.sweeps import check_smoothing
from foveate.scoring.segment import Segmentation
from foveate.train.logging import say
from foveate.train.progress import counted

TABLE, SETTINGS = "predictions.csv", "predict.json"
SAVE_SECONDS = 5.0  # between two writings of the table
BEFORE = {
    "format": "nifti",
    "precision": "32-true",
    "window.skip_background": False,
    "mirror": "none",
    "uncertainty_map": False,
    "smooth_frames": 1,
    "boxes.frame": "stated",
    "boxes.unit": "stated",
    "boxes.diameter": 0.0,
}  # what an earlier version did not write down, and did
FAILURES = (FoveateError, OSError, RuntimeError, ValueError, MemoryError)  # of one file


def run_predict(config: PredictConfig) -> Ending:
    """Predict, and say in the exit code whether an image failed."""
    return Ending.FINISHED if predict(config) else Ending.INCOMPLETE


def predict(config: PredictConfig) -> bool:
    """Predict every image; True when none failed."""
    take_gpu(config.accelerator, config.gpu)
    runs = [each for run in config.runs for each in runs_in(run)]
    model, out = open_model(runs, config.accelerator, config.precision), Path(config.out)
    images = images_of(Path(config.data), model.card.get("in_channels", 0))
    images = with_places(images, Path(config.data), config.boxes, model.task)
    refuse_among_images(images, out)
    refuse_format(images, model, config.format)
    refuse_settings(config, model)
    claim(out, config, runs, model.precision)
    trained = trained_facts(model.card, by_voxel=model.dense)
    seat = Seat(
        model=model,
        config=config,
        prepare=as_trained(model.prepare, trained),
        gate=Gate(trained, force=config.force),
    )
    if isinstance(model.task, DenseTask):
        outcomes = predict_masks(seat, model.task, images)
    elif isinstance(model.task, BoxTask):
        outcomes = predict_boxes(seat, model.task, images)
    else:
        outcomes = predict_table(seat, images, partial(row_of_values, seat, model.task))
    done, failed = 0, []
    with counted("predicting", len(images)) as advance:
        for record, reason in outcomes:
            done += not reason
            if reason:
                failed.append(f"{record.relative}: {reason}")
                say(f"failed: {failed[-1]}")
            advance()
    task, swept = model.task, ""
    if isinstance(task, ImageTask):
        swept = write_sweeps(out / TABLE, task, config.smooth_frames)
    for words in filter(None, (model.spared(), words_of(read_table(out / TABLE)), swept)):
        say(words)
    say(f"{done} of {len(images)} images have a result in {out}" + (f"; {len(failed)} failed" * bool(failed)))
    return not failed


@final
@dataclass(frozen=True, kw_only=True)
class Seat:
    """A model at work: what it was told, how its images are prepared, and which of them it takes."""

    model: Model
    config: PredictConfig
    prepare: PrepareConfig
    gate: Gate


def images_of(data: Path, channels: int = 0) -> Sequence[Record]:
    """The images below a folder; labels and other files are excluded, with a message."""
    found = list(FolderSource(expected=channels).records(data))
    images = [record for record in found if record.role == "image"]
    if not images:
        raise FoveateError(f"--data {data}: {len(found)} files were found, none of them an image.")
    if len(images) < len(found):
        say(f"excluded: {len(found) - len(images)} files that are no images, or labels")
    for note in channel_notes(images):
        say(note)
    return images


def refuse_among_images(images: Sequence[Record], out: Path) -> None:
    """No image may lie where the results go: a mask has the name of its image."""
    home = out.resolve()
    for record in images:
        if any(path.resolve().is_relative_to(home) for path in image_files(record)):
            raise FoveateError(
                f"--out {out}: {record.relative} lies in it, and a result could replace an image; accepted: "
                "a folder without images."
            )


def refuse_settings(config: PredictConfig, model: Model) -> None:
    """What a model cannot do is said before anything is computed."""
    check_smoothing(config.smooth_frames)
    refuse_unfit(config, PredictConfig(), [kind_of(model.task)])
    volumes = model.slices is not None
    mirror_images(config.mirror, len(LETTERS) if volumes else model.card["dimension"])


def claim(out: Path, config: PredictConfig, runs: Sequence[str], precision: str) -> None:
    """Write down what makes these results, or refuse a folder whose results were made otherwise."""
    hashes = sorted(blake2b(weights.locate(run).read_bytes(), digest_size=16).hexdigest() for run in runs)
    if len(set(hashes)) < len(hashes):
        raise FoveateError("--run: the same weights are named twice; accepted: every run once.")
    ignored = ("run", "data", "out", "force", "accelerator", "gpu", "window.batch_size", "boxes.file")
    said = {k: v for k, v in parsing.flatten(parsing.to_mapping(config)) if k not in ignored}
    said["precision"] = precision  # the one that is taken, whatever was asked for
    mine = {"weights": hashes[0] if len(hashes) == 1 else hashes, **said}
    path = out / SETTINGS
    if path.exists():
        before = BEFORE | (read_json(path) or {})
        if before.get("window.flip_axes") == []:  # what mirrored in an earlier version, and did not
            del before["window.flip_axes"]
        if changed := parsing.differences(before, mine, ()):
            raise FoveateError(
                f"--out {out} holds predictions made otherwise ({'; '.join(changed)}); accepted: a new "
                "folder, or the same values to go on."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for scratch in out.glob(f"{SCRATCH_FOLDER}*"):  # of a run that was killed
            shutil.rmtree(scratch, ignore_errors=True)
        replace_text(path, json.dumps(mine, indent=1) + "\n")
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None


def predict_masks(seat: Seat, task: DenseTask, images: Sequence[Record]) -> Iterator[tuple[Record, str]]:
    """Label maps; every image with the reason why it has none, empty where it has."""
    model, config, out = seat.model, seat.config, Path(seat.config.out)
    journal, rows = Journal(out), read_table(out / TABLE)
    names = result_names(images, model.dimension_of, config.format)

    def done(record: Record, line: tuple[str, str]) -> bool:
        return (out / names[record.relative]).exists() and journal.has(line)

    for record, coming in read_ahead(images, lambda each: opened(seat, each, done)):
        target = out / names[record.relative]
        try:
            image = coming.result()
            if image.volume is None:
                rows.setdefault(cell(record.relative), row_of_mask(names[record.relative], EARLIER))
            else:
                with image.held:
                    volume = image.volume
                    found = segment_seen(seat, volume)
                    journal.forget(image.line)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write_all(model, task, found, volume, record, target)
                rows[cell(record.relative)] = row_of_mask(names[record.relative], image.warning, found.doubt)
                write_table(out / TABLE, rows)  # before it counts as done: a warning is never lost
                journal.add(image.line)
            yield record, ""
        except FAILURES as error:
            yield record, reason_of(error)
    write_table(out / TABLE, rows)


def opened(seat: Seat, record: Record, done: Callable[[Record, tuple[str, str]], bool]) -> Opened:
    """An image as training saw it, compared with those of training; not read where it has a result."""
    line = Journal.line(record)
    if done(record, line):
        return Opened(line=line, volume=None, warning="", held=ExitStack())
    with ExitStack() as held:
        volume = seat.model.seen(held.enter_context(prepared(record, seat.prepare, Path(seat.config.out))))
        warning = seat.gate.warning(record, volume)
        return Opened(line=line, volume=volume, warning=warning, held=held.pop_all())


def segment_seen(seat: Seat, volume: CachedVolume) -> Segmentation:
    """The segmentation of an image as the configuration asks for it."""
    c = seat.config
    asked: Asked = "map" if c.uncertainty_map else "numbers"
    return segment_volume(seat.model, volume, c.window, c.tidy, c.probabilities, c.mirror, asked)


def row_of_mask(name: str, warning: str, doubt: Doubt | None = None) -> dict[str, str]:
    """A row of the table of masks."""
    cells = {}
    if doubt:
        cells = doubt_cells(doubt.entropy, doubt.disagreement if doubt.common else None)
    return {"mask": name, **cells, WARNING: warning}


def predict_boxes(seat: Seat, task: BoxTask, images: Sequence[Record]) -> Iterator[tuple[Record, str]]:
    """Boxes of every image, and a row each in `predictions.csv`."""
    model, config, files = seat.model, seat.config, BoxFiles(Path(seat.config.out), task)

    def row(record: Record, volume: CachedVolume) -> dict[str, str]:
        return files.enter(model, record, volume, model.boxes(volume, config.window.overlap, config.mirror))

    return predict_table(seat, images, row, files)


def predict_table(
    seat: Seat,
    images: Sequence[Record],
    row_of: Callable[[Record, CachedVolume], dict[str, str]],
    files: BoxFiles | None = None,
) -> Iterator[tuple[Record, str]]:
    """Answers for whole images, a row each in `predictions.csv`; `files` hold what belongs to them."""
    out = Path(seat.config.out)
    path, written = out / TABLE, time.monotonic()
    rows, journal = read_table(path), Journal(out)
    fresh: list[tuple[str, str]] = []

    def save() -> None:
        for line in fresh:
            journal.forget(line)
        if files:
            files.save()
        write_table(path, rows)
        while fresh:  # after their rows: what is noted is there
            journal.add(fresh.pop())

    def done(record: Record, line: tuple[str, str]) -> bool:
        whole = files is None or record.relative in files.images
        return whole and cell(record.relative) in rows and journal.has(line)

    try:
        for record, coming in read_ahead(images, lambda each: opened(seat, each, done)):
            try:
                image = coming.result()
                if image.volume is not None:
                    with image.held:
                        row = row_of(record, image.volume)
                    rows[cell(record.relative)] = {**row, WARNING: image.warning}
                    fresh.append(image.line)
                yield record, ""
            except FAILURES as error:
                yield record, reason_of(error)
            if time.monotonic() - written > SAVE_SECONDS:
                save()
                written = time.monotonic()
    finally:
        save()


def row_of_values(seat: Seat, task: ImageTask, _record: Record, volume: CachedVolume) -> dict[str, str]:
    """The answer for a whole image, and how sure it is."""
    opinions = seat.model.opinions(volume, seat.config.mirror)
    mean = mean_of(opinions)
    doubt = doubt_of_values(opinions, mean, task.activation)
    return {**task.row(mean.tolist()), **doubt_cells(doubt.get("entropy"), doubt.get("disagreement"))}
