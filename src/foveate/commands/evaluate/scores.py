"""Scores of predictions: masks against label maps, predictions for whole images against labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from foveate.commands.evaluate.boxed import Rows, judge_boxes, refuse_strange
from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.listed import boxes_given
from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.tasks import BoxConfig, BoxTask
from foveate.core.labels import LABELS
from foveate.core.tasks import Answered, DenseTask, ImageTask
from foveate.core.types import Array, FoveateError
from foveate.data.cache.volumes import CachedVolume
from foveate.pages.scenes import write_scenes
from foveate.pages.viewer import Layer, Scene, grey_levels, numbered
from foveate.runtime.finetuned import Model, segment_volume
from foveate.runtime.report.evaluations import SCENES
from foveate.scoring import calibration, figures, metrics
from foveate.scoring.attribution import grad_cam
from foveate.scoring.members.mirrors import Mirror
from foveate.scoring.protocols.lesions import lesion_rows
from foveate.scoring.protocols.sweeps import (
    Frame,
    frame_of,
    retrieval,
    retrieved,
    smoothed,
)
from foveate.train.logging import say
from foveate.train.overlays import Case, write_overlays
from foveate.train.progress import counted

Statistic = Callable[[Array], dict[str, float]]  # of the cases with these indices


Judged = tuple[Rows, Statistic, Mapping[str, object]]  # what else there is to say


def judge(config: EvaluateConfig, models: Sequence[Model], cohort: Cohort, out: Path) -> Judged:
    """Scores of every case by the model that answers it; figures."""
    tasks = [model.task for model in models]
    dense = [task for task in tasks if isinstance(task, DenseTask)]
    boxed = [task for task in tasks if isinstance(task, BoxTask)]
    if config.predictions and not boxed:
        raise FoveateError(f"--predictions {config.predictions}: accepted for runs whose answers are boxes.")
    if len(dense) == len(tasks):
        return judge_masks(config, models, dense, cohort, out)
    if len(boxed) == len(tasks):
        truth = cohort.truth
        assert truth is not None  # of a run whose answers are boxes every cohort has it
        found = boxes_of(config, models, truth, cohort)
        return judge_found(config, truth, found, cohort, out)
    return judge_answers(config, models, [t for t in tasks if isinstance(t, ImageTask)], cohort, out)


def boxes_of(
    config: EvaluateConfig, models: Sequence[Model], truth: BoxConfig, cohort: Cohort
) -> list[Boxes]:
    """The boxes of every image, in voxels: those of a table, or what the models find."""
    if not config.predictions:
        return found_by(config, models, truth, cohort)
    for volume in cohort.volumes:
        refuse_strange(truth, volume)
    return boxes_given(config, cohort, models[0].task.class_names)


def found_by(
    config: EvaluateConfig, models: Sequence[Model], truth: BoxConfig, cohort: Cohort
) -> list[Boxes]:
    """The boxes of every image, in voxels, by the model that answers it."""
    owners = cohort.owners or [0] * len(cohort.volumes)
    found = []
    with counted("evaluating", len(cohort.volumes)) as advance:
        for volume, k in zip(cohort.volumes, owners, strict=True):
            refuse_strange(truth, volume)
            found.append(models[k].boxes(volume, config.window.overlap, config.mirror))
            advance()
    return found


def judge_found(
    config: EvaluateConfig, task: BoxConfig, found: Sequence[Boxes], cohort: Cohort, out: Path
) -> Judged:
    """Boxes of every image, whoever has found them; how many listed places a table of scores leaves out."""
    rows, scans, extra = judge_boxes(config, task, found, cohort, out)
    pairs = zip(cohort.volumes, found, strict=True) if config.predictions else ()
    if missing := sum(task.unscored(volume, boxes) for volume, boxes in pairs):
        say(
            f"{missing} of the places that the labels list have no score in {config.predictions}; each "
            "counts as 0"
        )
        extra = {**extra, "places_without_score": missing}
    return rows, task.scorer(scans), extra


def judge_masks(
    config: EvaluateConfig, models: Sequence[Model], tasks: Sequence[DenseTask], cohort: Cohort, out: Path
) -> Judged:
    """Masks of every case; figures of Dice and of the worst."""
    rows: Rows = []
    owners = cohort.owners or [0] * len(cohort.volumes)
    with counted("evaluating", len(cohort.volumes)) as advance:
        for volume, k in zip(cohort.volumes, owners, strict=True):
            predicted, truth, error = judged_masks(config, models[k], tasks[k], volume)
            found = metrics.mask_metrics(predicted, truth, volume.spacing_mm, config.nsd_tolerance_mm)
            found |= lesion_rows(predicted, truth, config.lesions)
            rows.append(found | ({} if error is None else {"ece_fg": error}))
            advance()
    names = [name for name in tasks[0].class_names if f"dice/{name}" in rows[0]]
    figures.draw_scores(out / "dice.png", {n: [r[f"dice/{n}"] for r in rows] for n in names}, "Dice")
    order = sorted(range(len(rows)), key=lambda i: np.nan_to_num(rows[i]["mean_fg_dice"], nan=2.0))
    pictures, scenes = [], list[Scene]()
    for i in order[: config.worst if config.with_images else 0]:
        predicted, truth = masks_of(config, models[owners[i]], tasks[owners[i]], cohort.volumes[i])
        sides = {"truth": truth, "prediction": predicted}
        image = torch.from_numpy(whole(cohort.volumes[i])[0])
        drawn = {k: torch.from_numpy(np.stack(list(each.values()))) for k, each in sides.items()}
        said = f"row {i + 1} of cases.csv, mean_fg_dice {rows[i]['mean_fg_dice']:.3f}"
        pictures.append(Case(image=image, regions=drawn, caption=said))
        scenes.append(scene_of(cohort.volumes[i], predicted, truth, said))
    if pictures:
        write_overlays(out / "worst.png", pictures, list(truth))
        write_scenes(out / SCENES, scenes)
    keys = list(rows[0])
    columns = {key: np.array([row[key] for row in rows]) for key in keys}
    return rows, lambda picked: {k: metrics.mean(columns[k][picked]) for k in keys}, {}


def scene_of(
    volume: CachedVolume, predicted: Mapping[str, Array], truth: Mapping[str, Array], said: str
) -> Scene:
    """An image with its label and its prediction, to scroll through."""
    return Scene(
        name=said,
        image=grey_levels(whole(volume)[0]),
        spacing_mm=volume.spacing_mm,
        layers=[
            Layer(name="prediction", regions=numbered(predicted)),
            Layer(name="label", regions=numbered(truth), outlined=True),
        ],
        classes=list(truth),
        note="Where classes overlap, the smaller one is seen."
        if overlap(truth) or overlap(predicted)
        else "",
    )


def overlap(masks: Mapping[str, Array]) -> bool:
    """Whether a voxel is of two classes."""
    return bool(np.sum(list(masks.values()), axis=0, dtype=np.uint8).max() > 1)


def whole(volume: CachedVolume) -> Array:
    """A volume as a whole, in [0, 1]."""
    return volume.read([0] * len(volume.shape), volume.shape)


def masks_of(
    config: EvaluateConfig, model: Model, task: DenseTask, volume: CachedVolume
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Predicted and true masks of the classes, both without ignored voxels."""
    predicted, truth, _ = judged_masks(config, model, task, volume)
    return predicted, truth


