"""What one image's answer is worth, per task: masks against label maps, answers against labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import torch

from foveate.commands.evaluate.config import EvaluateConfig
from foveate.core.types import Array, FoveateError
from foveate.data.cache.volumes import CachedVolume
from foveate.data.cohort.wanted import MAP
from foveate.evaluate import calibration, figures, metrics
from foveate.evaluate.attribution import grad_cam, listened
from foveate.runtime.finetuned import Model, progress, segment_volume
from foveate.train.overlays import write_overlays

Rows = list[dict[str, float]]
Statistic = Callable[[Array], dict[str, float]]  # of the cases with these indices
FIGURED = 16  # curves in one figure
MOST_LINES = 6  # of a caption


@final
@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The labelled images to judge by, decoded, and who they are of."""

    volumes: list[CachedVolume]
    patients: list[str]  # salted, one per volume
    calibration: list[CachedVolume]  # the run's validation images, where they are at hand
    part: str = "test"  # that was taken
    left_out: int = 0  # images of the part that could not be used


def judge_masks(
    config: EvaluateConfig, model: Model, cohort: Cohort, out: Path
) -> tuple[Rows, Statistic, dict[str, Any]]:
    """Masks of every case; figures of Dice and of the worst."""
    rows: Rows = []
    with progress(len(cohort.volumes)) as advance:
        for volume in cohort.volumes:
            predicted, truth = masks_of(config, model, volume)
            tolerance = config.nsd_tolerance_mm
            rows.append(metrics.mask_metrics(predicted, truth, volume.spacing_mm, tolerance))
            advance()
    names = [name for name in model.task.class_names if f"dice/{name}" in rows[0]]
    figures.draw_scores(out / "dice.png", {n: [r[f"dice/{n}"] for r in rows] for n in names}, "Dice")
    order = sorted(range(len(rows)), key=lambda i: np.nan_to_num(rows[i]["mean_fg_dice"], nan=2.0))
    pictures = []
    for i in order[: config.worst]:
        predicted, truth = masks_of(config, model, cohort.volumes[i])
        sides = {"truth": truth, "prediction": predicted}
        image = torch.from_numpy(whole(cohort.volumes[i])[0])
        drawn = {k: torch.from_numpy(np.stack(list(each.values()))) for k, each in sides.items()}
        pictures.append((image, drawn))
    if pictures:
        write_overlays(out / "worst.png", pictures)
    keys = list(rows[0])
    columns = {key: np.array([row[key] for row in rows]) for key in keys}
    return rows, lambda picked: {k: metrics.mean(columns[k][picked]) for k in keys}, {}


def whole(volume: CachedVolume) -> Array:
    """A volume as a whole, in [0, 1]."""
    return volume.read([0] * len(volume.shape), volume.shape)


