"""Boxes that were found against those of the labels: scores of every image, figures, the worst to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.core.boxes.geometry import Boxes, filled
from foveate.core.boxes.tasks import BoxConfig, Scan
from foveate.core.labels import LABELS, unions
from foveate.core.tasks import TaskConfig
from foveate.core.types import Array, FoveateError
from foveate.data.cache.volumes import CachedVolume
from foveate.data.cohort.wanted import Labelled
from foveate.pages.scenes import write_scenes
from foveate.pages.viewer import Layer, Scene, grey_levels, numbered
from foveate.runtime.report.evaluations import SCENES
from foveate.train.overlays import Case, write_overlays

Rows = list[dict[str, float]]
EXTRA = 2  # boxes beyond as many as are true that a picture shows


def truth_of(task: BoxConfig, asked: TaskConfig, found: Labelled) -> BoxConfig:
    """The Config that reads these labels: the classes of the run by name, with their values here.

    Every table numbers its own classes. Values of label maps stay as they are where the run was told its
    classes, or where nobody has named them.
    """
    assert isinstance(asked, BoxConfig)
    own, here = unions(task.classes), unions(found.classes)
    maps = not task.instances and not found.instances
    unnamed = all(name == f"class{values[0]}" for name, values in own.items())
    if maps and (asked.classes or not here or unnamed):
        return task
    if (own, set(task.ignore), task.instances) == (here, set(found.ignore), found.instances):
        return task
    unknown = bool(found.instances) and not set(here) <= set(own)
    apart = not set(here) & set(own) and bool(here or not found.instances)
    if unknown or apart or (task.instances and asked.ignore):
        raise FoveateError(
            f"The labels are {said_of(found.classes, found.ignore, found.instances)}, those of the run were "
            f"{said_of(task.classes, task.ignore, task.instances)}; accepted: labels whose classes are named "
            "as those of the run, all of them or some, and for other images than its own no --task.ignore of "
            "a run from a table."
        )
    # no voxel counts as 0: a class that these labels lack has no box
    classes = tuple(f"{name}={'+'.join(map(str, here.get(name, (0,))))}" for name in own)
    ignore = (asked.ignore if maps else ()) or found.ignore
    return replace(task, classes=classes, ignore=ignore, instances=found.instances)


def said_of(classes: Sequence[str], ignore: Sequence[int], instances: int) -> str:
    """Labels in words."""
    kind = "boxes of a table" if instances else "label maps"
    left_out = f", ignored {', '.join(map(str, ignore))}" if ignore else ""
    return f"{kind} with the classes {', '.join(classes) or '(none named)'}{left_out}"


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