def judged_masks(
    config: EvaluateConfig, model: Model, task: DenseTask, volume: CachedVolume
) -> tuple[dict[str, Array], dict[str, Array], float | None]:
    """The same with the calibration error of their probabilities, where it is asked for."""
    if strange := sorted({*volume.map_entry(LABELS).values} - set(task.declared)):
        raise FoveateError(
            f"{volume.relative}: its labels hold the values {strange}, which no class of the run declares; "
            f"accepted: {sorted(task.declared)}."
        )
    masks, known = task.truth(volume)
    found = segment_volume(model, volume, config.window, config.tidy, config.calibration, config.mirror)
    outputs = {name: task.class_names.index(name) for name in masks}
    predicted = {name: found.mask(k) & known for name, k in outputs.items()}
    error = None
    if found.probabilities is not None:
        answer, true = ({k: side[name] for name, k in outputs.items()} for side in (predicted, masks))
        kind: calibration.Kind = "softmax" if task.activation == "softmax" else "sigmoid"
        error = calibration.foreground_error(found.probabilities, answer, true, known, kind)
    return predicted, {name: mask & known for name, mask in masks.items()}, error


def judge_answers(
    config: EvaluateConfig, models: Sequence[Model], tasks: Sequence[ImageTask], cohort: Cohort, out: Path
) -> Judged:
    """Answers for whole images, as the task scores them; its figures, and the worst cases."""
    owners, task = cohort.owners or [0] * len(cohort.volumes), tasks[0]
    parts = []
    for k, model in enumerate(models):  # the volumes of a model lie together
        mine = [volume for volume, owner in zip(cohort.volumes, owners, strict=True) if owner == k]
        parts.append(answers_of(model, tasks[k], mine, config.mirror))
    found = in_time(
        Answered(*(np.concatenate(each) for each in zip(*parts, strict=True))), cohort.volumes, config
    )
    names, targets = task.class_names, task.config.targets
    frames, sought = frames_of(cohort.volumes), task.sought
    best = retrieved(found.answers, found.labels[:, 0], frames, names, sought) if sought else {}
    rows: Rows = [
        {
            **{f"answer/{n}": float(a) for n, a in zip(names, answers, strict=True)},
            **{f"label/{n}": float(v) for n, v in zip(targets, labels, strict=True)},
            **{f"retrieved/{n}": float(column[i]) for n, column in best.items()},
        }
        for i, (answers, labels) in enumerate(zip(*found, strict=True))
    ]
    draw_worst(config, [tasks[k] for k in owners], cohort, found, out)
    tuned = cohort.calibration
    validation = answers_of(models[0], task, tuned, config.mirror) if tuned else None
    extra = task.report(found, validation and in_time(validation, tuned, config), out)

    def statistic(picked: Array) -> dict[str, float]:
        of_sweeps = retrieval(best, picked) if best else {}
        return task.config.score(found.answers[picked], found.labels[picked]) | of_sweeps

    return rows, statistic, extra


