"""The patient of each image, from tables, lists, headers and names, which must agree.

Every command asks here. Two sources that group the images differently are refused: nobody but the user knows
which of them is right, and a guess would put one patient into two parts of a split.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path, PurePosixPath

from foveate.core.types import FoveateError, Record
from foveate.data.cohort.patient_lists import Named, rows_of_lists, rows_of_tables
from foveate.data.readers.suffixes import SUFFIXES, suffix_of

UNKNOWN = "patients unknown: every image counts as its own patient"
HEADERS, NAMES = "DICOM headers", "names (sub-...)"
BIDS = re.compile(r"sub-[^_/.]+")
CHANNEL = re.compile(r"_\d{4}$")
FEWEST = 0.5  # share of a table's cells, or of the images, that must meet for a column to name images


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one source says of some images."""

    source: str  # for people
    place: str  # which of its columns or fields says so
    of: Mapping[str, str]  # relative path -> patient
    rows: Mapping[str, str] = field(default_factory=dict)  # relative path -> which row or entry says so
    case: bool = False  # one patient for every case, for want of better knowledge: anything else counts more


@dataclass(frozen=True, kw_only=True)
class Known:
    """Images with their patients, and messages about where these are from."""

    records: tuple[Record, ...]
    notes: tuple[str, ...]  # for the terminal
    sentence: str  # where the patients are from; counts only


def with_patients(
    records: Iterable[Record],
    data: Path,
    *,
    own: str = HEADERS,
    cases: bool = False,
    beside: bool = True,
    pattern: str = "",
) -> Known:
    """The images with their patients, as far as anything names them.

    Args:
        records: Images.
        data: What `--data` says: the folder, or the file that lists the images.
        own: What has filled in `Record.patient`.
        cases: Whether that is the name of the case alone.
        beside: Whether tables and lists in the folder count: not where the user has named the one to read.
        pattern: The regular expression of `--patient_pattern`; it counts instead of names.

    Raises:
        FoveateError: two sources disagree, or an image does not match the pattern.
    """
    images = list(records)
    listed, unused = _listed(images, data) if beside else ([], [])
    filled = Evidence(
        source=own, place="PatientID" if own == HEADERS else "patient", of=_filled(images), case=cases
    )
    found = [by_pattern(images, pattern)] if pattern else [by_names(images)]
    if not (beside or pattern) and filled.of:  # the source knows its own better than a guess by names
        found = []
    found += listed
    if not any(each.source == own and set(each.of) >= set(filled.of) for each in listed):
        found.append(filled)
    if own != HEADERS:
        found.append(Evidence(source=HEADERS, place="PatientID", of=_headers(images)))
    found = sorted((each for each in found if each.of), key=lambda each: each.case)
    for one, other in combinations([each for each in found if not each.case], 2):
        _refuse_disagreement(one, other)
    said = _merged(found)
    known = tuple(replace(image, patient=said.get(image.relative, "")) for image in images)
    return Known(records=known, notes=tuple(unused), sentence=_sentence(known, found))


def _filled(images: Iterable[Record]) -> dict[str, str]:
    """The patients that the source of the images has set already."""
    return {image.relative: image.patient for image in images if image.patient}


def _sentence(known: Sequence[Record], found: Sequence[Evidence]) -> str:
    """Where the patients are from, and how many there are; counts only."""
    named = [record.patient for record in known if record.patient]
    if not named:
        return UNKNOWN
    strong = [each.source for each in found if not each.case]
    sources = " and ".join(dict.fromkeys(strong or [f"{each.source} (one for each case)" for each in found]))
    rest = len(known) - len(named)
    lacking = f"; unknown for {rest} images: each counts as its own patient" if rest else ""
    return f"patients from {sources}: {len(set(named))} patients, {len(named)} images{lacking}"


def _merged(found: Sequence[Evidence]) -> dict[str, str]:
    """Relative path -> patient; a later source's word for a patient of an earlier one is translated."""
    said: dict[str, str] = {}
    for each in found:
        same = {} if each.case else {each.of[name]: said[name] for name in each.of if name in said}
        said |= {name: same.get(who, who) for name, who in each.of.items() if name not in said}
    return said


def _refuse_disagreement(one: Evidence, other: Evidence) -> None:
    """Refuse sources that group the images of both differently, however they call the patients."""
    shared = sorted(set(one.of) & set(other.of))
    for first, second in ((one, other), (other, one)):
        names: dict[str, str] = {}
        for name in shared:
            earlier = names.setdefault(first.of[name], name)
            if second.of[earlier] != second.of[name]:
                raise FoveateError(
                    f"{earlier} and {name} are of one patient by {_where(first, earlier, name)}, and of two "
                    f"by {_where(second, earlier, name)}. Correct one of them: patients must be grouped "
                    f"alike by everything that names them.{_instead_of_names(first, second)}"
                )


def _instead_of_names(*evidence: Evidence) -> str:
    """The way out where only names are wrong."""
    said = any(each.source == NAMES for each in evidence)
    return " Or say --patient_pattern: it counts instead of names." if said else ""


def _where(evidence: Evidence, *names: str) -> str:
    """Source, field and rows; no patient's name reaches a message."""
    rows = [evidence.rows[name] for name in names if name in evidence.rows]
    return f"{evidence.source} ({', '.join([evidence.place, *rows])})"


