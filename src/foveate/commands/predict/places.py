"""The places that a run is to score in images: candidates that a table lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foveate.core.boxes.tasks import BoxTask
from foveate.core.tasks import Task
from foveate.core.types import FoveateError, Record
from foveate.data.boxes.tables import BoxesConfig, TableImage, read_boxes, table_of
from foveate.data.cohort.boxed import classes_in, labelled, paired
from foveate.train.logging import say


def with_places(images: Sequence[Record], data: Path, config: BoxesConfig, task: Task) -> Sequence[Record]:
    """The images with what a table lists in them, for a task that scores listed places; else as they are.

    Raises:
        FoveateError: there is no such table, it names none of the images, or the task has no use for one.
    """
    if not (isinstance(task, BoxTask) and task.config.places_given):
        if config != BoxesConfig():
            raise FoveateError("--boxes.*: accepted for runs that score listed places (--task candidates).")
        return images
    table = table_of(data, config)
    if table is None:
        raise FoveateError(
            f"--data {data}: the run scores places that a table lists, and there is none; accepted: "
            "boxes.csv or boxes.json in the folder, or --boxes.file."
        )
    listed = read_boxes(table, config)
    by_name = {record.relative: each for each, record in paired(listed, images, table) if record}
    if not by_name:
        raise FoveateError(
            f"{table}: none of the {len(listed)} images that it names is one of the {len(images)} below "
            f"{data}; accepted: their paths below it, or bare file names."
        )
    if silent := len(images) - len(by_name):
        say(f"{silent} of {len(images)} images are not in {table.name}: nothing is scored in them")
    classes = classes_in(listed)
    nothing = TableImage(image="", unit="mm", frame="ras")
    return [labelled(each, by_name.get(each.relative, nothing), classes, table) for each in images]
