"""Images with their labels, however they are laid out: folders, a table, or a list in JSON.

`images/` beside `labels/` or `masks/` with equal stems (also nnU-Net's `_0000`, `imagesTr` and `labelsTr`), a
CSV or `labels.csv` in the folder, `dataset.json` of nnU-Net and the Decathlon, MONAI's lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from foveate.core.contracts import Source
from foveate.core.labels import LABELS
from foveate.core.plugins import SourceConfig
from foveate.core.types import FoveateError, Json, Record
from foveate.data.boxes.listing import BOXES
from foveate.data.catalogue import build_source
from foveate.data.cohort.pairs import EXAMPLE, Paired, by_pattern, by_stem
from foveate.data.cohort.patients import Known, with_patients
from foveate.data.cohort.wanted import Labelled, Want, lacking, refuse_contradictions
from foveate.data.layouts import (
    IGNORE,
    Layout,
    as_words,
    foreground,
    named_values,
    read_json,
    split_of as split_word,
)
from foveate.data.listed_files import Files
from foveate.data.readers.suffixes import suffix_of
from foveate.data.roles.channels import channel_notes
from foveate.data.roles.names import LABEL_FOLDER
from foveate.data.sources.folder import FolderSource
from foveate.data.tables import IMAGE_COLUMNS, PATIENT_COLUMNS, column_of, patient_word, read_table

MAP_COLUMNS = ("label", "labels", "label_path", "mask", "mask_path", "seg", "segmentation")
IMAGE_FOLDER = re.compile(r"(images?|imgs?|scans?)([-_ ]?(tr|ts|va))?")
MARK = re.compile(r"[-_. +]?(segmentations?|segs?|masks?|labels?|labelmap|gt|roi)$")
CHANNEL = re.compile(r"_(\d{4})$")
WHOLE, SINGLE = FolderSource(), FolderSource("separate")  # the files of a case as one image, or each
LISTS = ("training", "train", "validation", "val", "test", "testing")


def read_labelled(
    data: Path,
    want: Want,
    *,
    pairs: str = "",
    patient_pattern: str = "",
    source: FolderSource = WHOLE,
) -> Labelled:
    """Every labelled image below or in `data`; boxes are made from label maps here.

    Args:
        data: A folder, a table or a list.
        want: What counts as a label.
        pairs: `--pairs`: how an image and its label map are named.
        patient_pattern: `--patient_pattern`: what of a path names the patient.
        source: How the files of a folder are listed.

    Raises:
        FoveateError: nothing is labelled, the layout contradicts itself, or two sources of patients do.
    """
    if pairs and not data.is_dir():
        raise FoveateError(f"--pairs {pairs} needs a folder of files as --data; {data} is none.")
    want = "maps" if want == "boxes" else want
    found = from_folder(data, want, SINGLE, pairs) if pairs else reader_of(data, want)(data, want, source)
    refuse_contradictions(found.records, data)
    if not found.records:
        kind = "label map" if want == "maps" else "value"
        raise FoveateError(
            f"--data {data}: {found.unlabelled} images were found ({found.layout}), none with a "
            f"{kind}; accepted: images/ beside labels/ or masks/ with equal stems, a CSV with the "
            "columns image and label, labels.csv, dataset.json, a MONAI list, or one family of images and "
            f"one of label maps with equal stems, such as {EXAMPLE}."
        )
    known = with_patients(found.records, data, own=found.named_by, pattern=patient_pattern)
    notes = (*found.notes, *channel_notes(found.records), *known.notes)
    return replace(found, records=known.records, notes=notes, patients=known.sentence)


def from_source(source: Source, data: Path, want: Want, *, patient_pattern: str = "") -> Labelled:
    """The labelled images of a named layout; where it keeps a test only, the others are for training."""
    images = [record for record in source.records(data) if record.role == "image"]
    listed = want == "boxes" and any(BOXES in record.labels for record in images)
    if listed:
        boxed = [record for record in images if BOXES in record.labels]
        found = [replace(r, maps={LABELS: r.path}, labels={BOXES: r.labels[BOXES]}) for r in boxed]
    elif want != "values":
        found = [replace(r, maps={LABELS: r.maps[LABELS]}, labels={}) for r in images if LABELS in r.maps]
    else:
        found = [replace(r, maps={}) for r in images if r.labels]
    if any(record.split for record in found):
        found = [replace(record, split=record.split or "train") for record in found]
    if not found:
        kind = "value" if want == "values" else "label map"
        raise FoveateError(f"--data {data}: none of its {len(images)} images has a {kind}.")
    layout = source if isinstance(source, Layout) else None
    known = patients_of_source(found, source, data, patient_pattern)
    return Labelled(
        records=known.records,
        notes=known.notes,
        patients=known.sentence,
        without=lacking(images, found),
        layout=layout.name if layout else "another package's layout",
        classes=as_words(layout.classes(data)) if layout else (),
        ignore=layout.ignored(data) if layout else (),
        instances=len(layout.classes(data)) + len(layout.ignored(data)) if layout and listed else 0,
    )


def patients_of_source(records: Iterable[Record], source: Source, data: Path, pattern: str = "") -> Known:
    """The images of a source with their patients."""
    if isinstance(source, Layout):
        own, cases = f"--source {source.name}", source.case_is_patient
        return with_patients(records, data, own=own, cases=cases, beside=cases, pattern=pattern)
    if isinstance(source, FolderSource):
        return with_patients(records, data, pattern=pattern)
    return with_patients(records, data, own="--source", beside=False, pattern=pattern)


def reader_of(data: Path, want: Want) -> Callable[[Path, Want, FolderSource], Labelled]:
    """The function that reads this layout."""
    if not data.exists():
        raise FoveateError(f"--data {data} does not exist; accepted: a folder, a .csv or a .json.")
    if data.suffix.lower() == ".json" or (data / "dataset.json").is_file():
        return from_json
    if data.suffix.lower() == ".csv" or (want == "values" and (data / "labels.csv").is_file()):
        return from_table
    return from_folder


def from_folder(data: Path, want: Want, source: FolderSource, pairs: str = "") -> Labelled:
    """Images and label maps whose names agree: as `pairs` says, as is usual, or by common stems."""
    records = [r for r in source.records(data) if r.role in ("image", "label")]
    if pairs:
        return _in_one_folder(by_pattern(records, pairs, data), records)
    found = by_usual_names(records)
    if found.records or want == "values":
        return found
    paired = by_stem(records, data)
    return _in_one_folder(paired, records) if paired.pairs else found


def joined(paired: Paired) -> tuple[Record, ...]:
    """Images with the maps that they are paired with."""
    return tuple(replace(image, role="image", maps={LABELS: label.path}) for image, label in paired.pairs)


def _in_one_folder(paired: Paired, records: Sequence[Record]) -> Labelled:
    """The paired images, and how many images were not paired."""
    images = [r for r in records if r.role == "image" and r.relative not in paired.labels]
    found = joined(paired)
    return Labelled(
        records=tuple(replace(r, split=r.split or split_of(r.relative)) for r in found),
        without=lacking(images, found),
        layout=f"{len(found)} pairs of files with equal stems",
        notes=paired.notes,
    )


def with_pairs(records: Sequence[Record], data: Path, pairs: str) -> Paired:
    """Images with the label maps that lie among them in one folder; usual names were told apart before."""
    candidates = [record for record in records if record.role in ("image", "label")]
    if pairs:
        return by_pattern(candidates, pairs, data)
    keys = {role: {pair_key(r) for r in candidates if r.role == role} for role in ("image", "label")}
    if keys["image"] & keys["label"]:
        return Paired(pairs=(), labels=frozenset())
    return by_stem(candidates, data)


def by_usual_names(records: Sequence[Record]) -> Labelled:
    """Folders `images` and `labels`, or names that end in `seg` and the like."""
    maps = by_key(record for record in records if record.role == "label")
    images = by_key(record for record in records if record.role == "image")
    pairs = [
        replace(image, maps={LABELS: maps[key].path}, split=image.split or split_of(image.relative))
        for key, image in images.items()
        if key in maps
    ]
    layout = f"{len(images)} images and {len(maps)} label maps in folders"
    return Labelled(records=tuple(pairs), without=lacking(images.values(), pairs), layout=layout)


def by_key(records: Iterable[Record]) -> dict[str, Record]:
    """Records by `pair_key`; two records with one key are refused."""
    keyed: dict[str, Record] = {}
    for record in records:
        key = pair_key(record)
        if key in keyed:
            raise FoveateError(
                f"{keyed[key].relative} and {record.relative} both belong to case {key!r}; accepted: one "
                "image and one label map for every case; say which with "
                f"{EXAMPLE}."
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
    """The part of a split that `imagesTr`, `imagesVa` or `imagesTs` in a path means; "" without one."""
    matches = (IMAGE_FOLDER.fullmatch(part.lower()) for part in PurePosixPath(relative).parts[:-1])
    return next((split_word(m[3], relative) for m in matches if m and m[3]), "")


def from_table(data: Path, want: Want, _source: FolderSource) -> Labelled:
    """A CSV with a column of images; the others are labels, the patient and the split."""
    path = data / "labels.csv" if data.is_dir() else data
    rows = list(read_table(path, ()))
    columns = list(rows[0]) if rows else []
    image = column_of(columns, IMAGE_COLUMNS)
    mask = column_of(columns, MAP_COLUMNS) if want == "maps" else ""
    if not image or (want == "maps" and not mask):
        wanted = IMAGE_COLUMNS if not image else MAP_COLUMNS
        raise FoveateError(f"{path} has the columns {columns}; one of {', '.join(wanted)} is needed.")
    files = Files(path.parent, SINGLE.records)
    patient = column_of(columns, PATIENT_COLUMNS)
    records = [
        Record(
            path=(found := files.find(row[image], path)),
            relative=files.relative(found),
            patient=row[patient] if patient else "",
            split=split_word(row.get("split", ""), str(path)),
            maps={LABELS: files.find(row[mask], path)} if mask and row[mask] else {},
            labels={} if mask else {k: v for k, v in row.items() if k not in (image, patient, "split")},
        )
        for row in rows
    ]
    labelled = [record for record in records if not mask or record.maps]
    return Labelled(
        records=tuple(labelled),
        without=lacking(records, labelled),
        layout=f"table {path.name}",
        named_by=path.name,
    )


def from_json(data: Path, want: Want, source: FolderSource) -> Labelled:
    """nnU-Net's and the Decathlon's dataset.json, and MONAI's lists."""
    path = data if data.suffix.lower() == ".json" else data / "dataset.json"
    content = read_json(path)
    classes, ignore = declared(content.get("labels"), path) if want == "maps" else ((), ())
    lists = {key: content[key] for key in LISTS if isinstance(content.get(key), list)}
    if not lists:
        found = from_folder(path.parent, want, source)
        return replace(found, classes=classes, ignore=ignore, layout=path.name)
    files = Files(path.parent, SINGLE.records)
    entries = [(split_word(key, str(path)), entry) for key, items in lists.items() for entry in items]
    records = [record_of(entry, split, files, path, want) for split, entry in entries]
    labelled = [r for r in records if (r.maps if want == "maps" else r.labels)]
    split = {r.split for r in labelled} - {"train"}  # a single list is no split
    kept = labelled if split else [replace(r, split="") for r in labelled]
    return Labelled(
        records=tuple(kept),
        without=lacking(records, labelled),
        layout=f"list {path.name}",
        named_by=path.name,
        classes=classes,
        ignore=ignore,
    )


