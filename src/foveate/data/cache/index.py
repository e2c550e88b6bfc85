"""The files of a cache folder: an append-only index of volumes, and no name from the source.

A volume is known by a salted hash of its relative path, so that neither the index nor a log can tell
whose scan it is. A line that was cut off by a crash cannot be parsed and is ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from foveate.core.files import replace_text
from foveate.core.types import ChannelStatistics, Json, Statistics

INDEX, REJECTS, VOLUMES = "index.jsonl", "rejects.jsonl", "volumes"
PROFILE = "prepare.json"  # how the cache is made


@dataclass(frozen=True, slots=True, kw_only=True)
class MapEntry:
    """What the index holds of one integer map on a volume's grid."""

    name: str
    file: str  # below the cache folder, (*S)
    file_bytes: int
    places: str  # file of rows (value, *voxel)
    values: tuple[int, ...]  # all that occur, rising
    content_hash: str
    source_bytes: int
    source_stamp: int  # salted hash of size and time of change: the time itself is a date
    axes: tuple[int, ...] = ()  # as `CacheEntry.axes`
    checksum: str = ""  # of the file; "" where an earlier version wrote it
    places_checksum: str = ""
    boxes: tuple[tuple[float, ...], ...] | None = None  # that it is painted from: `listed_boxes` of a volume


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One line of the index: all that is known of one cached volume."""

    id: str  # salted hash of the relative path
    file: str  # below the cache folder
    file_bytes: int
    shape: tuple[int, ...]  # (C, *S)
    spacing_mm: tuple[float, ...]
    affine: tuple[tuple[float, ...], ...]
    dtype: str
    scale: float
    offset: float
    low: float  # the value that reads as 0
    high: float  # the value that reads as 1
    minimum: float
    maximum: float
    mean: float
    std: float
    profile: str  # of data.profiles
    content_hash: str
    voxel_hash: str  # of the decoded image, before anything was done to it: `data.cohort.leakage`
    source_bytes: int
    source_stamp: int  # salted hash of size and time of change: the time itself is a date
    maps: tuple[MapEntry, ...]
    axes: tuple[int, ...] = ()  # the axes of the image in the order in which they are stored; (): as they are
    statistics: tuple[ChannelStatistics, ...] = ()  # of every channel; (): an earlier version wrote the entry
    checksum: str = ""  # of the file; "" where an earlier version wrote it
    patient: str = ""  # salted hash; "" where nobody said
    windows: tuple[tuple[float, float], ...] = ()  # of channels with low and high values of their own

    @property
    def fingerprint(self) -> tuple[int, int]:
        """What tells a changed source."""
        return self.source_bytes, self.source_stamp


NAMES = tuple(field.name for field in fields(CacheEntry))
VALUES = attrgetter(*NAMES)


def salted_id(salt: bytes, relative: str) -> str:
    """A name for a source file that cannot be reversed, nor guessed without the salt."""
    return blake2b(relative.encode("utf-8", "surrogateescape"), key=salt, digest_size=16).hexdigest()


def patient_hash(salt: bytes, patient: str) -> str:
    """What tells the patients of a cache apart; "" where nobody said whose image it is."""
    return (
        blake2b(patient.encode(), key=salt, person=b"patient", digest_size=16).hexdigest() if patient else ""
    )


def stamped(salt: bytes, fingerprint: tuple[int, int]) -> tuple[int, int]:
    """Size and time of change of a source as the index keeps them: the time hidden, for it is a date."""
    digest = blake2b(repr(fingerprint).encode(), key=salt, digest_size=7).digest()
    return fingerprint[0], int.from_bytes(digest, "big")


def read_entries(folder: Path) -> dict[str, CacheEntry]:
    """The last complete entry of every volume whose file is there in full, by id."""
    return {key: entry for key, entry in all_entries(folder).items() if is_whole(folder, entry)}


def all_entries(folder: Path) -> dict[str, CacheEntry]:
    """The last complete entry of every volume, whatever has become of its files, by id."""
    path = folder / INDEX
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return {entry.id: entry for entry in map(parse, lines) if entry is not None}


def is_whole(folder: Path, entry: CacheEntry) -> bool:
    """Whether the entry's files exist with the sizes they were written with."""
    files = [(entry.file, entry.file_bytes), *((each.file, each.file_bytes) for each in entry.maps)]
    paths = [(folder / file, size) for file, size in files]
    return all(path.exists() and path.stat().st_size == size for path, size in paths)


def parse(line: bytes | str) -> CacheEntry | None:
    """What `as_line` wrote; None where it was cut off."""
    try:
        values = json.loads(line)
        for each in (values, *values["maps"]):
            if "source_mtime_ns" in each:  # of before: the time itself
                each["source_stamp"] = each.pop("source_mtime_ns")
        values = {
            field.name: values[field.name]
            for field in fields(CacheEntry)
            if field.name in values or field.default is MISSING
        }
        values["maps"] = tuple(
            MapEntry(
                **{
                    **each,
                    "values": tuple(each["values"]),
                    "axes": tuple(each.get("axes", ())),
                    "boxes": None if each.get("boxes") is None else tuple(map(tuple, each["boxes"])),
                }
            )
            for each in values["maps"]
        )
        values["statistics"] = statistics_from(values.get("statistics", ()))
    except (ValueError, KeyError, TypeError):  # cut off, or not ours
        return None
    for name in ("shape", "spacing_mm", "axes"):
        values[name] = tuple(values.get(name, ()))
    for name in ("affine", "windows"):
        values[name] = tuple(tuple(row) for row in values.get(name, ()))
    return CacheEntry(**values)


def statistics_from(rows: Sequence[Json]) -> tuple[ChannelStatistics, ...]:
    """What `dataclasses.asdict` made of them, as a line of the index has it."""
    found = []
    for row in rows:
        if not isinstance(row, dict):
            raise TypeError(row)
        regions = {name: _region_from(row[name]) for name in ("whole", "foreground")}
        found.append(ChannelStatistics(**regions, threshold=float(row["threshold"])))
    return tuple(found)


def _region_from(row: Json) -> Statistics:
    if not isinstance(row, dict):
        raise TypeError(row)
    return Statistics(**{**row, "percentiles": tuple(row["percentiles"])})


def as_line(entry: CacheEntry) -> str:
    """An entry as text."""
    values = dict(zip(NAMES, VALUES(entry), strict=True))  # `asdict` alone takes three times as long
    return json.dumps(values, separators=(",", ":"), allow_nan=False, default=asdict)


def append_entry(folder: Path, entry: CacheEntry) -> None:
    """Adds one line and waits until it is on the disk."""
    path = folder / INDEX
    line = as_line(entry).encode() + b"\n"
    with path.open("ab+") as stream:
        if _ends_inside_a_line(stream):
            line = b"\n" + line
        stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())


def _ends_inside_a_line(stream: BinaryIO) -> bool:
    if stream.seek(0, os.SEEK_END) == 0:
        return False
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) != b"\n"


def write_rejects(folder: Path, rejects: Iterable[tuple[str, str]]) -> None:
    """Replaces the list of (id, reason) of what the last preparation could not use."""
    lines = [json.dumps({"id": key, "reason": reason}) + "\n" for key, reason in rejects]
    replace_text(folder / REJECTS, "".join(lines))


def is_prepared(folder: Path) -> bool:
    """Whether a folder is a cache, finished or not."""
    return (folder / PROFILE).is_file() and (folder / VOLUMES).is_dir()
