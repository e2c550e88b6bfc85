"""Which images a fine-tuning trains on and validates with: as a list says, or drawn as `cohort` draws."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from foveate.core.types import FoveateError, Record
from foveate.data.cohort.draw import (
    PARTS,
    Groups,
    by_patient,
    cut,
    deal,
    patient_of,
    rarest,
    refuse_empty,
    stratified_order,
)
from foveate.data.readers.suffixes import suffix_of

LISTS = '{"train": [...], "val": [...]}'
Split = dict[str, list[Record]]  # part -> images


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How images are split into training, validation and test.

    Attributes:
        source: File with the split: JSON {"train": [names], "val": [...], "test": [...]}, nnU-Net's
            splits_final.json, or a folder with train.txt, val.txt, test.txt; empty: the split that the
            data define, or a drawn one if they define none.
        folds: Parts of a cross-validation, of whole patients: part `fold` validates, the others train. 0: no.
        fold: Which of them, from 0; or which entry of a JSON that holds several.
        val_share: Share of the images that validate where that is drawn.
        test_share: Share of the images that are kept for a test where that is drawn.
        train_cases: Use only so many training cases, the first of one order; 0 uses all.
        train_patients: The same counted in patients, with all of their cases; 0 uses all.
        seed: Of the draws.
        save_as: File for the plain list of names, to give to others; empty: none.
    """

    source: str = ""
    folds: int = 0
    fold: int = 0
    val_share: float = 0.2
    test_share: float = 0.0
    train_cases: int = 0
    train_patients: int = 0
    seed: int = 0
    save_as: str = ""

    def __post_init__(self) -> None:
        if not (0 < self.val_share < 1 and 0 <= self.test_share < 1 and self.val_share + self.test_share < 1):
            raise FoveateError(
                f"split.val_share {self.val_share} and split.test_share {self.test_share}: accepted are "
                "shares of at least 0, the first above it, with a sum below 1."
            )
        if self.folds and not (self.folds > 1 and 0 <= self.fold < self.folds and not self.source):
            raise FoveateError(
                f"split.folds {self.folds} with split.fold {self.fold}: accepted are two or more folds, one "
                "of them from 0, and no split.source, which says the parts (its entry is split.fold)."
            )
        if self.train_cases and self.train_patients:
            raise FoveateError(
                f"split.train_cases {self.train_cases} and split.train_patients {self.train_patients}: "
                "accepted is one of them."
            )


def make_split(records: Sequence[Record], strata: Sequence[str], config: SplitConfig) -> Split:
    """The parts, checked for patients in two of them, the training part cut to its first cases."""
    kinds = {record.relative: name for record, name in zip(records, strata, strict=True)}
    split = given_split(records, config) or own_split(records)
    if config.folds:
        split = folded_split(records, split, kinds, config)
    elif split is None:
        split = drawn_split(records, kinds, config, test=True)
    elif not split["val"]:
        split = {**drawn_split(split["train"], kinds, config, test=False), "test": split["test"]}
    check_split(split)
    if config.train_cases or config.train_patients:
        split["train"] = first_cases(split["train"], kinds, config)
    return split


def first_cases(train: Sequence[Record], kinds: Mapping[str, str], config: SplitConfig) -> list[Record]:
    """The first cases, or those of the first patients, of the order of the training patients."""
    groups = by_patient(train)
    for unit, wanted, found in (
        ("cases", config.train_cases, len(train)),
        ("patients", config.train_patients, len(groups)),
    ):
        if not 0 <= wanted <= found:
            raise FoveateError(f"split.train_{unit} {wanted}: there are {found} training {unit}.")
    order = stratified_order(groups, strata_of(groups, kinds), config.seed)
    chosen = order[: config.train_patients or None]
    return [record for patient in chosen for record in groups[patient]][: config.train_cases or None]


def drawn_split(
    pool: Sequence[Record], kinds: Mapping[str, str], config: SplitConfig, *, test: bool
) -> Split:
    """Parts drawn as `foveate split` draws them."""
    groups = by_patient(pool)
    shares = {"val": config.val_share, **({"test": config.test_share} if test else {})}
    parts = deal(groups, strata_of(groups, kinds), shares, config.seed)
    refuse_empty(parts, shares, len(groups))
    return {part: [r for patient in parts.get(part, []) for r in groups[patient]] for part in PARTS}


