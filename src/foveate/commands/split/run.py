"""Splits and label fractions as plain lists of names, which every later command reads."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from foveate.commands.split.config import SplitRun
from foveate.core import config as parsing
from foveate.core.files import ANYONE, OWNER, replace_text
from foveate.core.types import Ending, FoveateError, Record, spelled
from foveate.data.catalogue import build_source
from foveate.data.cohort.columns import Columns, columns_beside
from foveate.data.cohort.draw import PARTS, Drawn, Groups, by_patient, coarse_labels, draw, strata
from foveate.data.cohort.labelled import joined, patients_of_source, with_pairs
from foveate.data.cohort.leakage import by_role, hashes_of, twins
from foveate.data.cohort.pairs import Paired
from foveate.data.cohort.structures import chosen, drawn as structures_in, parsed
from foveate.data.roles.channels import channel_notes
from foveate.runtime.selection import say_notes
from foveate.train.logging import say
from foveate.train.progress import counted

UNLABELLED = "unlabelled.txt"
LISTED_BY = (".csv", ".json")


def run_split(config: SplitRun) -> Ending:
    """Split, and print a table of the parts."""
    print(spelled(split(config), keep="\n"))
    return Ending.FINISHED


def split(config: SplitRun) -> str:
    """Draw the split, write its lists, and return a table of the parts."""
    images = listed_images(config)
    if not config.use_given_split:
        images = [replace(record, split="") for record in images]
    labelled, unlabelled = with_labels(images)
    labelled, names = with_columns(labelled, images, config)
    alike, unreadable = equal_voxels(images, config)
    kept = [record for record in labelled if record.relative not in unreadable]
    groups = by_patient(kept, [*alike, *together(kept, config.group)])
    stratum = strata(groups, names) if names else {}
    drawn = draw(
        groups,
        stratum,
        val_share=config.val_share,
        test_share=config.test_share,
        fractions=config.fractions,
        seed=config.seed,
    )
    rest = strangers([r for r in unlabelled if r.relative not in unreadable], alike, drawn, groups)
    write_lists(Path(config.out), config, drawn, groups, rest)
    return summary(config, drawn, groups, alike, rest, names)


def listed_images(config: SplitRun) -> list[Record]:
    """The images with their patients, and with the label maps that lie in one folder with them."""
    data, reader = Path(config.data), build_source(config.source)
    if config.source.name == "folder" and data.suffix.lower() in LISTED_BY:
        names = "--source csv for a table, --source monai_datalist for a list in JSON"
        raise FoveateError(f"{data} is a list of images; name its layout: {names}.")
    records = list(reader.records(data))
    images = [record for record in records if record.role == "image"]
    if config.structures:
        images = drawn_images(records, config)
    elif config.source.name == "folder":
        images = paired_images(records, config)
    elif config.pairs:
        raise FoveateError(f"--pairs belongs to --source folder, not to {config.source.name}.")
    known = patients_of_source(images, reader, data, config.patient_pattern)
    say_notes([*channel_notes(images), *known.notes, known.sentence])
    return list(known.records)


def with_columns(
    labelled: Sequence[Record], images: Sequence[Record], config: SplitRun
) -> tuple[list[Record], tuple[str, ...]]:
    """The labelled images with the values of tables beside them, and the names whose proportions are kept.

    A table changes nothing in which images count as labelled where some have a label map or a value already.
    """
    found = Columns(of={})
    if config.source.name == "folder":
        found = columns_beside(images, Path(config.data))
    say_notes(found.notes)
    records = found.joined(labelled)
    known = dict.fromkeys(name for record in records for name in record.labels)
    for key, names in (("stratify", config.stratify), ("group", filter(None, [config.group]))):
        if strange := [name for name in names if name not in known]:
            has = ", ".join(known) or "none"
            raise FoveateError(
                f"--{key} {strange[0]}: no image has a value of that name; accepted: what the source or a "
                f"table beside the images gives ({has})."
            )
    names = config.stratify or tuple(name for name in coarse_labels(records) if name != config.group)
    return records, names


def together(records: Sequence[Record], group: str) -> list[list[str]]:
    """Sets of names of images that have a value in common and so stay in one part."""
    sets: dict[str, list[str]] = defaultdict(list)
    lacking = 0
    for record in records if group else ():
        value = record.labels.get(group)
        if value is None or value == "":
            lacking += 1
        else:
            sets[str(value)].append(record.relative)
    if group:
        rest = f"; {lacking} images have no value and go with their patients" if lacking else ""
        say(f"--group {group}: {len(sets)} values, each in one part{rest}")
    return list(sets.values())


def drawn_images(records: Sequence[Record], config: SplitRun) -> list[Record]:
    """DICOM series with the structures that are asked for, and the other images."""
    if config.source.name != "folder" or config.pairs:
        raise FoveateError(
            f"--structures {config.structures}: accepted with --source folder and without --pairs."
        )
    found = chosen(structures_in(records), parsed(config.structures), Path(config.data))
    say_notes(found.notes)
    return [*found.records, *found.without]


def paired_images(records: Sequence[Record], config: SplitRun) -> list[Record]:
    """The images of a folder; where several ways to pair them are possible, none is taken."""
    try:
        paired = with_pairs(records, Path(config.data), config.pairs)
    except FoveateError as error:
        if config.pairs:
            raise
        say(f"split without label maps: {error}")
        paired = Paired(pairs=(), labels=frozenset())
    say_notes(paired.notes)
    found = {record.relative: record for record in joined(paired)}
    return [
        found.get(record.relative, record)
        for record in records
        if record.relative in found or (record.role == "image" and record.relative not in paired.labels)
    ]


def with_labels(images: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Images with a map or a value, and the others; where none has either, all are split."""
    labelled = [record for record in images if record.maps or record.labels]
    if not labelled:
        return list(images), []
    return labelled, [record for record in images if not (record.maps or record.labels)]


