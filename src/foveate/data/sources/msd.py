"""Medical Segmentation Decathlon: one task, or a folder of several tasks.

Source: http://medicaldecathlon.com (CC BY-SA 4.0). PGL pre-trains on the CT tasks 03, 06, 07, 08, 09 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from foveate.core.labels import LABELS
from foveate.core.types import FoveateError, Json, Record
from foveate.data.image_files import existing
from foveate.data.layouts import (
    Classes,
    Layout,
    Missing,
    WrongLayoutError,
    case,
    folders,
    named_values,
    read_json,
    wrong_field,
)

TREE = """
TaskXX_Name/                 (or a folder of such folders)
  dataset.json               training, test, labels, modality
  imagesTr/<case>.nii.gz
  labelsTr/<case>.nii.gz
  imagesTs/<case>.nii.gz     (without labels)
"""
MODALITIES = {"ct": "CT", "mri": "MR", "mr": "MR"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to do about files that dataset.json lists and that are not there.

    Attributes:
        name: msd.
        missing: `skip` goes on without them.
    """

    name: Literal["msd"] = "msd"
    missing: Missing = "refuse"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(
        name=config.name,
        tree=TREE,
        cases=lambda root: cases(root, config),
        targets=classes,
        case_is_patient=True,
    )


def _is_task(folder: Path) -> bool:
    path = folder / "dataset.json"
    if not path.is_file():
        return False
    about = read_json(path)
    return isinstance(about.get("training"), list) and "modality" in about


def recognises(root: Path) -> bool:
    """Whether `root` or a folder in it is a task."""
    return any(_is_task(folder) for folder in (root, *folders(root)))


def _tasks(root: Path) -> list[Path]:
    if (root / "dataset.json").is_file():
        return [root]
    if found := [folder for folder in folders(root) if (folder / "dataset.json").is_file()]:
        return found
    raise WrongLayoutError("neither it nor a folder in it holds dataset.json")


def classes(root: Path) -> Classes:
    """The targets of the task; several tasks together have none in common."""
    tasks = _tasks(root)
    if len(tasks) > 1:
        return {}
    path = tasks[0] / "dataset.json"
    return named_values(read_json(path).get("labels", {}), path)


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per entry of `training` and `test`; a patient is known by task and case."""
    for task in _tasks(root):
        path = task / "dataset.json"
        about = read_json(path)
        if not isinstance(about.get("training"), list):
            wrong_field(path, "training", about.get("training"), 'a list of {"image": ..., "label": ...}')
        modality = _modality(about)
        entries = [(entry, "") for entry in about["training"]]
        entries += [({"image": image}, "test") for image in about.get("test", ())]
        records = (_case(root, task, entry, split, modality) for entry, split in entries)
        yield from existing(records, config.missing, str(path))


def _modality(about: dict[str, Any]) -> str:
    names = about.get("modality")
    first = str(next(iter(names.values()), "")) if isinstance(names, dict) else ""
    return MODALITIES.get(first.lower(), "")


def _case(root: Path, task: Path, entry: Json, split: str, modality: str) -> Record:
    fields = entry if isinstance(entry, dict) else {}
    image = fields.get("image")
    if isinstance(image, dict):  # some tasks list their test images as mappings
        image = image.get("image")
    if not isinstance(image, str):
        raise FoveateError(f"{task / 'dataset.json'}: {entry!r} names no image; accepted: a path.")
    path = task / image
    label = fields.get("label")
    return case(
        root,
        path,
        evidence=f"{'test' if split else 'training'} of dataset.json",
        modality=modality,
        patient=f"{task.name}/{path.name.removesuffix('.gz').removesuffix('.nii')}",
        split=split,
        maps={LABELS: task / str(label)} if label else {},
    )
