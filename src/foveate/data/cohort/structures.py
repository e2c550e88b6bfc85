"""Series with the structures that are drawn on them: DICOM RTSTRUCT and SEG, chosen by the names in them.

A file of structures belongs to the series that it refers to, wherever it lies below the data. Where it refers
to none that is there, it belongs to the one series of its frame of reference. Which slice a contour was drawn
on is not asked: structures are placed by their coordinates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from foveate.core.labels import LABELS
from foveate.core.types import FoveateError, Record, Region
from foveate.data.cohort.patients import with_patients
from foveate.data.cohort.wanted import Labelled, lacking
from foveate.data.readers.dicom.structures.contents import Contents, contents_of, place_of
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.suffixes import SUFFIXES, dimension_of, suffix_of
from foveate.data.sources.folder import FolderSource

EXAMPLE = '--structures "tumour=GTV*|PTV*,heart=Heart*"'
SHOWN = 8  # names in a message

Wanted = Mapping[str, tuple[str, ...]]  # class -> patterns of structure names


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The series of a folder with their structures."""

    found: Sequence[tuple[Record, tuple[Contents, ...]]]  # every image; () where nothing is drawn on it
    notes: tuple[str, ...] = ()


def from_structures(data: Path, structures: str, *, patient_pattern: str = "") -> Labelled:
    """The series of a folder that have one of the structures that `--structures` asks for.

    Raises:
        FoveateError: there is none; the message names structures that could be asked for.
    """
    wanted = parsed(structures)
    if not data.is_dir():
        raise FoveateError(
            f"--structures {structures} needs a folder of DICOM series as --data; {data} is none."
        )
    found = chosen(drawn(list(FolderSource().records(data))), wanted, data)
    known = with_patients(found.records, data, own=found.named_by, pattern=patient_pattern)
    return replace(found, records=known.records, notes=(*found.notes, *known.notes), patients=known.sentence)