def by_pattern(images: Iterable[Record], pattern: str) -> Evidence:
    """What the user's regular expression finds in every path."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise FoveateError(f"--patient_pattern {pattern}: it is no regular expression ({error}).") from None
    if expression.groups != 1 and "patient" not in expression.groupindex:
        raise FoveateError(
            f"--patient_pattern {pattern}: it has {expression.groups} groups; accepted: one, such as "
            "'(P[0-9]+)_', or one of them named, (?P<patient>...)."
        )
    group: str | int = "patient" if "patient" in expression.groupindex else 1
    matches = {image.relative: expression.search(image.relative) for image in images}
    of = {name: match[group] for name, match in matches.items() if match and match[group]}
    if lost := sorted(set(matches) - set(of)):
        more = (
            f" {len(lost) - 1} of the other {len(matches) - 1} have the same problem."
            if len(lost) > 1
            else ""
        )
        raise FoveateError(
            f"--patient_pattern {pattern}: {lost[0]} does not match, so its patient is not known.{more} "
            "Accepted: a pattern that is found in the path of every image below --data."
        )
    return Evidence(source="--patient_pattern", place="its group", of=of)


def by_names(images: Iterable[Record]) -> Evidence:
    """BIDS: `sub-<label>` is a folder, or begins the name of the file.

    >>> by_names([Record(path=Path("x"), relative="sub-7/anat/sub-7_T1w.nii.gz")]).of
    {'sub-7/anat/sub-7_T1w.nii.gz': 'sub-7'}
    """
    of = {}
    for image in images:
        *folders, name = PurePosixPath(image.relative).parts
        begins = BIDS.match(name)
        said = {folder for folder in folders if BIDS.fullmatch(folder)} | ({begins[0]} if begins else set())
        if len(said) > 1:
            raise FoveateError(
                f"{image.relative}: its name and its folders name {len(said)} subjects (sub-...); accepted: "
                "one. Correct the name or the folder."
            )
        if said:
            of[image.relative] = said.pop()
    return Evidence(source=NAMES, place="sub-", of=of)


def _headers(images: Iterable[Record]) -> dict[str, str]:
    """PatientID of the DICOM files of a list: it has no word of its own for what headers say."""
    from foveate.data.readers.dicom.header import is_dicom
    from foveate.data.readers.dicom.reading import read_header
    from foveate.data.readers.refusals import RefusalError

    of = {}
    for image in images:
        if suffix_of(image.path) in SUFFIXES or not image.path.is_file() or not is_dicom(image.path):
            continue
        try:
            patient = read_header(image.path).patient
        except RefusalError:  # the image will be excluded with this reason
            continue
        if patient:
            of[image.relative] = patient
    return of


def _listed(images: Sequence[Record], data: Path) -> tuple[list[Evidence], list[str]]:
    """What tables and lists beside the images say, and a word on those that name no image."""
    if data.is_dir():
        lists = [*rows_of_tables(data), *rows_of_lists(data)]
    else:
        lists = [*rows_of_tables(data.parent, data.name), *rows_of_lists(data.parent, data.name)]
    finder = Finder(images)
    found, unused = [], []
    for each in lists:
        evidence = _evidence_of(each, finder, len(images))
        found += [evidence] if evidence.of else []
        if not evidence.of:
            unused.append(f"{each.source} has patients ({each.field}) and names none of the images: not used")
    return found, unused


def _evidence_of(named: Named, finder: Finder, images: int) -> Evidence:
    """The column that names images, and with it each image's patient."""
    columns = {name: [finder.find(cell) for cell in cells] for name, cells in named.columns.items()}
    met = {name: sum(map(bool, found)) for name, found in columns.items()}
    enough = [n for n in met if met[n] and (n in named.sure or met[n] >= FEWEST * min(named.count, images))]
    best = max(enough, key=lambda name: (name in named.sure, met[name]), default="")
    of: dict[str, str] = {}
    rows: dict[str, str] = {}
    for number, found in enumerate(columns.get(best, ())):
        for name in found if named.patients[number] else ():
            if of.setdefault(name, named.patients[number]) != named.patients[number]:
                raise FoveateError(
                    f"{named.source}: {rows[name]} and {named.row(number)} name {name} and give it two "
                    f"patients ({named.field}); accepted: one for every image."
                )
            rows.setdefault(name, named.row(number))
    return Evidence(source=named.source, place=named.field, of=of, rows=rows)


class Finder:
    """Finds the images that a cell of a table means: by path, by name, by name without suffix."""

    def __init__(self, images: Iterable[Record]) -> None:
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for image in images:
            name = PurePosixPath(image.relative).name
            stem = name[: len(name) - len(suffix_of(Path(name)))]
            for key in {name, stem, CHANNEL.sub("", stem)}:
                self.by_name[key].append(image.relative)

    def find(self, cell: str) -> list[str]:
        """Relative paths of the images; several where a name occurs in several folders."""
        path = PurePosixPath(cell.strip().replace("\\", "/"))
        found = self.by_name.get(path.name, []) if path.name else []
        whole = [name for name in found if f"/{name}".endswith(f"/{path.as_posix()}")]
        return whole or (found if len(path.parts) == 1 or len(found) == 1 else [])