def frames_of(volumes: Sequence[CachedVolume]) -> list[Frame]:
    """Where images stand in their sweeps, none of which is of two patients."""
    frames = [(volume.patient, frame_of(volume.relative)) for volume in volumes]
    return [Frame((patient, frame.sweep), frame.number) for patient, frame in frames]


def in_time(found: Answered, volumes: Sequence[CachedVolume], config: EvaluateConfig) -> Answered:
    """Answers as the configuration averages them over time."""
    return found._replace(answers=smoothed(found.answers, frames_of(volumes), config.smooth_frames))


def answers_of(
    model: Model, task: ImageTask, volumes: Sequence[CachedVolume], mirror: Mirror = "none"
) -> Answered:
    """Answers and labels of some cases."""
    answers = []
    with counted("evaluating", len(volumes)) as advance:
        for volume in volumes:
            answers.append(model.predicted(volume, mirror).numpy())
            advance()
    labels = np.array([[float(volume.labels[t]) for t in task.config.targets] for volume in volumes])
    return Answered(np.stack(answers).astype(np.float64), labels)


def draw_worst(
    config: EvaluateConfig, tasks: Sequence[ImageTask], cohort: Cohort, found: Answered, out: Path
) -> None:
    """Pictures of the cases that are furthest from their labels; a task for each case."""
    wrong = tasks[0].mistakes(found)
    order = np.argsort(-wrong, kind="stable").tolist()
    worst = [i for i in order if not np.isnan(wrong[i])][: config.worst]
    if worst and config.with_images:
        said = [tasks[i].caption(found.answers[i], found.labels[i]) for i in worst]
        cases = [explained(tasks[i], cohort.volumes[i], text) for i, text in zip(worst, said, strict=True)]
        figures.draw_cases(out / "worst.png", cases)
        numbers = [f"row {i + 1} of cases.csv" for i in worst]
        places = [cohort.volumes[i] for i in worst]
        write_scenes(out / SCENES, [heated(*each) for each in zip(numbers, places, cases, strict=True)])


def heated(name: str, volume: CachedVolume, case: figures.Pictured) -> Scene:
    """What the network saw of an image, and where it looked: above half of the strongest heat."""
    extent = volume.cut.across(volume.place.extent_mm) if volume.cut else volume.place.extent_mm
    hot = case.heat > 0.5
    return Scene(
        name=name,
        image=grey_levels(case.image),
        spacing_mm=[mm / n for mm, n in zip(extent, case.image.shape, strict=True)],
        layers=[Layer(name="Grad-CAM above half", regions=hot, outlined=True)],
        classes=["Grad-CAM above half"],
        note=case.caption,
    )


def explained(task: ImageTask, volume: CachedVolume, text: str) -> figures.Pictured:
    """The input of the network, overlaid with the Grad-CAM of its strongest output."""
    strongest = task.predict(volume).argmax()
    view = task.view(volume).to(next(task.parameters()).device)
    encoder = task.exported()["encoder"]
    heat = grad_cam(encoder, task.outputs, view, strongest.to(view.device)[None])[0].cpu().numpy()
    grey = view[0, 0].float().cpu().numpy()
    return figures.Pictured((grey - grey.min()) / max(float(np.ptp(grey)), 1e-6), heat, text)
