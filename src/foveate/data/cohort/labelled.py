"""Images with their labels, however they are laid out: folders, a table, or a list in JSON.

`images/` beside `labels/` or `masks/` with equal stems (also nnU-Net's `_0000`, `imagesTr` and `labelsTr`), a
CSV or `labels.csv` in the folder, `dataset.json` of nnU-Net and the Decathlon, MONAI's lists. What is
found is a `Record` for every labelled image; an image without a label is counted and left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from foveate.core.contracts import Source
from foveate.core.types import FoveateError, Record
from foveate.data.layouts import (
    IGNORE,
    PATIENT_COLUMNS,
    Classes,
    Layout,
    column_of,
    foreground,
    named_values,
    read_json,
    read_table,
    split_of as split_word,
)
from foveate.data.names import LABEL_FOLDER
from foveate.data.readers.formats import suffix_of
from foveate.data.sources.folder import FolderSource

Want = Literal["maps", "values"]  # a label for every voxel, or for whole images
MAP = "labels"
IMAGE_COLUMNS = ("image", "image_path", "image_file", "file", "filename", "file_name", "path", "name")
MAP_COLUMNS = ("label", "labels", "label_path", "mask", "mask_path", "seg", "segmentation")
IMAGE_FOLDER = re.compile(r"(images?|imgs?|scans?)([-_ ]?(tr|ts|va))?")
MARK = re.compile(r"[-_. +]?(segmentations?|segs?|masks?|labels?|labelmap|gt|roi)$")
CHANNEL = re.compile(r"_(\d{4})$")
LISTS = ("training", "train", "validation", "val", "test", "testing")


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The labelled images of a data set."""

    records: tuple[Record, ...]
    unlabelled: int = 0
    layout: str  # for people
    classes: tuple[str, ...] = ()  # "name=value+value" where the source declares them
    ignore: tuple[int, ...] = ()


def read_labelled(data: Path, want: Want) -> Labelled:
    """Every labelled image below or in `data`.

    Raises:
        FoveateError: nothing is labelled, or the layout contradicts itself.
    """
    found = reader_of(data, want)(data, want)
    _refuse_contradictions(found.records, data)
    if not found.records:
        kind = "label map" if want == "maps" else "value"
        raise FoveateError(
            f"--data {data}: {found.unlabelled} images were found ({found.layout}), none with a "
            f"{kind}; accepted: images/ beside labels/ or masks/ with equal stems, a CSV with the "
            "columns image and label, labels.csv, dataset.json, or a MONAI list."
        )
    return found


def from_source(source: Source, data: Path, want: Want) -> Labelled:
    """The labelled images of a named layout; where it keeps a test only, the others are for training."""
    images = [record for record in source.records(data) if record.role == "image"]
    if want == "maps":
        found = [replace(r, maps={MAP: r.maps[MAP]}, labels={}) for r in images if MAP in r.maps]
    else:
        found = [replace(r, maps={}) for r in images if r.labels]
    if any(record.split for record in found):
        found = [replace(record, split=record.split or "train") for record in found]
    if not found:
        kind = "label map" if want == "maps" else "value"
        raise FoveateError(f"--data {data}: none of its {len(images)} images has a {kind}.")
    layout = source if isinstance(source, Layout) else None
    return Labelled(
        records=tuple(found),
        unlabelled=len(images) - len(found),
        layout=layout.name if layout else "another package's layout",
        classes=as_words(layout.classes(data)) if layout else (),
        ignore=layout.ignored(data) if layout else (),
    )


def reader_of(data: Path, want: Want) -> Callable[[Path, Want], Labelled]:
    """What reads this layout."""
    if not data.exists():
        raise FoveateError(f"--data {data} does not exist; accepted: a folder, a .csv or a .json.")
    if data.suffix.lower() == ".json" or (data / "dataset.json").is_file():
        return from_json
    if data.suffix.lower() == ".csv" or (want == "values" and (data / "labels.csv").is_file()):
        return from_table
    return from_folder


