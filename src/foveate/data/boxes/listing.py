"""Boxes of one image as a table lists them, among the labels of the whole image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, cast, get_args

from foveate.core.types import Json, Record

BOXES = "boxes"  # the label of a whole image that holds them
IGNORE = "ignore"  # the class of boxes that count neither as found nor as false alarms
Frame = Literal["ras", "lps"]
Unit = Literal["mm", "voxel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Boxes as a table has them.

    Attributes:
        unit: Millimetres in the world, or voxels in the file's own order of axes, 0 being the middle of the
            first one.
        frame: Where millimetres grow: to the right, the front and the head, or to the left, the back and the
            head. Of voxels and of pictures it says nothing.
        rows: (value in the painted map, *centre, *lengths of the sides).
    """

    unit: Unit
    frame: Frame
    rows: tuple[tuple[float, ...], ...] = ()

    def as_label(self) -> Mapping[str, Json]:
        """As the labels of a record hold it."""
        return {BOXES: {"unit": self.unit, "frame": self.frame, "rows": [list(row) for row in self.rows]}}

    def fingerprint(self) -> tuple[int, int]:
        """Their number and a hash: what tells a changed list."""
        facts = repr((self.unit, self.frame, self.rows)).encode()
        return len(self.rows), int.from_bytes(blake2b(facts, digest_size=7).digest(), "big")


def listed_of(record: Record) -> Listed | None:
    """The boxes that a record lists; None where its labels are something else."""
    found = record.labels.get(BOXES)
    if not isinstance(found, Mapping):
        return None
    rows = cast(Sequence[Sequence[float]], found["rows"])
    unit, frame = cast(Unit, found["unit"]), cast(Frame, found["frame"])
    assert unit in get_args(Unit)
    assert frame in get_args(Frame)
    return Listed(unit=unit, frame=frame, rows=tuple(tuple(map(float, row)) for row in rows))