def equal_voxels(images: Sequence[Record], config: SplitRun) -> tuple[list[list[str]], set[str]]:
    """Sets of names with equal voxels, and the names of what cannot be read."""
    if not config.compare_voxels:
        return [], set()
    hashes: dict[str, str | None] = {}
    with counted("comparing voxels", len(images)) as advance:
        for record, digest in zip(images, hashes_of(images, config.num_workers), strict=True):
            hashes[record.relative] = digest
            advance()
    say_notes(by_role(images, hashes))
    unreadable = {name for name, digest in hashes.items() if digest is None}
    for name in sorted(unreadable):
        say(f"excluded, it cannot be read as an image: {name}")
    return twins(hashes), unreadable


def strangers(
    unlabelled: Sequence[Record], alike: Sequence[Sequence[str]], drawn: Drawn, groups: Groups
) -> list[Record]:
    """Unlabelled images for pre-training, none sharing voxels or patients with validation or test."""
    held_out = [r for part in ("val", "test") for p in drawn.parts[part] for r in groups[p]]
    patients, names = {record.patient for record in held_out} - {""}, {r.relative for r in held_out}
    names |= {name for found in alike if names.intersection(found) for name in found}
    kept = [
        record for record in unlabelled if record.patient not in patients and record.relative not in names
    ]
    if others := len(unlabelled) - len(kept):
        say(f"excluded, their patients or voxels are for validation or the test: {others} unlabelled images")
    return kept


def write_lists(
    out: Path, config: SplitRun, drawn: Drawn, groups: Groups, unlabelled: Sequence[Record]
) -> None:
    """`train.txt`, `val.txt`, `test.txt`, the same in a folder for every fraction, and what was asked for."""
    parts = {part: names_of(patients, groups) for part, patients in drawn.parts.items()}
    files = {f"{part}.txt": parts[part] for part in PARTS}
    if unlabelled:
        files[UNLABELLED] = sorted(record.relative for record in unlabelled)
    for fraction, patients in drawn.fractions.items():
        of_fraction = {**parts, "train": names_of(patients, groups)}
        files |= {f"train_{fraction:g}/{part}.txt": of_fraction[part] for part in PARTS}
    keys = {k: v for k, v in parsing.to_mapping(config).items() if k not in ("data", "out", "num_workers")}
    texts = {name: "".join(f"{line}\n" for line in lines) for name, lines in files.items()}
    texts["split.json"] = json.dumps(keys, indent=1) + "\n"
    refuse_other_lists(out, texts)
    for name, text in texts.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        replace_text(out / name, text, OWNER if name.endswith(".txt") else ANYONE)  # lists hold names


def refuse_other_lists(out: Path, texts: Mapping[str, str]) -> None:
    """Refuse to replace lists by different ones: runs may depend on them."""
    for name, text in texts.items():
        path = out / name
        if path.exists() and path.read_bytes() != text.encode("utf-8", "surrogateescape"):
            raise FoveateError(f"--out {out} holds another split ({name} differs); choose another folder.")


def names_of(patients: Iterable[str], groups: Groups) -> list[str]:
    """Relative paths of the images of patients, sorted."""
    names = sorted(record.relative for patient in patients for record in groups[patient])
    for name in names:
        if name != name.strip() or "\n" in name or "\r" in name:
            raise FoveateError(
                f"{name!r} cannot be written to a list; rename it without line breaks or spaces at its ends."
            )
    return names


def summary(
    config: SplitRun,
    drawn: Drawn,
    groups: Groups,
    alike: Sequence[object],
    rest: Sequence[Record],
    names: Sequence[str],
) -> str:
    """A table of the parts: patients, images, and images of each kind, and what was kept in proportion."""
    parts = {**drawn.parts, **{f"train_{f:g}": patients for f, patients in drawn.fractions.items()}}
    records = {name: [r for p in patients for r in groups[p]] for name, patients in parts.items()}
    kinds = {part: kinds_in(found, names) for part, found in records.items()}
    columns = sorted({kind for found in kinds.values() for kind in found})
    rows = [["", "patients", "images", *columns]]
    rows += [
        [name, str(len(parts[name])), str(len(found)), *(str(kinds[name][kind]) for kind in columns)]
        for name, found in records.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    absent = [f"{n}: no image with {k}" for n, found in kinds.items() for k in columns if not found[k]]
    how = f"in proportion: {', '.join(names)}" if names else "in proportion: nothing"
    notes = [how, f"patients are in one part{f', and so is each {config.group}' if config.group else ''}"]
    notes += [f"{len(alike)} sets of images with equal voxels, each in one part"] if alike else []
    notes += [f"{len(rest)} images without labels, for pre-training: {UNLABELLED}"] if rest else []
    return "\n".join([*table, *notes, *absent[:10], f"lists: {config.out}"])


def kinds_in(records: Iterable[Record], names: Sequence[str]) -> Counter[str]:
    """How many images have each value."""
    return Counter(
        f"{n}={r.labels[n]}" for r in records for n in names if r.labels.get(n) not in (None, 0, "")
    )