def from_folder(data: Path, want: Want, pattern: str = "") -> Labelled:  # noqa: ARG001
    """Images and label maps whose names agree."""
    records = list(FolderSource().records(data))
    maps = by_key(record for record in records if record.role == "label")
    images = by_key(record for record in records if record.role == "image")
    pairs = [
        replace(image, maps={MAP: maps[key].path}, split=image.split or split_of(image.relative))
        for key, image in images.items()
        if key in maps
    ]
    layout = f"{len(images)} images and {len(maps)} label maps in folders"
    return Labelled(records=tuple(pairs), unlabelled=len(images) - len(pairs), layout=layout)


def by_key(records: Iterable[Record]) -> dict[str, Record]:
    """Records by what an image and its label have in common; two of the same are refused."""
    keyed: dict[str, Record] = {}
    for record in records:
        key = pair_key(record)
        if key in keyed:
            raise FoveateError(
                f"{keyed[key].relative} and {record.relative} both belong to case {key!r}; accepted: one "
                "image with one channel and one label map for every case."
            )
        keyed[key] = record
    return keyed


def pair_key(record: Record) -> str:
    """The path without what distinguishes an image from its label.

    >>> pair_key(Record(path=Path("x"), relative="imagesTr/a_0000.nii.gz"))
    'Tr/a'
    >>> pair_key(Record(path=Path("x"), relative="labelsTr/a.nii.gz", role="label"))
    'Tr/a'
    """
    pure = PurePosixPath(record.relative)
    stem = pure.name[: len(pure.name) - len(suffix_of(Path(pure.name)))]
    folders = []
    for folder in pure.parts[:-1]:
        match = (LABEL_FOLDER if record.role == "label" else IMAGE_FOLDER).fullmatch(folder.lower())
        folders.append(folder if match is None else folder[-2:] if match.groups()[-1] else "")
    stem = MARK.sub("", stem, count=1) if record.role == "label" else CHANNEL.sub("", stem)
    return "/".join([part for part in folders if part] + [stem])


def split_of(relative: str) -> str:
    """What `imagesTr`, `imagesVa` and `imagesTs` say."""
    matches = (IMAGE_FOLDER.fullmatch(part.lower()) for part in PurePosixPath(relative).parts[:-1])
    return next((split_word(m[3], relative) for m in matches if m and m[3]), "")


def from_table(data: Path, want: Want) -> Labelled:
    """A CSV with a column of images; the others are labels, the patient and the split."""
    path = data / "labels.csv" if data.is_dir() else data
    rows = list(read_table(path, ()))
    columns = list(rows[0]) if rows else []
    image = column_of(columns, IMAGE_COLUMNS)
    mask = column_of(columns, MAP_COLUMNS) if want == "maps" else ""
    if not image or (want == "maps" and not mask):
        wanted = IMAGE_COLUMNS if not image else MAP_COLUMNS
        raise FoveateError(f"{path} has the columns {columns}; one of {', '.join(wanted)} is needed.")
    files = Files(path.parent)
    patient = column_of(columns, PATIENT_COLUMNS)
    records = [
        Record(
            path=(found := files.find(row[image], path)),
            relative=files.relative(found),
            patient=row[patient] if patient else "",
            split=split_word(row.get("split", ""), str(path)),
            maps={MAP: files.find(row[mask], path)} if mask and row[mask] else {},
            labels={} if mask else {k: v for k, v in row.items() if k not in (image, patient, "split")},
        )
        for row in rows
    ]
    labelled = [record for record in records if not mask or record.maps]
    return Labelled(
        records=tuple(labelled), unlabelled=len(records) - len(labelled), layout=f"table {path.name}"
    )


def _refuse_contradictions(records: Iterable[Record], data: Path) -> None:
    """An image that is listed twice must be said to be the same twice."""
    known: dict[str, Record] = {}
    for record in records:
        first = known.setdefault(record.relative, record)
        if (first.labels, first.maps, first.patient, first.split) != (
            record.labels,
            record.maps,
            record.patient,
            record.split,
        ):
            raise FoveateError(
                f"--data {data}: {record.relative} is listed twice with {_difference(first, record)}; "
                "accepted: once, or twice the same."
            )


