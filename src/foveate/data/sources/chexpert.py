"""CheXpert: chest radiographs, frontal and lateral, with fourteen observations that may be uncertain.

Source: https://stanfordmlgroup.github.io/competitions/chexpert (Stanford's research agreement).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from foveate.core.types import FoveateError, Record
from foveate.data.image_files import existing
from foveate.data.layouts import Layout, Missing, WrongLayoutError, case, either, folders
from foveate.data.tables import read_table

TREE = """
CheXpert-v1.0/               (or CheXpert-v1.0-small/)
  train.csv                  Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding, ... ,Support Devices
  valid.csv
  train/patientNNNNN/studyK/viewJ_{frontal,lateral}.jpg
  valid/patientNNNNN/studyK/viewJ_{frontal,lateral}.jpg
"""
OBSERVATIONS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other"),
    *("Fracture", "Support Devices"),
)
COMPETITION = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
ONES_IN_MIXED = ("Atelectasis", "Edema")
PATH, VIEW = "Path", "Frontal/Lateral"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which views and labels, and what an uncertain label counts as.

    Attributes:
        name: chexpert.
        views: Frontal or lateral radiographs, or both.
        observations: The five of the competition, or all fourteen.
        uncertain: What -1 becomes: 0, 1, nothing (`ignore`: missing, excluded of the loss), or 1 for
            atelectasis and edema and 0 for the others (`mixed`).
        blank: What an observation that a report does not mention becomes: 0, or missing.
        missing: `skip` goes on with the images that are there, for a part of the data set.
    """

    name: Literal["chexpert"] = "chexpert"
    views: Literal["frontal", "lateral", "both"] = "frontal"
    observations: Literal["competition", "all"] = "competition"
    uncertain: Literal["zeros", "ones", "ignore", "mixed"] = "mixed"
    blank: Literal["zero", "ignore"] = "zero"
    missing: Missing = "refuse"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=lambda root: cases(root, config), axes=2)


def _is_top(folder: Path) -> bool:
    return (folder / "train.csv").is_file() and (folder / "train").is_dir()


def recognises(root: Path) -> bool:
    """Whether `train.csv` starts as CheXpert's does."""
    tables = [top / "train.csv" for top in (root, *folders(root)) if _is_top(top)]
    return any(_head(table).startswith("Path,") for table in tables)


def _head(table: Path) -> str:
    with table.open(encoding="utf-8-sig", errors="replace") as stream:
        return stream.readline()


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per row of the wanted views; the 234 rows of valid.csv are the validation set."""
    top = either(root, _is_top, "train.csv and train")
    for name, split in (("train.csv", "train"), ("valid.csv", "val")):
        table = top / name
        if not table.is_file():
            raise WrongLayoutError(f"{name} is missing")
        rows = read_table(table, (PATH, VIEW, *OBSERVATIONS))
        wanted = (row for row in rows if config.views in ("both", row[VIEW].lower()))
        records = (_case(root, top, row, split, config) for row in wanted)
        yield from existing(records, config.missing, str(table))


def _case(root: Path, top: Path, row: Mapping[str, str], split: str, config: Config) -> Record:
    parts = PurePosixPath(row[PATH]).parts[1:]  # the first part is the name of the data set's folder
    patient = next((part for part in parts if part.startswith("patient")), "")
    if not patient:
        raise FoveateError(f"{top}: the path {row[PATH]!r} names no patient.")
    names = COMPETITION if config.observations == "competition" else OBSERVATIONS
    return case(
        root,
        top.joinpath(*parts),
        evidence=f"row of {split} with view {row[VIEW]}",
        modality="CR",
        patient=patient,
        split=split,
        labels={name: certain(row[name], name, config) for name in names},
    )


def certain(value: str, observation: str, config: Config) -> float:
    """A label as 0, 1 or NaN under the policies of `config`.

    >>> certain("-1.0", "Edema", Config()), certain("-1", "Fracture", Config())
    (1.0, 0.0)
    """
    if not value:
        return 0.0 if config.blank == "zero" else math.nan
    number = float(value) if value.replace(".", "", 1).lstrip("-").isdigit() else math.nan
    if number in (0.0, 1.0):
        return number
    if number != -1.0:
        raise FoveateError(f"CheXpert: {observation} is {value!r}; accepted: 1, 0, -1 or nothing.")
    mixed = 1.0 if observation in ONES_IN_MIXED else 0.0
    return {"zeros": 0.0, "ones": 1.0, "ignore": math.nan, "mixed": mixed}[config.uncertain]
