"""The cases of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from foveate.core.boxes.tasks import BoxConfig
from foveate.core.types import Json, Record
from foveate.data.cache.volumes import CachedVolume


@final
@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The labelled images to score on, decoded, with their patients."""

    volumes: list[CachedVolume]
    patients: list[str]  # salted, one per volume
    calibration: list[CachedVolume]  # the run's validation images, where they are at hand
    owners: Sequence[int] = ()  # which of several models answers each volume; empty: there is one
    values: Sequence[Mapping[str, Json]] = ()  # what tables say of each, where subgroups are asked for
    part: str = "test"  # that was taken
    left_out: int = 0  # images of the part that could not be used
    records: Sequence[Record] = ()  # one per volume
    truth: BoxConfig | None = None  # what reads their boxes, where the run's answers are boxes
