"""Boxes that were found against those of the labels: scores of every image, figures, the worst to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.core.boxes.geometry import Boxes, filled
from foveate.core.boxes.tasks import LABELS, BoxConfig, Scan
from foveate.core.types import Array, FoveateError
from foveate.data.cache.volumes import CachedVolume
from foveate.pages.scenes import write_scenes
from foveate.pages.viewer import Layer, Scene, grey_levels, numbered
from foveate.runtime.report.evaluations import SCENES
from foveate.train.overlays import Case, write_overlays

Rows = list[dict[str, float]]
EXTRA = 2  # boxes beyond as many as are true that a picture shows


def refuse_strange(task: BoxConfig, volume: CachedVolume) -> None:
    """Refuse labels with a class that the run does not know."""
    values = [value for value in volume.map_entry(LABELS).values if value > 0]
    known = task.classes_of(values)
    if strange := [value for value in values if value not in known]:
        raise FoveateError(
            f"{volume.relative}: its labels hold the values {strange}, which no class of the run declares; "
            f"accepted: those of {', '.join(task.classes)}."
        )


def judge_boxes(
    config: EvaluateConfig, task: BoxConfig, found: Sequence[Boxes], cohort: Cohort, out: Path
) -> tuple[Rows, list[Scan], Mapping[str, object]]:
    """Numbers of every image, the scans that metrics are made of, and what else there is to say."""
    scans = [task.scan(volume, boxes) for volume, boxes in zip(cohort.volumes, found, strict=True)]
    extra = task.report(scans, out)
    draw_worst(config, task, found, scans, cohort, out)
    return [task.row(scan) for scan in scans], scans, extra


def draw_worst(
    config: EvaluateConfig,
    task: BoxConfig,
    found: Sequence[Boxes],
    scans: Sequence[Scan],
    cohort: Cohort,
    out: Path,
) -> None:
    """Pictures of the images with the worst answers: true boxes, and the surest of those that were found."""
    wrong = np.array([task.mistakes(scan) for scan in scans])
    order = [i for i in np.argsort(-wrong, kind="stable").tolist() if not np.isnan(wrong[i])]
    pictures, scenes = [], []
    for i in order[: config.worst if config.with_images else 0]:
        volume = cohort.volumes[i]
        truth = task.known(volume).truth
        surest = found[i].best_first().picked(np.arange(min(len(found[i]), len(truth) + EXTRA)))
        sides = {"truth": truth, "prediction": surest}
        masks = {name: filled(boxes, volume.shape, len(task.names)) for name, boxes in sides.items()}
        image = volume.read([0] * len(volume.shape), volume.shape)[0]
        scores = ", ".join(f"{score:.2f}" for score in surest.score)
        said = f"row {i + 1} of cases.csv; {len(truth)} true boxes; scores of those drawn: {scores or 'none'}"
        regions = {name: torch.from_numpy(each) for name, each in masks.items()}
        pictures.append(Case(image=torch.from_numpy(image), regions=regions, caption=said))
        scenes.append(scene_of(volume, image, masks, task.names, said))
    if pictures:
        write_overlays(out / "worst.png", pictures, list(task.names))
        write_scenes(out / SCENES, scenes)


def scene_of(
    volume: CachedVolume, image: Array, masks: Mapping[str, Array], names: Sequence[str], said: str
) -> Scene:
    """An image with true and found boxes, to scroll through."""
    by_name = {side: dict(zip(names, each, strict=True)) for side, each in masks.items()}
    return Scene(
        name=said,
        image=grey_levels(image),
        spacing_mm=volume.spacing_mm,
        layers=[
            Layer(name="prediction", regions=numbered(by_name["prediction"])),
            Layer(name="label", regions=numbered(by_name["truth"]), outlined=True),
        ],
        classes=list(names),
    )
