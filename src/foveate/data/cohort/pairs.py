"""Images and their label maps in one folder: by a pattern that the user gives, or by a common stem.

What the ends of the names mean is not known: of every family of names a few files are decoded, and what they
hold, and whether they lie on one grid, says which are the images and which the label maps.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from foveate.core.types import FoveateError, Reading, Record, Volume
from foveate.data.decoding.decoder import shared_decoder
from foveate.data.readers.channels import SAME_PLACE_MM, corners
from foveate.data.readers.refusals import looks_like_labels
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.roles.families import Key, Place, places

CASE = "{case}"
EXAMPLE = "--pairs '{case}_image.nii.gz={case}_label.nii.gz'"
FIRST = Reading(fourth_axis="first")  # the grid of a file with several volumes
LOOKED_AT = 5  # files of a family
SHOWN = 3  # names in a message

Role = Literal["image", "label", "unclear"]
Case = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Images with their label maps."""

    pairs: tuple[tuple[Record, Record], ...]
    labels: frozenset[str]  # relative paths of all that are label maps
    notes: tuple[str, ...] = ()


def by_pattern(records: Sequence[Record], pairs: str, data: Path) -> Paired:
    """Pairs of images and label maps by the pattern of `--pairs`.

    Raises:
        FoveateError: it cannot be understood, or nothing fits.
    """
    image_side, label_side = _sides(pairs)
    known = {record.relative: record for record in records if not record.files}
    labels = _matches(known, label_side)
    images = {case: name for case, name in _matches(known, image_side).items() if name not in labels.values()}
    if not (both := [case for case in images if case in labels]):
        _refuse_pattern(pairs, data, images, labels, known)
    found = [(known[images[case]], known[labels[case]]) for case in both]
    lonely = [name for case, name in labels.items() if case not in images]
    notes = [f"--pairs: {len(found)} pairs"]
    notes += [f"--pairs: {len(lonely)} label maps have no image, e.g. {lonely[0]}"] if lonely else []
    return Paired(pairs=tuple(found), labels=frozenset(labels.values()), notes=tuple(notes))


def _sides(pairs: str) -> tuple[str, str]:
    """The pattern of images and that of label maps."""
    sides = re.split(r"=(?=[^=]*\{case\})", pairs, maxsplit=1)
    if len(sides) != 2 or any(CASE not in side for side in sides) or sides[0] == sides[1]:
        raise FoveateError(
            f"--pairs {pairs}: accepted are two different patterns with {CASE} in both and = between them, "
            f"the image's first, such as {EXAMPLE}."
        )
    if wild := [sign for sign in "*?[]" if sign in pairs]:
        raise FoveateError(f"--pairs {pairs}: {wild[0]} is no wildcard here; accepted: {CASE} alone.")
    return sides[0], sides[1]


def _matches(known: Iterable[str], pattern: str) -> dict[str, str]:
    """Case -> relative path; a case holds the folders where the pattern names none."""
    first, *rest = map(re.escape, pattern.split(CASE))
    expression = re.compile(first + "(?P<case>.+)" + "(?P=case)".join(rest))
    return {match["case"]: name for name in known if (match := expression.fullmatch(name))}


def _refuse_pattern(
    pairs: str, data: Path, images: Mapping[str, str], labels: Mapping[str, str], known: Iterable[str]
) -> NoReturn:
    names = sorted(known)
    matched = {"the image's": sorted(images.values()), "the label map's": sorted(labels.values())}
    counts = " and ".join(f"{len(found)} {side} pattern{_examples(found)}" for side, found in matched.items())
    rest = sorted(set(names) - {*images.values(), *labels.values()})
    raise FoveateError(
        f"--pairs {pairs}: no pair was found below {data}: of {len(names)} files, {counts} match, and no "
        f"case is in both; {len(rest)} match neither{_examples(rest)}. Accepted: patterns of whole paths "
        "below --data, whose {case} is the same for an image and its label map."
    )


def _examples(names: Sequence[str]) -> str:
    return f" (e.g. {', '.join(names[:SHOWN])})" if names else ""


