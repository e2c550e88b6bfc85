"""Draws training, validation and test, and every share of the labels, by patient and stratum.

One order of the patients decides everything. In it every stratum is dealt out evenly, so that any first part,
and any part between two cuts, is mixed as the whole is; a smaller share is the beginning of a larger one. A
place in the order comes from hashes of the seed and the patient's name: it does not depend on the system,
on the version of a library, nor on how the files were listed, and a patient who joins later moves few others.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import TypeGuard

from foveate.core.types import FoveateError, Json, Record

PARTS = ("train", "val", "test")
MANY_VALUES = 20  # a label with more values than this is a measurement or a name, not a stratum

Groups = Mapping[str, Sequence[Record]]  # patient -> images


def uniform(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that belongs to a name, the same on every system.

    >>> uniform(0, "x", "a") == uniform(0, "x", "a") != uniform(1, "x", "a")
    True
    """
    text = f"{seed}|{purpose}|{unicodedata.normalize('NFC', name)}"  # some systems store ä as a and dots
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def by_patient(records: Iterable[Record], twins: Iterable[Sequence[str]] = ()) -> dict[str, list[Record]]:
    """Images of each patient; an image without a patient is one of its own.

    Args:
        records: The images.
        twins: Relative paths of images with equal voxels: their patients are taken for one.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.relative):
        groups[patient_of(record)].append(record)
    owner = {record.relative: patient for patient, images in groups.items() for record in images}
    joined = _joined([[owner[name] for name in names if name in owner] for names in twins])
    for patient, first in joined.items():
        if patient != first:
            groups[first] += groups.pop(patient)
    return dict(groups)


def patient_of(record: Record) -> str:
    """The patient, or the image itself where no patient is named."""
    return f"patient {record.patient}" if record.patient else f"image {record.relative}"


def _joined(sets: Iterable[Sequence[str]]) -> dict[str, str]:
    """Every name of sets that overlap -> the first name of them all."""
    first: dict[str, str] = {}

    def root(name: str) -> str:
        while first.setdefault(name, name) != name:
            name = first[name]
        return name

    for names in sets:
        roots = sorted({root(name) for name in names})
        first.update(dict.fromkeys(roots, roots[0]) if roots else {})
    return {name: root(name) for name in sorted(first)}


def strata(groups: Groups, labels: Sequence[str] = ()) -> dict[str, str]:
    """Patient -> the rarest of the values that its images have, "" where they have none.

    Args:
        groups: Images of each patient.
        labels: Names of the values that count; empty: every one with few different values.
    """
    names = list(labels) or coarse_labels(record for images in groups.values() for record in images)
    return rarest({patient: set(_kinds(images, names)) for patient, images in groups.items()})


def rarest(kinds: Mapping[str, Set[str]]) -> dict[str, str]:
    """Patient -> that of its kinds which the fewest patients have, "" where it has none."""
    counts = Counter(kind for found in kinds.values() for kind in found)
    return {p: min(found, key=lambda kind: (counts[kind], kind), default="") for p, found in kinds.items()}


def coarse_labels(records: Iterable[Record]) -> list[str]:
    """Names of the values that sort images into a few kinds."""
    values: dict[str, set[str | float]] = defaultdict(set)
    for record in records:
        for name, value in record.labels.items():
            if _is_plain(value) and len(values[name]) <= MANY_VALUES:
                values[name].add(value)
    return sorted(name for name, found in values.items() if 1 < len(found) <= MANY_VALUES)


def _is_plain(value: Json) -> TypeGuard[str | float]:
    return isinstance(value, str) or (isinstance(value, int | float) and not math.isnan(value))


def _kinds(records: Iterable[Record], names: Iterable[str]) -> Iterable[str]:
    """What the images are: `name=value`, without the zeros that say what they are not."""
    for record in records:
        for name in names:
            value = record.labels.get(name)
            if _is_plain(value) and value not in (0, ""):
                yield f"{name}={value}"


def stratified_order(groups: Iterable[str], stratum: Mapping[str, str], seed: int) -> list[str]:
    """Patients, the members of every stratum in an order of their own and evenly spaced.

    Of the first m of n patients, a stratum with k members has m k / n to within 1 + S k / n, S being the
    number of strata.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for patient in groups:
        members[stratum.get(patient, "")].append(patient)
    places: list[tuple[float, float, str]] = []
    for name, patients in members.items():
        start = uniform(seed, "start of a stratum", name)
        drawn = sorted((uniform(seed, "place of a patient", patient), patient) for patient in patients)
        places += [((i + start) / len(drawn), draw, patient) for i, (draw, patient) in enumerate(drawn)]
    return [patient for _, _, patient in sorted(places)]


