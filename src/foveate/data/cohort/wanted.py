"""The labelled images of a data set, and the kind of their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.core.types import Record
from foveate.data.cohort.patients import HEADERS

Want = Literal["maps", "values"]  # a label for every voxel, or for whole images


MAP = "labels"


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The labelled images of a data set."""

    records: tuple[Record, ...]
    unlabelled: int = 0
    layout: str  # for people
    classes: tuple[str, ...] = ()  # "name=value+value" where the source declares them
    ignore: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()  # for the terminal: they may hold file names
    named_by: str = HEADERS  # what has named the patients of the records
    patients: str = ""  # where they are from in the end; counts only