def record_of(entry: Json, split: str, files: Files, source: Path, want: Want) -> Record:
    """One entry of a list."""
    values: Mapping[str, Json] = entry if isinstance(entry, dict) else {"image": entry}
    named = values.get("image")
    listed = named if isinstance(named, list) else [named]
    images = [each for each in listed if isinstance(each, str)]
    if not images or len(images) < len(listed):
        raise FoveateError(
            f"{source}: the image of {str(entry)[:80]!r} is {str(named)[:80]!r}; accepted: a path, or a list "
            "of the paths of its channels."
        )
    found, *others = (files.find(each, source) for each in images)
    patient = column_of(list(values), PATIENT_COLUMNS)
    label = values.get("label")
    maps = {LABELS: files.find(label, source)} if want == "maps" and isinstance(label, str) else {}
    rest = (
        {k: v for k, v in values.items() if k not in ("image", patient, "fold")} if want == "values" else {}
    )
    return Record(
        path=found,
        relative=files.relative(found),
        channels=(found, *others) if others else (),
        patient=patient_word(values.get(patient)),
        split=split,
        maps=maps,
        labels=rest,
    )


def declared(labels: Json, path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Classes and ignored values of {"0": "background", "1": "x"} or {"x": [1, 2], "ignore": 3}.

    >>> declared({"background": 0, "whole": [1, 2], "core": 2, "ignore": 9}, Path("d.json"))
    (('whole=1+2', 'core=2'), (9,))
    """
    if not isinstance(labels, dict):
        return (), ()
    named = named_values(labels, path)
    return as_words(foreground(named)), named.get(IGNORE, ())


def labelled_images(
    source: SourceConfig,
    data: Path,
    want: Want,
    *,
    pairs: str = "",
    patient_pattern: str = "",
) -> Labelled:
    """The labelled images of a data set as its source reads them; `folder` also finds pairs and tables."""
    if source.name == "folder":
        reader = build_source(source)
        folder = reader if isinstance(reader, FolderSource) else WHOLE
        return read_labelled(data, want, pairs=pairs, patient_pattern=patient_pattern, source=folder)
    if pairs:
        raise FoveateError(
            f"--pairs belongs to --source folder; {source.name} says itself what belongs together."
        )
    return from_source(build_source(source), data, want, patient_pattern=patient_pattern)
