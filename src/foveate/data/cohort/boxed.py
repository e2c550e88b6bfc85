"""Images with the boxes that a table lists."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from foveate.core.boxes.tasks import instance_of
from foveate.core.labels import LABELS
from foveate.core.plugins import SourceConfig
from foveate.core.types import FoveateError, Record
from foveate.data.boxes.listing import IGNORE, Listed
from foveate.data.boxes.tables import BoxesConfig, TableImage, read_boxes, table_of
from foveate.data.catalogue import build_source
from foveate.data.cohort.patients import with_patients
from foveate.data.cohort.wanted import Labelled, Want, lacking
from foveate.data.layouts import split_of
from foveate.data.readers.suffixes import suffix_of

Names = Mapping[str, Sequence[Record]]

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
    listed = read_boxes(table, config)
    pairs = paired(listed, images, table)
    if strange := next((each.image for each, record in pairs if record is None), None):
        raise FoveateError(f"{table} names {strange!r}: there is no such image in the data.")
    classes = classes_in(listed)
    found = [labelled(record, each, classes, table) for each, record in pairs if record]
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
        maps={LABELS: table},
        labels=Listed(unit=image.unit, frame=image.frame, rows=rows).as_label(),
        patient=image.patient or record.patient,
        split=split_of(image.split, str(table)) or record.split,
    )


def paired(
    listed: Sequence[TableImage], images: Sequence[Record], table: Path
) -> list[tuple[TableImage, Record | None]]:
    """The entries of a table with the image that each means; None where there is no such image.

    Raises:
        FoveateError: several images have a name, or two entries mean one image.
    """
    names = names_of(images)
    known: dict[str, str] = {}
    pairs: list[tuple[TableImage, Record | None]] = []
    for each in listed:
        found = meant(each.image, names)
        if len(found) > 1:
            raise FoveateError(
                f"{table} names {each.image!r}: {len(found)} images have that name in the data; accepted: "
                "their paths below it."
            )
        record = found[0] if found else None
        if record and known.setdefault(record.relative, each.image) != each.image:
            raise FoveateError(
                f"{table} names {known[record.relative]!r} and {each.image!r}, which are the same image; "
                "accepted: one name in all of its entries."
            )
        pairs.append((each, record))
    return pairs


def names_of(images: Sequence[Record]) -> tuple[Names, Names, Names]:
    """Images by relative path; by that without suffix, of a series of slices its folder; by bare names."""
    whole, short, bare = (defaultdict[str, list[Record]](list) for _ in range(3))
    for record in images:
        pure = PurePosixPath(record.relative)
        suffix = suffix_of(record.path)
        whole[record.relative].append(record)
        shorter = {record.relative.removesuffix(suffix)}
        names = {pure.name, pure.name.removesuffix(suffix)}
        if record.files:
            shorter.add(str(pure.parent))
            names.add(pure.parent.name)
        for kind, spelled in ((short, shorter), (bare, names)):
            for name in spelled:
                kind[name].append(record)
    return whole, short, bare


def meant(image: str, names: tuple[Names, Names, Names]) -> Sequence[Record]:
    """The images that a name may mean: a bare name counts only where the table names no folder.

    An absolute path is another computer's perhaps: it means the image whose path below the data it ends with.
    """
    whole, short, bare = names
    path = PurePosixPath(image)
    parts = path.parts
    starts = range(1, len(parts)) if path.is_absolute() else range(1)
    for start in starts:
        tail = "/".join(parts[start:])
        if found := whole.get(tail) or short.get(tail):
            return found
    return bare.get(str(path), []) if len(parts) == 1 else []
