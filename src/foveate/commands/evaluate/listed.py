"""Boxes that somebody else's detector has found, read from a table, for the images of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.core.boxes.geometry import Boxes, in_voxels, inside
from foveate.core.types import FoveateError, Record
from foveate.data.boxes.listing import Listed
from foveate.data.boxes.painting import MisplacedError, in_world, placed
from foveate.data.boxes.tables import SCORES, UNNAMED, BoxesConfig, TableImage, read_boxes
from foveate.data.cache.volumes import CachedVolume
from foveate.data.cohort.boxed import paired
from foveate.data.decoding.decoder import decode_flat
from foveate.train.logging import say

KEYS = "--frame and --unit"  # what says the convention of predictions


def boxes_given(config: EvaluateConfig, cohort: Cohort, names: Sequence[str]) -> list[Boxes]:
    """The boxes of `predictions` for every image of an evaluation."""
    table = BoxesConfig(
        file=config.predictions, frame=config.frame, unit=config.unit, diameter=config.diameter
    )
    return boxes_listed(table, cohort.records, cohort.volumes, names)


def boxes_listed(
    config: BoxesConfig, records: Sequence[Record], volumes: Sequence[CachedVolume], names: Sequence[str]
) -> list[Boxes]:
    """The boxes of every image in voxels of the cache; none of an image that the table does not name.

    Raises:
        FoveateError: the table names none of the images, an image twice, or a class that the labels do not
            have, or all of its boxes lie outside of their images.
    """
    table = read_boxes(Path(config.file), config)
    pairs = paired(table, records, Path(config.file))
    by_name = {record.relative: each for each, record in pairs if record}
    if not by_name:
        raise FoveateError(
            f"{config.file}: none of the {len(table)} images that it names is one of the {len(records)} "
            "images of the evaluation; accepted: their paths below --data, or bare file names."
        )
    if silent := len(records) - len(by_name):
        say(f"{silent} of {len(records)} images are not in {config.file}: nothing was found in them")
    # where neither table has more than one class, the labels and they may call it otherwise
    alone = len({box.name for each in by_name.values() for box in each.boxes}) == 1
    found, strays = [], []
    for record, volume in zip(records, volumes, strict=True):
        entry = by_name.get(record.relative)
        boxes = of_image(entry, record, volume, names, config.file, alone=alone)
        found.append(boxes)
        if entry and (error := misplaced(entry, record, volume, boxes)):
            strays.append((record.relative, error))
    tell_of_strays(strays, sum(map(len, found)), config.file)
    return found


def misplaced(found: TableImage, record: Record, volume: CachedVolume, boxes: Boxes) -> MisplacedError | None:
    """Why boxes lie outside of their image; the image is read only where some leave the cached one."""
    if inside(boxes, volume.shape).all():
        return None
    try:
        placed(as_listed(found), decode_flat(record), KEYS)
    except MisplacedError as error:
        return error
    return None  # the cache holds a part of the image


def tell_of_strays(strays: Sequence[tuple[str, MisplacedError]], total: int, file: str) -> None:
    """Say how many boxes lie outside of their image.

    Raises:
        FoveateError: all of them do.
    """
    if not strays:
        return
    outside = sum(error.outside for _, error in strays)
    relative, worst = max(strays, key=lambda each: each[1].outside)
    said = (
        f"{file}: {outside} of {total} boxes lie outside of their image, in {len(strays)} images; of "
        f"{relative}: {worst}"
    )
    if outside == total:
        raise FoveateError(f"{said}.")
    say(said)


def of_image(
    found: TableImage | None,
    record: Record,
    volume: CachedVolume,
    names: Sequence[str],
    file: str,
    *,
    alone: bool,
) -> Boxes:
    """The boxes of one image; `alone`: the table has one class."""
    axes = len(volume.shape)
    if found is None or not found.boxes:
        return Boxes.of([], [], axes=axes)
    if any(len(box.centre) != axes for box in found.boxes):
        raise FoveateError(
            f"{file}: a box of {found.image} has not {axes} coordinates, as the image has axes."
        )
    scores = [box.score for box in found.boxes if box.score is not None]
    if len(scores) < len(found.boxes):
        raise FoveateError(
            f"{file}: a box of {found.image} has no score; accepted for boxes that a detector has found: a "
            f"column or field {' or '.join(SCORES)}."
        )
    listed = as_listed(found)
    table = np.reshape(listed.rows, (len(listed.rows), -1))
    own = in_world(table, listed, axes, lambda: decode_flat(record))
    kinds = [class_of(box.name, names, file, alone=alone) for box in found.boxes]
    world = Boxes.of(own.centre, own.size, kinds, scores, axes=axes)
    return in_voxels(world, volume.affine)


def as_listed(found: TableImage) -> Listed:
    """The boxes of an image as those of labels are, which have a class beside them."""
    rows = tuple((0.0, *box.centre, *box.size) for box in found.boxes)
    return Listed(unit=found.unit, frame=found.frame, rows=rows)


def class_of(name: str, names: Sequence[str], file: str, *, alone: bool) -> int:
    """The number of a class; where there is one class only on either side, one of them need not name it."""
    if name in names:
        return names.index(name)
    if alone and len(names) == 1 and UNNAMED in (name, names[0]):
        return 0
    raise FoveateError(f"{file}: class {name!r}; accepted: {', '.join(names)}, as in the labels.")