@dataclass(frozen=True)
class Looks:
    """What single files hold; each is decoded once."""

    known: dict[Path, tuple[Role, Volume | None]] = field(default_factory=dict)

    def at(self, path: Path) -> tuple[Role, Volume | None]:
        """What it holds, with its grid (the voxels are dropped)."""
        if path not in self.known:
            self.known[path] = self._read(path)
        return self.known[path]

    def _read(self, path: Path) -> tuple[Role, Volume | None]:
        role: Role = "image"
        try:
            volume = shared_decoder().read((path,), reading=FIRST)
        except UnreadableImageError as error:
            role = "label" if looks_like_labels(error.reason) else "unclear"
            try:
                volume = shared_decoder().read((path,), as_map=True)
            except UnreadableImageError:
                return "unclear", None
        return role, replace(volume, array=np.broadcast_to(np.zeros(1, np.uint8), volume.array.shape))

    def fit(self, one: Path, other: Path) -> bool:
        """Whether both are on one grid."""
        (_, first), (_, second) = self.at(one), self.at(other)
        if first is None or second is None or first.array.shape[1:] != second.array.shape[1:]:
            return False
        return bool(np.abs(corners(first) - corners(second)).max() <= SAME_PLACE_MM)


@dataclass(frozen=True, kw_only=True)
class Family:
    """Files that are named alike."""

    place: Place  # of one of them
    role: Role
    files: Mapping[Case, Record]


def by_stem(records: Sequence[Record], data: Path) -> Paired:
    """Pairs of files whose names have a stem in common; none where no family holds label maps.

    Raises:
        FoveateError: there are several ways to pair.
    """
    single = {record.relative: record for record in records if not record.files}
    looks = Looks()
    families = _families(single, looks)
    labels = {name for f in families if f.role == "label" for name in (r.relative for r in f.files.values())}
    pairs = _combinations(families, looks)
    if not pairs:
        return Paired(pairs=(), labels=frozenset(labels))
    taken = Counter(case for image, label in pairs for case in image.files.keys() & label.files.keys())
    if max(taken.values()) > 1:
        _refuse_several(families, pairs, data)
    found = [
        (image.files[case], label.files[case])
        for image, label in pairs
        for case in sorted(image.files.keys() & label.files.keys())
    ]
    notes = [
        f"{len(image.files.keys() & label.files.keys())} pairs by common stems: "
        f"{image.place.pattern} is the image, {label.place.pattern} the label map"
        for image, label in pairs
    ]
    return Paired(pairs=tuple(found), labels=frozenset(labels), notes=tuple(notes))


def _families(single: Mapping[str, Record], looks: Looks) -> list[Family]:
    """Families with a case that another family has too; without one nothing is decoded."""
    members: dict[Key, dict[Case, Record]] = defaultdict(dict)
    found = places(single)
    for name, place in found.items():
        members[place.key][place.folder, place.case] = single[name]
    counts = Counter(case for files in members.values() for case in files)
    shared = {key: files for key, files in members.items() if any(counts[case] > 1 for case in files)}
    return [
        Family(
            place=found[next(iter(files.values())).relative],
            role=_role([r for _, r in sorted(files.items())], looks),
            files=files,
        )
        for key, files in sorted(shared.items())
    ]


def _role(files: Sequence[Record], looks: Looks) -> Role:
    """What the family's names say, else what most of a few files hold."""
    if all(record.role == "label" for record in files):
        return "label"
    counts = Counter(looks.at(record.path)[0] for record in _spread(files))
    labels, images = counts["label"], counts["image"]
    return "unclear" if labels == images else "label" if labels > images else "image"


def _spread(files: Sequence[Record]) -> Sequence[Record]:
    """A few, from the first to the last."""
    return files[:: -(-len(files) // LOOKED_AT)]


def _combinations(families: Sequence[Family], looks: Looks) -> list[tuple[Family, Family]]:
    """Families of images and of label maps that have cases in common, most of them on one grid."""
    return [
        (image, label)
        for image in families
        for label in families
        if image.role == "image" and label.role == "label" and _on_one_grid(image, label, looks)
    ]


def _on_one_grid(image: Family, label: Family, looks: Looks) -> bool:
    cases = sorted(image.files.keys() & label.files.keys())
    chosen = cases[:: -(-len(cases) // LOOKED_AT)] if cases else []
    fitting = sum(looks.fit(image.files[case].path, label.files[case].path) for case in chosen)
    return 2 * fitting > len(chosen)


def _refuse_several(
    families: Sequence[Family], pairs: Sequence[tuple[Family, Family]], data: Path
) -> NoReturn:
    held = {"image": "images", "label": "label maps", "unclear": "neither for sure"}
    listed = "; ".join(f"{f.place.shown}: {len(f.files)} files, {held[f.role]}" for f in families)
    ways = " or ".join(f"--pairs '{i.place.pattern}={label.place.pattern}'" for i, label in pairs[:SHOWN])
    raise FoveateError(
        f"--data {data}: images and label maps can be paired in {len(pairs)} ways ({listed}); say which: "
        f"{ways}."
    )
