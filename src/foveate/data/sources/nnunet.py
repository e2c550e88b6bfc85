"""A raw nnU-Net data set: channels as files of one case, label maps beside them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from foveate.core.labels import LABELS
from foveate.core.types import Record
from foveate.data.layouts import (
    Classes,
    Layout,
    WrongLayoutError,
    case,
    excluded_case,
    named_values,
    read_json,
    wrong_field,
)
from foveate.data.tables import visible

TREE = """
DatasetXXX_Name/
  dataset.json               channel_names (or modality), labels, file_ending
  imagesTr/<case>_0000.nii.gz <case>_0001.nii.gz ...     one file per channel
  labelsTr/<case>.nii.gz
  imagesTs/                  (optional)
  labelsTs/                  (optional)
"""
PARTS = (("imagesTr", "labelsTr", ""), ("imagesTs", "labelsTs", "test"))


@dataclass(frozen=True, kw_only=True)
class Config:
    """nnU-Net's raw folders: nothing to choose.

    Attributes:
        name: nnunet.
    """

    name: Literal["nnunet"] = "nnunet"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=cases, targets=classes, case_is_patient=True)


def recognises(root: Path) -> bool:
    """Whether dataset.json has nnU-Net's fields."""
    path = root / "dataset.json"
    return path.is_file() and (root / "imagesTr").is_dir() and "channel_names" in read_json(path)


def _description(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    if not path.is_file():
        raise WrongLayoutError("dataset.json is missing")
    return read_json(path)


def classes(root: Path) -> Classes:
    """The targets of `labels`; regions are lists of values."""
    return named_values(_description(root).get("labels", {}), root / "dataset.json")


def cases(root: Path) -> Iterator[Record]:
    """One image per case; several channels come in the order of their numbers."""
    about = _description(root)
    names = about.get("channel_names", about.get("modality"))
    if not isinstance(names, dict) or not names:
        wrong_field(root / "dataset.json", "channel_names", names, 'a mapping such as {"0": "CT"}')
    if isinstance(listed := about.get("dataset"), dict):
        yield from _listed(root, listed)
        return
    if not (root / "imagesTr").is_dir():
        raise WrongLayoutError("imagesTr is missing")
    ending = str(about.get("file_ending", ".nii.gz"))
    for images, labels, split in PARTS:
        if (root / images).is_dir():
            yield from _part(root, (images, labels, split), ending, names)


def _part(root: Path, part: tuple[str, str, str], ending: str, names: Mapping[str, Any]) -> Iterator[Record]:
    images, labels, split = part
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}")
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in visible(root / images):
        if match := pattern.fullmatch(path.name):
            found[match[1]][int(match[2])] = path
    for name, channels in found.items():
        if not set(channels) <= set(range(len(names))):
            why = f"channels {sorted(channels)} are there, and dataset.json has {len(names)}"
            yield excluded_case(root, next(iter(channels.values())), why)
            continue
        label = root / labels / f"{name}{ending}"
        absent = tuple(i for i in range(len(names)) if i not in channels)
        record = _case(root, name, [channels[i] for i in sorted(channels)], label, split, names)
        files = tuple(channels[i] for i in sorted(channels))
        yield replace(record, channels=files, absent=absent) if absent else record


def _case(
    root: Path, name: str, files: list[Path], label: Path, split: str, names: Mapping[str, Any]
) -> Record:
    return case(
        root,
        files[0],
        channels=tuple(files) if len(files) > 1 else (),
        evidence=f"{files[0].parent.name}, channels {', '.join(map(str, names.values()))}",
        patient=name,
        split=split,
        maps={LABELS: label} if label.is_file() else {},
    )


def _listed(root: Path, listed: Mapping[str, Mapping[str, Any]]) -> Iterator[Record]:
    """The cases that dataset.json names one by one."""
    for name, entry in listed.items():
        files = [root / str(path) for path in entry.get("images", ())]
        absent = [path for path in files if not path.is_file()]
        if not files or absent:
            wrong_field(
                root / "dataset.json", f"dataset[{name!r}].images", entry.get("images"), "files there"
            )
        yield _case(root, name, files, root / str(entry.get("label", "")), "", {})