def parsed(structures: str) -> Wanted:
    """Classes and the patterns of their structures' names.

    >>> parsed("tumour=GTV*|PTV*, heart=Heart")
    {'tumour': ('GTV*', 'PTV*'), 'heart': ('Heart',)}
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for part in structures.split(","):
        name, equals, text = (word.strip() for word in part.partition("="))
        patterns = tuple(pattern.strip() for pattern in text.split("|"))
        if not (name and equals and all(patterns)) or name in wanted or "+" in name:
            raise FoveateError(
                f"--structures {structures}: {part.strip()!r} is not accepted; write name=pattern, or "
                f"name=pattern|pattern, each name once, such as {EXAMPLE}."
            )
        wanted[name] = patterns
    return wanted


def drawn(records: Sequence[Record]) -> Drawn:
    """Every image with the files of structures that belong to it."""
    images = [record for record in records if record.role == "image"]
    volumes = [r for r in images if suffix_of(r.path) not in SUFFIXES and dimension_of(r) == 3]
    places = {record.relative: place_of(record.path) for record in volumes}
    home = _Homes.of(volumes, places)
    belonging: dict[str, list[Contents]] = defaultdict(list)
    notes: list[str] = []
    for record in records:
        if record.role != "structure":
            continue
        try:
            contents = contents_of(record.path)
        except RefusalError as refusal:
            raise FoveateError(f"{record.relative}: {refusal}. Repair it or move it away.") from None
        belongs, why = home.find(contents) if contents.names else ([], "not used: it holds no structure")
        notes += [f"{record.relative}: {why}"] * bool(why)
        for image in belongs:
            belonging[image.relative].append(contents)
    return Drawn(found=[(r, tuple(belonging[r.relative])) for r in images], notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class _Homes:
    """Where a file of structures may belong."""

    by_series: Mapping[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    by_frame: Mapping[str, list[Record]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, volumes: Sequence[Record], places: Mapping[str, tuple[str, str]]) -> _Homes:
        """The series and frames of reference of volumes."""
        homes = cls()
        for record in volumes:
            series, frame = places[record.relative]
            homes.by_series[series].append(record)
            homes.by_frame[frame].append(record)
        return homes

    def find(self, contents: Contents) -> tuple[list[Record], str]:
        """The images that a file belongs to, and what is to be said about it."""
        named = [self.by_series[uid] for uid in sorted(contents.series) if uid and uid in self.by_series]
        if any(len(found) > 1 for found in named):
            return [], "not used: its series holds several volumes, and which one is meant is not known"
        if named:
            return [found[0] for found in named], ""
        same = [
            r for uid in sorted(contents.frames) if uid and uid in self.by_frame for r in self.by_frame[uid]
        ]
        if len(same) == 1:
            return same, "its series is not here; taken for the one series of its frame of reference"
        return [], f"not used: its series is not here, and {len(same)} series have its frame of reference"


def chosen(series: Drawn, wanted: Wanted, data: Path) -> Labelled:
    """The images that have one of the wanted structures, each with what its label map is painted from."""
    records, used, others = [], defaultdict[str, Counter[str]](Counter), Counter[str]()
    for image, files in series.found:
        regions = []
        for value, (name, patterns) in enumerate(wanted.items(), 1):
            fitting = [(c, number) for c in files for number in c.names if matches(c.names[number], patterns)]
            regions += [Region(value, contents.path, number) for contents, number in fitting]
            used[name].update({contents.names[number] for contents, number in fitting})
        taken = {(region.file, region.number) for region in regions}
        others.update({c.names[n] for c in files for n in c.names if (c.path, n) not in taken})
        if regions:
            records.append(replace(image, maps={LABELS: regions[0].file}, regions=tuple(regions)))
    drawn_on = sum(bool(files) for _, files in series.found)
    if absent := [name for name in wanted if not used[name]]:
        _refuse_absent(absent, wanted, [*others, *(n for each in used.values() for n in each)], data)
    counts = Counter(value for record in records for value in {region.value for region in record.regions})
    notes = [
        f"--structures {name}: in {counts[value]} of {drawn_on} series with structures ({listed(used[name])})"
        for value, name in enumerate(wanted, 1)
    ]
    notes += [f"--structures: not asked for: {listed(others)}"] if others else []
    empty = Counter(name for _, files in series.found for contents in files for name in contents.empty)
    notes += [f"--structures: without a closed contour: {listed(empty)}"] if empty else []
    return Labelled(
        records=tuple(records),
        without=lacking((image for image, _ in series.found), records),
        layout=f"{len(records)} DICOM series with structures",
        classes=tuple(f"{name}={value}" for value, name in enumerate(wanted, 1)),
        notes=(*series.notes, *notes),
    )


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a structure's name fits one of the patterns, in any case.

    >>> matches("gtv_mass", ("GTV*",)), matches("Body", ("GTV*", "PTV*"))
    (True, False)
    """
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def listed(names: Mapping[str, int] | Sequence[str]) -> str:
    """Some names, sorted."""
    found = sorted(set(names))
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _refuse_absent(absent: Sequence[str], wanted: Wanted, names: Sequence[str], data: Path) -> NoReturn:
    patterns = ", ".join(f"{name}={'|'.join(wanted[name])}" for name in absent)
    found = f"the structures found are {listed(names)}" if names else "no structure belongs to a series there"
    raise FoveateError(
        f"--structures {patterns}: no structure of {data} has such a name; {found}. Accepted: patterns with "
        "* and ? that fit whole names, in any case."
    )


def offered(data: Path) -> str:
    """A sentence on what --structures could choose from; empty without structures."""
    if not data.is_dir():
        return ""
    series = drawn(list(FolderSource().records(data)))
    names = sorted({name for _, files in series.found for c in files for name in c.names.values()})
    if not names:
        return ""
    return f"DICOM series there have the structures {listed(names)}: say which to learn, such as {EXAMPLE}."
