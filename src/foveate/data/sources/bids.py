"""BIDS: subjects, sessions and the anatomical images (or others) of each."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.labels import LABELS
from foveate.core.types import Record
from foveate.data.layouts import Layout, WrongLayoutError, below, case, folders
from foveate.data.tables import read_table, visible

TREE = """
dataset_description.json
participants.tsv             (optional: its columns are values of the images)
sub-<id>/
  [ses-<id>/]
    anat/sub-<id>[_ses-<id>][_<key>-<value>...]_T1w.nii.gz
derivatives/<name>/sub-<id>/[ses-<id>/]anat/..._dseg.nii.gz   (with --source.derivative <name>)
"""
NAME = re.compile(r"(sub-[^_]+(?:_[a-zA-Z]+-[^_]+)*)_([A-Za-z0-9]+)\.nii(\.gz)?")
MODALITIES = {"pet": "PT", "ct": "CT"}  # of folders and suffixes; the others are MR
ABSENT = ("n/a", "")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which images are read, and where their label maps are.

    Attributes:
        name: bids.
        datatypes: The folders that are read, such as anat, dwi or pet.
        suffixes: Only images with these suffixes, such as T1w; empty: all of the folders.
        derivative: The folder of `derivatives` with label maps; empty: none.
        map_suffix: The suffix of a label map.
    """

    name: Literal["bids"] = "bids"
    datatypes: tuple[str, ...] = ("anat",)
    suffixes: tuple[str, ...] = ()
    derivative: str = ""
    map_suffix: str = "dseg"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=lambda root: cases(root, config))


def recognises(root: Path) -> bool:
    """Whether the description and a subject are there."""
    return (root / "dataset_description.json").is_file() and bool(_subjects(root))


def _subjects(root: Path) -> list[Path]:
    return [path for path in folders(root) if path.name.startswith("sub-")]


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per NIfTI file of the wanted folders and suffixes."""
    if not (root / "dataset_description.json").is_file():
        raise WrongLayoutError("dataset_description.json is missing")
    values, maps = _participants(root), _label_maps(root, config)
    for subject in _subjects(root):
        sessions = [path for path in folders(subject) if path.name.startswith("ses-")]
        for place in (subject, *sessions):
            for datatype in config.datatypes:
                folder = place / datatype
                for path in visible(folder) if folder.is_dir() else ():
                    match = NAME.fullmatch(path.name)
                    if match and (not config.suffixes or match[2] in config.suffixes):
                        label = _map_of(match[1], maps)
                        about = values.get(subject.name, {})
                        yield _case(root, path, match[2], subject.name, label, about)


def _case(
    root: Path, path: Path, suffix: str, subject: str, label: Path | None, values: Mapping[str, str | float]
) -> Record:
    folder = path.parent.name
    return case(
        root,
        path,
        evidence=f"{folder}, suffix {suffix}",
        modality=MODALITIES.get(folder, MODALITIES.get(suffix.lower(), "MR")),
        patient=subject,
        maps={LABELS: label} if label else {},
        labels=values,
    )


def _participants(root: Path) -> dict[str, dict[str, str | float]]:
    """Subject -> the columns of participants.tsv, NaN for n/a."""
    path = root / "participants.tsv"
    if not path.is_file():
        return {}
    rows = read_table(path, ("participant_id",), delimiter="\t")
    return {row.pop("participant_id"): {k: _value(v) for k, v in row.items()} for row in rows}


def _value(text: str) -> str | float:
    try:
        return math.nan if text in ABSENT else float(text)
    except ValueError:
        return text


def _label_maps(root: Path, config: Config) -> dict[str, list[tuple[frozenset[str], Path]]]:
    """Subject -> its label maps, each with the entities of its name."""
    if not config.derivative:
        return {}
    folder = root / "derivatives" / config.derivative
    if not folder.is_dir():
        raise WrongLayoutError(f"derivatives/{config.derivative} is missing")
    found: dict[str, list[tuple[frozenset[str], Path]]] = defaultdict(list)
    for path in below(folder):
        if (match := NAME.fullmatch(path.name)) and match[2] == config.map_suffix:
            entities = match[1].split("_")
            found[entities[0]].append((frozenset(entities), path))
    return found


def _map_of(entities: str, maps: Mapping[str, list[tuple[frozenset[str], Path]]]) -> Path | None:
    """The one map whose name holds every entity of the image's; two are one too many to choose from."""
    subject, *rest = entities.split("_")
    found = [path for names, path in maps.get(subject, ()) if names.issuperset(rest)]
    if len(found) > 1:
        raise WrongLayoutError(f"{found[0].name} and {found[1].name} both fit {entities}")
    return found[0] if found else None
