"""A MONAI datalist: a JSON file with lists of images and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.labels import LABELS
from foveate.core.types import Json, Record
from foveate.data.image_files import existing
from foveate.data.layouts import (
    Classes,
    Layout,
    Missing,
    WrongLayoutError,
    case,
    named_values,
    read_json,
    wrong_field,
)
from foveate.data.readers.suffixes import SUFFIXES, suffix_of
from foveate.data.tables import PATIENT_COLUMNS, column_of, patient_word

TREE = """
FOLDER/dataset.json          (or the path of any .json file as --data)
  {"training":   [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz", "fold": 0}, ...],
   "validation": [...],
   "test":       [...]}      ("testing" too); several images of one entry are its channels
"""
KEYS = {"training": "train", "validation": "val", "test": "test", "testing": "test"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The fields of an entry.

    Attributes:
        name: monai_datalist.
        file: File name of the list, where --data is a folder.
        image: The field with the path of the image, or the paths of its channels.
        label: The field with the path of the label map, or with a value of the whole image.
        fold: Entries of `training` with this `fold` are for validation; -1: none.
        missing: `skip` goes on without the entries whose files are not there.
    """

    name: Literal["monai_datalist"] = "monai_datalist"
    file: str = "dataset.json"
    image: str = "image"
    label: str = "label"
    fold: int = -1
    missing: Missing = "refuse"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=lambda root: cases(root, config), targets=classes)


def recognises(root: Path) -> bool:
    """Whether dataset.json lists training images and is not the Decathlon's."""
    path = root / Config.file
    about = read_json(path) if path.is_file() else {}
    return isinstance(about.get("training"), list) and "modality" not in about


def _file(root: Path, name: str = Config.file) -> Path:
    path = root / name if root.is_dir() else root
    if path.suffix != ".json" or not path.is_file():
        raise WrongLayoutError(f"{name} is missing")
    return path


def classes(root: Path) -> Classes:
    """The targets of `labels`, where the list has them."""
    path = _file(root)
    labels = read_json(path).get("labels", {})
    return named_values(labels, path) if isinstance(labels, dict) else {}


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per entry."""
    path = _file(root, config.file)
    about = read_json(path)
    if not set(KEYS) & set(about):
        raise WrongLayoutError(f"{path.name} has none of the fields {', '.join(KEYS)}")
    records = (_case(root, path, entry, key, config) for key in KEYS if key in about for entry in about[key])
    yield from existing(records, config.missing, str(path))


def _case(root: Path, path: Path, entry: Json, key: str, config: Config) -> Record:
    fields = {config.image: entry} if isinstance(entry, str) else entry
    if not isinstance(fields, Mapping):
        wrong_field(path, f"{key}[]", entry, "a path, or an object with fields")
    image = fields.get(config.image)
    names = image if isinstance(image, list) else [image]
    files = tuple(path.parent / name for name in names if isinstance(name, str))
    if not files or len(files) < len(names):
        wrong_field(path, f"{key}[].{config.image}", image, "a path, or a list of paths")
    held_out = key == "training" and config.fold >= 0 and fields.get("fold") == config.fold
    label = fields.get(config.label)
    is_map = isinstance(label, str) and suffix_of(Path(label)) in SUFFIXES
    return case(
        root,
        files[0],
        channels=files if len(files) > 1 else (),
        evidence=f"{key} of {path.name}",
        patient=patient_word(fields.get(column_of(list(fields), PATIENT_COLUMNS))),
        split="val" if held_out else KEYS[key],
        maps={LABELS: path.parent / str(label)} if is_map else {},
        labels={} if is_map or label is None else _values(label, config.label),
    )


def _values(label: Json, name: str) -> dict[str, Json]:
    """A value, or a list of them as numbered values."""
    if isinstance(label, list):
        return {f"{name}_{number}": value for number, value in enumerate(label)}
    return dict(label) if isinstance(label, dict) else {name: label}
