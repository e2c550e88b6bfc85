"""The labelled images of a data set, and the kind of their labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.types import FoveateError, Record
from foveate.data.cohort.patients import HEADERS

Want = Literal["maps", "values", "boxes"]  # a label for every voxel, for whole images, or boxes


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The labelled images of a data set."""

    records: tuple[Record, ...]
    without: tuple[Record, ...] = ()  # images that have no label
    layout: str  # for people
    classes: tuple[str, ...] = ()  # "name=value+value" where the source declares them
    ignore: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()  # for the terminal: they may hold file names
    named_by: str = HEADERS  # what has named the patients of the records
    patients: str = ""  # where they are from in the end; counts only
    instances: int = 0  # of boxes of a table: its classes, what is ignored included

    @property
    def unlabelled(self) -> int:
        """How many images have no label."""
        return len(self.without)


def lacking(images: Iterable[Record], labelled: Iterable[Record]) -> tuple[Record, ...]:
    """The images that are not among the labelled ones."""
    named = {record.relative for record in labelled}
    return tuple(image for image in images if image.relative not in named)


def refuse_contradictions(records: Iterable[Record], data: Path) -> None:
    """Refuse an image that is listed twice with different labels, maps, patient or part."""
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
    mine, theirs = ({"maps": r.maps, "patient": r.patient, "split": r.split} for r in (one, other))
    differing += [name for name in mine if mine[name] != theirs[name]]
    return "different " + ", ".join(differing)