def _difference(one: Record, other: Record) -> str:
    """Which fields differ; no patient's name reaches a message."""
    columns = {**one.labels, **other.labels}
    differing = [name for name in columns if one.labels.get(name) != other.labels.get(name)]
    fields = ("maps", "patient", "split")
    differing += [name for name in fields if getattr(one, name) != getattr(other, name)]
    return "different " + ", ".join(differing)


class Files:
    """Finds the files that a list names: by path below the folder, by name, by name without suffix."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_name: dict[str, list[Path]] = {}

    def find(self, name: str, source: Path) -> Path:
        """The one file that is meant."""
        direct = self.root / name
        if direct.is_file():
            return direct
        if not self.by_name:
            self.index()
        found = self.by_name.get(PurePosixPath(name).name, [])
        if len(found) != 1:
            what = "there is no such file" if not found else f"{len(found)} files have that name"
            raise FoveateError(f"{source} names {name!r}: {what} below {self.root}.")
        return found[0]

    def index(self) -> None:
        """Images by name and by stem."""
        for record in FolderSource().records(self.root):
            name = record.path.name
            for key in {name, name[: len(name) - len(suffix_of(record.path))]}:
                if record.role == "image":
                    self.by_name.setdefault(key, []).append(record.path)

    def relative(self, path: Path) -> str:
        """Below the folder where it is, else in full."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()


def from_json(data: Path, want: Want) -> Labelled:
    """nnU-Net's and the Decathlon's dataset.json, and MONAI's lists."""
    path = data if data.suffix.lower() == ".json" else data / "dataset.json"
    content = read_json(path)
    classes, ignore = declared(content.get("labels"), path) if want == "maps" else ((), ())
    lists = {key: content[key] for key in LISTS if isinstance(content.get(key), list)}
    if not lists:
        return replace(from_folder(path.parent, want), classes=classes, ignore=ignore, layout=path.name)
    files = Files(path.parent)
    entries = [(split_word(key, str(path)), entry) for key, items in lists.items() for entry in items]
    records = [record_of(entry, split, files, path, want) for split, entry in entries]
    labelled = [r for r in records if (r.maps if want == "maps" else r.labels)]
    split = {r.split for r in labelled} - {"train"}  # a single list is no split
    kept = labelled if split else [replace(r, split="") for r in labelled]
    return Labelled(
        records=tuple(kept),
        unlabelled=len(records) - len(labelled),
        layout=f"list {path.name}",
        classes=classes,
        ignore=ignore,
    )


def record_of(entry: object, split: str, files: Files, source: Path, want: Want) -> Record:
    """One entry of a list."""
    values: Mapping[str, Any] = entry if isinstance(entry, dict) else {"image": entry}
    named = values.get("image")
    images = named if isinstance(named, list) else [named]
    if len(images) != 1 or not isinstance(images[0], str):
        raise FoveateError(
            f"{source}: the entry {str(entry)[:80]!r} names {len(images)} images; accepted: one."
        )
    found = files.find(images[0], source)
    label = values.get("label")
    maps = {MAP: files.find(label, source)} if want == "maps" and isinstance(label, str) else {}
    rest = (
        {k: v for k, v in values.items() if k not in ("image", "patient", "fold")} if want == "values" else {}
    )
    return Record(
        path=found,
        relative=files.relative(found),
        patient=str(values.get("patient", "")),
        split=split,
        maps=maps,
        labels=rest,
    )


def declared(labels: object, path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Classes and ignored values of {"0": "background", "1": "x"} or {"x": [1, 2], "ignore": 3}.

    >>> declared({"background": 0, "whole": [1, 2], "core": 2, "ignore": 9}, Path("d.json"))
    (('whole=1+2', 'core=2'), (9,))
    """
    if not isinstance(labels, dict):
        return (), ()
    named = named_values(labels, path)
    return as_words(foreground(named)), named.get(IGNORE, ())


def as_words(classes: Classes) -> tuple[str, ...]:
    """Targets as the task's configuration writes them."""
    return tuple(f"{name}={'+'.join(map(str, values))}" for name, values in classes.items())
