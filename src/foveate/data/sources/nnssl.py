"""nnssl's pretrain_data.json: data sets, subjects, sessions and images in one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.types import FoveateError, Json, Record
from foveate.data.image_files import existing
from foveate.data.layouts import Layout, Missing, WrongLayoutError, case, read_json, wrong_field

TREE = """
FOLDER/pretrain_data.json    (or the path of any .json file as --data)
  {"datasets": {"<id>": {"subjects": {"<id>": {"sessions": {"<id>": {"images": [
     {"image_path": "$nnssl_raw/x.nii.gz", "modality": "T1w", "associated_masks": {"anatomy_mask": ...}}
  ]}}}}}}}
"""
FILE = "pretrain_data.json"
Fields = Mapping[str, Json]
MODALITIES = {
    **dict.fromkeys(("T1w", "T2w", "FLAIR", "T2starw", "DWI", "ADC", "TOF", "MRI"), "MR"),
    **{"CT": "CT", "PET": "PT"},
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which images of the collection are read.

    Attributes:
        name: nnssl.
        modalities: Only these, in the file's own words; empty: all.
        missing: `skip` goes on without the images that are not there.
    """

    name: Literal["nnssl"] = "nnssl"
    modalities: tuple[str, ...] = ()
    missing: Missing = "refuse"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=lambda root: cases(root, config))


def recognises(root: Path) -> bool:
    """Whether the file is there under its usual name."""
    return (root / FILE).is_file()


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per entry of `images`; a patient is known by data set and subject."""
    path = root / FILE if root.is_dir() else root
    if path.suffix != ".json" or not path.is_file():
        raise WrongLayoutError(f"{FILE} is missing")
    yield from existing(_records(root, path, config), config.missing, str(path))


def _records(root: Path, path: Path, config: Config) -> Iterator[Record]:
    datasets = read_json(path).get("datasets")
    for dataset_id, dataset in _items(datasets, path, "datasets"):
        for subject_id, subject in _items(dataset.get("subjects"), path, "subjects"):
            for _, session in _items(subject.get("sessions"), path, "sessions"):
                for image in _images(session, path):
                    if not config.modalities or image.get("modality") in config.modalities:
                        yield _case(root, path, image, f"{dataset_id}/{subject_id}")


def _items(found: Json, path: Path, field: str) -> Iterable[tuple[str, Fields]]:
    if not isinstance(found, dict):
        wrong_field(path, field, found, "a mapping from an identifier to what belongs to it")
    for name, each in found.items():
        yield name, _object(each, path, f"{field}[{name!r}]")


def _object(found: Json, path: Path, field: str) -> Fields:
    if not isinstance(found, dict):
        wrong_field(path, field, found, "an object with named fields")
    return found


def _images(session: Fields, path: Path) -> Iterable[Fields]:
    found = session.get("images") or []
    if not isinstance(found, list):
        wrong_field(path, "images", found, "a list of objects")
    return (_object(each, path, "images[]") for each in found)


def _case(root: Path, path: Path, image: Fields, patient: str) -> Record:
    masks = _object(image.get("associated_masks") or {}, path, "associated_masks")
    word = str(image.get("modality", ""))
    return case(
        root,
        _path(image.get("image_path"), path),
        evidence=f"image of {path.name}, modality {word or 'unknown'}",
        modality=MODALITIES.get(word, ""),
        patient=patient,
        maps={name: _path(mask, path) for name, mask in sorted(masks.items()) if mask},
    )


def _path(text: Json, listing: Path) -> Path:
    """A path with $NAME at its start replaced from the environment; relative ones start at the list."""
    if not isinstance(text, str) or not text:
        wrong_field(listing, "image_path", text, "a path")
    if text.startswith("$"):
        name, _, rest = text[1:].partition("/")
        place = os.environ.get(name)
        if place is None:
            raise FoveateError(f"{listing}: image_path {text} needs the environment variable {name}.")
        return Path(place) / rest
    return listing.parent / text