def cut(order: Sequence[str], sizes: Mapping[str, int], shares: Sequence[float]) -> list[list[str]]:
    """The order in parts whose images have these shares; a patient is where its middle image is."""
    total = sum(sizes[patient] for patient in order)
    bounds = [share * total for share in accumulate(shares)]
    parts: list[list[str]] = [[] for _ in shares]
    before = 0
    for patient in order:
        middle = before + sizes[patient] / 2
        before += sizes[patient]
        place = next((i for i, bound in enumerate(bounds) if middle <= bound), len(shares) - 1)
        parts[place].append(patient)
    return parts


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Patients by part, and the training patients of each share of the labels, in the order of the draw."""

    parts: Mapping[str, Sequence[str]]
    fractions: Mapping[float, Sequence[str]]


def draw(
    groups: Groups,
    stratum: Mapping[str, str],
    *,
    val_share: float,
    test_share: float,
    fractions: Iterable[float],
    seed: int,
) -> Drawn:
    """Parts and label fractions; what a source says of validation and test stays as it says.

    Raises:
        FoveateError: a patient is in two parts already, or a part would be empty.
    """
    said = _said(groups)
    fixed = {part: [p for p in groups if said[p] == part] for part in ("val", "test")}
    wanted = {"val": val_share, "test": test_share}
    open_parts = {part: share for part, share in wanted.items() if not fixed[part]}
    dealt = deal({p: groups[p] for p in groups if not said[p]}, stratum, open_parts, seed)
    parts = {part: fixed.get(part) or dealt.get(part, []) for part in PARTS}
    refuse_empty(parts, wanted, len(groups))
    sizes = {patient: len(images) for patient, images in groups.items()}
    nested = {f: cut(parts["train"], sizes, (f, 1 - f))[0] or parts["train"][:1] for f in sorted(fractions)}
    return Drawn(parts=parts, fractions=nested)


def deal(
    groups: Groups, stratum: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """Patients for `train` and for every part with a share of the images, one patient at the least."""
    order = stratified_order(groups, stratum, seed)
    sizes = {patient: len(images) for patient, images in groups.items()}
    cuts = cut(order, sizes, [1 - sum(shares.values()), *shares.values()])
    parts = dict(zip(("train", *shares), cuts, strict=True))
    for part, share in shares.items():
        if share and not parts[part] and len(parts["train"]) > 1:
            parts[part].append(parts["train"].pop())
    return parts


def _said(groups: Groups) -> dict[str, str]:
    """Patient -> val or test if the source has its own split, else ""."""
    said = {}
    for patient, images in groups.items():
        first = images[0]
        for other in images[1:]:
            if (first.split or "train") != (other.split or "train"):
                raise FoveateError(
                    f"{first.relative} is for {first.split or 'train'} and {other.relative} for "
                    f"{other.split or 'train'} in the lists of the data set, but they are of one patient or "
                    "have equal voxels. Correct the lists, or ignore them with --use_given_split false."
                )
        said[patient] = first.split if first.split in ("val", "test") else ""
    return said


def refuse_empty(parts: Mapping[str, Sequence[str]], wanted: Mapping[str, float], count: int) -> None:
    """Refuse a part that should have images and has none."""
    for part, patients in parts.items():
        if not patients and wanted.get(part, 1.0) > 0:
            share = f"{part}_share {wanted[part]:g}" if part in wanted else "what is left"
            raise FoveateError(
                f"No patient is left for {part} ({share}; patients: {count}); accepted: at least one "
                "for each part. Say other shares, or give more labelled images."
            )