def masks_of(
    config: EvaluateConfig, model: Model, volume: CachedVolume
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Predicted and true masks of the classes, both without the voxels of which nothing is known."""
    said = model.card["task"]
    labels = volume.read_map(MAP, [0] * len(volume.shape), volume.shape)
    known = ~np.isin(labels, said["ignore"])
    named = cast(dict[str, tuple[int, ...]], model.module.unions(said["classes"]))
    declared = {0, *(value for values in named.values() for value in values), *said["ignore"]}
    if strange := sorted({*volume.map_entry(MAP).values} - declared):
        raise FoveateError(
            f"{volume.relative}: its labels hold the values {strange}, which no class of the run declares; "
            f"accepted: {sorted(declared)}."
        )
    found = segment_volume(model, volume, config.window, config.tidy)
    first = len(model.task.class_names) - len(said["classes"])
    predicted = {name: found.mask(first + k) & known for k, name in enumerate(named)}
    return predicted, {name: np.isin(labels, values) & known for name, values in named.items()}


def judge_answers(
    config: EvaluateConfig, model: Model, cohort: Cohort, out: Path
) -> tuple[Rows, Statistic, dict[str, Any]]:
    """Answers for whole images; ROC and confusion, the worst cases, calibration."""
    names, kind = model.task.class_names, model.task.activation
    answers, labels = answers_of(model, cohort.volumes)
    exclusive = kind == "softmax"
    truth = labels[:, 0] if exclusive else labels
    draw_answers(config, model, cohort, out, answers, truth, names if kind != "none" else ())
    rows: Rows = [
        {
            **{f"answer/{n}": float(a) for n, a in zip(names, answers[i], strict=True)},
            **{f"label/{n}": float(v) for n, v in zip(model.card["task"]["targets"], labels[i], strict=True)},
        }
        for i in range(len(answers))
    ]
    if kind == "none":
        return rows, lambda picked: metrics.regression_metrics(answers[picked], labels[picked], names), {}
    judge = metrics.multiclass_metrics if exclusive else metrics.multilabel_metrics

    def statistic(picked: Array) -> dict[str, float]:
        some, true = answers[picked], truth[picked]
        return {**judge(some, true, names), "ece": calibration.calibration_error(some, true, kind)}

    return rows, statistic, calibrated(model, cohort, answers, truth, kind)


def answers_of(model: Model, volumes: Sequence[CachedVolume]) -> tuple[Array, Array]:
    """Answers (N, K) and labels (N, targets)."""
    answers = []
    with progress(len(volumes)) as advance:
        for volume in volumes:
            answers.append(model.task.predict(volume).numpy())  # type: ignore[operator]
            advance()
    targets = model.card["task"]["targets"]
    labels = np.array([[float(volume.labels[t]) for t in targets] for volume in volumes])
    return np.stack(answers).astype(np.float64), labels


def calibrated(
    model: Model, cohort: Cohort, answers: Array, truth: Array, kind: calibration.Kind
) -> dict[str, Any]:
    """The temperature of the validation images and what it does here."""
    if not cohort.calibration:
        return {"calibration": None}
    shares, labels = answers_of(model, cohort.calibration)
    temperature = calibration.fit_temperature(
        calibration.logits_of(shares, kind), labels[:, 0] if kind == "softmax" else labels, kind
    )
    mended = calibration.probabilities(calibration.logits_of(answers, kind), kind, temperature)
    return {
        "calibration": {
            "temperature": temperature,
            "cases": len(shares),
            "ece_before": calibration.calibration_error(answers, truth, kind),
            "ece_after": calibration.calibration_error(mended, truth, kind),
        }
    }


def draw_answers(
    config: EvaluateConfig,
    model: Model,
    cohort: Cohort,
    out: Path,
    answers: Array,
    truth: Array,
    names: Sequence[str],
) -> None:
    """ROC curves, confusion and pictures of the cases furthest from their labels."""
    known = ~np.isnan(truth) & (np.nan_to_num(truth) >= 0)
    if truth.ndim == 1 and names:
        curves = {n: (answers[known, k], truth[known] == k) for k, n in enumerate(names)}
        chosen = answers[known].argmax(1)
        counts = figures.confusion(chosen, truth[known], len(names))
        figures.draw_confusion(out / "confusion.png", counts, names)
        at = np.nan_to_num(truth, nan=0).astype(int).clip(0)
        wrong = np.where(known, 1 - answers[np.arange(len(answers)), at], -1)
    else:
        curves = {n: (answers[known[:, k], k], truth[known[:, k], k]) for k, n in enumerate(names)}
        wrong = np.where(known, np.abs(answers - np.nan_to_num(truth)), 0).max(1)
    if names:
        figures.draw_roc(out / "roc.png", dict(list(curves.items())[:FIGURED]))
    worst = np.argsort(-wrong, kind="stable")[: config.worst].tolist()
    if worst:
        said = [caption(answers[i], truth[i], names) for i in worst]
        cases = [explained(model, cohort.volumes[i], text) for i, text in zip(worst, said, strict=True)]
        figures.draw_cases(out / "worst.png", cases)


def explained(model: Model, volume: CachedVolume, text: str) -> figures.Pictured:
    """The view that the network had of an image, under the Grad-CAM of its strongest answer."""
    task: Any = model.task
    encoder = task.exported()["encoder"]
    with listened(encoder) as heard:
        strongest = task.predict(volume).argmax()
    view = heard["input"]  # (1, C, *S), normalised
    heat = grad_cam(encoder, task.answers, view, strongest.to(view.device)[None])[0].cpu().numpy()
    grey = view[0, 0].float().cpu().numpy()
    return figures.Pictured((grey - grey.min()) / max(float(np.ptp(grey)), 1e-6), heat, text)


def caption(answers: Array, truth: Array, names: Sequence[str]) -> str:
    """What was true and what was answered."""
    if not names or np.ndim(truth):
        said = [f"{a:.2f} for {t:g}" for a, t in zip(answers, np.atleast_1d(truth), strict=True)]
        named = [f"{n}: {each}" for n, each in zip(names, said, strict=True)] if names else said
        return "\n".join(named[:MOST_LINES])
    true = names[int(truth)] if truth >= 0 else "unknown"
    return f"true: {true}\nanswered {names[int(answers.argmax())]} ({answers.max():.2f})"