def folded_split(
    records: Sequence[Record], own: Split | None, kinds: Mapping[str, str], config: SplitConfig
) -> Split:
    """One fold of a cross-validation; images for the test, said by the data or drawn, are in none."""
    test = own["test"] if own else []
    pool = [*own["train"], *own["val"]] if own else list(records)
    if not own and config.test_share:
        groups = by_patient(pool)
        parts = deal(groups, strata_of(groups, kinds), {"test": config.test_share}, config.seed)
        refuse_empty(parts, {"test": config.test_share}, len(groups))
        test, pool = ([r for patient in parts[part] for r in groups[patient]] for part in ("test", "train"))
    groups = by_patient(pool)
    order = stratified_order(groups, strata_of(groups, kinds), config.seed)
    sizes = {patient: len(images) for patient, images in groups.items()}
    folds = cut(order, sizes, [1 / config.folds] * config.folds)
    if not all(folds):
        raise FoveateError(
            f"split.folds {config.folds}: a fold has no patient, of {len(order)}; accepted: fewer folds."
        )
    parts = {"val": folds.pop(config.fold), "train": [patient for fold in folds for patient in fold]}
    named = {part: [r for patient in parts[part] for r in groups[patient]] for part in ("train", "val")}
    return {**named, "test": test}


def strata_of(groups: Groups, kinds: Mapping[str, str]) -> dict[str, str]:
    """Patient -> the rarest of the kinds of its images."""
    return rarest({p: {kinds[image.relative] for image in images} - {""} for p, images in groups.items()})


def own_split(records: Sequence[Record]) -> Split | None:
    """The split that the records carry, None without one; a part without images stays empty."""
    if not any(record.split for record in records):
        return None
    if unsaid := [record for record in records if not record.split]:
        raise FoveateError(
            f"{unsaid[0].relative} has no split although others have; accepted: train, val, test."
        )
    return {part: [record for record in records if record.split == part] for part in PARTS}


def given_split(records: Sequence[Record], config: SplitConfig) -> Split | None:
    """The split of `source`; images that it does not name are excluded."""
    if not config.source:
        return None
    named = named_parts(records, config.source, "split.source", "labelled image", config.fold)
    split = {part: named.get(part, []) for part in PARTS}
    if not split["train"]:
        raise FoveateError(
            f'split.source {config.source}: "train" is empty or missing; accepted: names of images.'
        )
    return split


def named_parts(
    records: Sequence[Record], source: str, key: str, kind: str, fold: int = 0
) -> dict[str, list[Record]]:
    """The images that a file or a folder of lists names, by part; `key` and `kind` are for messages."""
    path = Path(source)
    lists = lists_of_folder(path) if path.is_dir() else lists_of_file(path, fold, key)
    known: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        for name in {record.relative, PurePosixPath(record.relative).name, stem_of(record.relative)}:
            known[name].append(record)

    def one(name: str) -> Record:
        found = known.get(name) or known.get(stem_of(name), [])
        if len(found) != 1:
            what = f"no {kind} has that name" if not found else f"{len(found)} images have that name"
            raise FoveateError(
                f"{key} {path} names {name!r}: {what}; accepted: paths below --data, or names."
            )
        return found[0]

    return {part: [one(name) for name in names] for part, names in lists.items()}


def stem_of(relative: str) -> str:
    """The name without folders, suffix and nnU-Net's channel.

    >>> stem_of("imagesTr/a_0000.nii.gz")
    'a'
    """
    name = PurePosixPath(relative).name
    return name[: len(name) - len(suffix_of(Path(name)))].removesuffix("_0000")


def lists_of_file(path: Path, fold: int, key: str) -> dict[str, list[str]]:
    """Names by part, from JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FoveateError(f"{key} {path}: there is no such file.") from None
    except (ValueError, RecursionError):
        raise FoveateError(f"{key} {path} is not JSON; accepted: {LISTS}.") from None
    folds = content if isinstance(content, list) else [content]
    if not 0 <= fold < len(folds):
        raise FoveateError(f"split.fold {fold}: {path} holds {len(folds)}; accepted: 0 to {len(folds) - 1}.")
    chosen = folds[fold]
    if not isinstance(chosen, dict) or not all(isinstance(names, list) for names in chosen.values()):
        raise FoveateError(f"{key} {path} holds something else than names by part; accepted: {LISTS}.")
    return {str(part): list(map(str, names)) for part, names in chosen.items()}


def lists_of_folder(path: Path) -> dict[str, list[str]]:
    """Names by part, a line each, from train.txt, val.txt and test.txt."""
    files = {part: path / f"{part}.txt" for part in PARTS}
    texts = {
        part: file.read_text(encoding="utf-8", errors="surrogateescape")
        for part, file in files.items()
        if file.exists()
    }
    return {part: [line.strip() for line in text.split("\n") if line.strip()] for part, text in texts.items()}


def check_split(split: Split) -> None:
    """Refuse an empty part and a patient in two parts."""
    for part in ("train", "val"):
        if not split[part]:
            raise FoveateError(f"The split has no image for {part}; accepted: at least one.")
    seen: dict[str, str] = {}
    for part, records in split.items():
        for record in records:
            other = seen.setdefault(patient_of(record), part)
            if other != part:
                raise FoveateError(
                    f"{record.relative} is for {part}, but the same patient or image is for {other}; "
                    "accepted: every patient in one part only."
                )


def as_names(split: Split) -> str:
    """The plain list, for a file that the user asked for."""
    return json.dumps({part: [record.relative for record in split[part]] for part in PARTS}, indent=1) + "\n"
