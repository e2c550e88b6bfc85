"""Images with the boxes that a table lists."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from foveate.core.boxes.tasks import instance_of
from foveate.core.plugins import SourceConfig
from foveate.core.types import FoveateError, Record
from foveate.data.boxes.listing import IGNORE, Listed
from foveate.data.boxes.tables import BoxesConfig, TableImage, read_boxes, table_of
from foveate.data.catalogue import build_source
from foveate.data.cohort.patients import with_patients
from foveate.data.cohort.wanted import MAP, Labelled, Want, lacking
from foveate.data.layouts import split_of
from foveate.data.readers.suffixes import suffix_of

MOST = 2**15 - 1  # the largest instance number of a map


def table_for(
    source: SourceConfig, data: Path, want: Want, config: BoxesConfig, *, other: bool
) -> Path | None:
    """The table of boxes that labels are read from; None where they are something else.

    `other`: whether pairs or structures are asked for. What is said of a table that cannot be is refused.
    """
    if want == "boxes" and source.name == "folder" and not other:
        return table_of(data, config)
    if config != BoxesConfig():
        raise FoveateError(
            "--boxes.*: accepted for tasks whose answers are boxes, with --source folder and without --pairs "
            "and --structures."
        )
    return None


def from_boxes(
    source: SourceConfig, data: Path, table: Path, config: BoxesConfig, *, patient_pattern: str = ""
) -> Labelled:
    """The images that a table of boxes lists, those without any box included.

    Raises:
        FoveateError: the table cannot be read, or names an image that is not there.
    """
    root = data if data.is_dir() else data.parent
    images = [record for record in build_source(source).records(root) if record.role == "image"]
    by_name, listed = named(images), read_boxes(table, config)
    classes = classes_in(listed)
    found = [labelled(image_of(each, by_name, table), each, classes, table) for each in listed]
    kinds = [name for name in classes if name != IGNORE]
    without = lacking(images, found)
    counts = Counter(box.name for each in listed for box in each.boxes)
    said = ", ".join(f"{counts[name]} {name}" for name in classes) or "no box"
    known = with_patients(found, root, own=table.name, pattern=patient_pattern)
    return Labelled(
        records=known.records,
        without=without,
        layout=f"boxes of {table.name}: {said} in {len(found)} images",
        classes=tuple(f"{name}={classes[name]}" for name in kinds),
        ignore=tuple(classes[name] for name in classes if name == IGNORE),
        notes=known.notes,
        named_by=table.name,
        patients=known.sentence,
        instances=max(1, len(classes)),
    )


def classes_in(listed: Iterable[TableImage]) -> dict[str, int]:
    """Class -> its value, from 1 on; what is ignored comes last."""
    names = sorted({box.name for each in listed for box in each.boxes} - {IGNORE})
    ignored = [IGNORE] * any(box.name == IGNORE for each in listed for box in each.boxes)
    return {name: value for value, name in enumerate([*names, *ignored], 1)}


def labelled(record: Record, image: TableImage, classes: Mapping[str, int], table: Path) -> Record:
    """An image with what its map is painted from."""
    most = MOST // max(1, len(classes))
    if len(image.boxes) > most:
        raise FoveateError(
            f"{table}: {image.image} has {len(image.boxes)} boxes; accepted: up to {most} of {len(classes)} "
            "classes in one image."
        )
    rows = tuple(
        (float(instance_of(number, classes[box.name], len(classes))), *box.centre, *box.size)
        for number, box in enumerate(image.boxes)
    )
    return replace(
        record,
        maps={MAP: table},
        labels=Listed(unit=image.unit, frame=image.frame, rows=rows).as_label(),
        patient=image.patient or record.patient,
        split=split_of(image.split, str(table)) or record.split,
    )


def named(images: Sequence[Record]) -> dict[str, list[Record]]:
    """Images by relative path, by name, by name without suffix, and series of slices by their folder."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in images:
        pure = PurePosixPath(record.relative)
        names = {record.relative, pure.name, pure.name.removesuffix(suffix_of(record.path))}
        if record.files:
            names |= {str(pure.parent), pure.parent.name}
        for name in names:
            found[name].append(record)
    return found


def image_of(image: TableImage, by_name: Mapping[str, list[Record]], table: Path) -> Record:
    """The one image that is meant."""
    found = by_name.get(image.image) or by_name.get(PurePosixPath(image.image).name) or []
    if len(found) != 1:
        what = "there is no such image" if not found else f"{len(found)} images have that name"
        raise FoveateError(f"{table} names {image.image!r}: {what} in the data.")
    return found[0]
