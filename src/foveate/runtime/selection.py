"""Which images a run is trained on: what its source lists, without what is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foveate.core.plugins import SourceConfig
from foveate.core.types import FoveateError, Reading, Record
from foveate.data.cache.volumes import CachedVolume
from foveate.data.catalogue import build_source, recognised
from foveate.data.cohort.labelled import (
    patients_of_source,
)
from foveate.data.cohort.leakage import (
    SEEN,
    OnSeen,
    hashes_of,
    refuse_seen,
    seen_before,
    write_seen,
)
from foveate.data.roles.channels import channel_notes
from foveate.data.roles.grouped import LABEL_MAPS, grouped
from foveate.train.logging import say

LISTS = ("train.txt", "unlabelled.txt")  # of a folder that `foveate split` wrote
SHOWN = 5  # lines on files that are excluded
HELD_OUT = ("val", "test")


def say_notes(notes: Sequence[str]) -> None:
    """Print notes about patients and pairs."""
    for note in notes:
        say(note)


def images_for_pretraining(
    source: SourceConfig,
    data: Path,
    split: str = "",
    patient_pattern: str = "",
) -> list[Record]:
    """Images without their labels; validation, test and other files are excluded, with a message.

    Args:
        source: The Config of a source.
        data: The data set.
        split: Folder that `foveate split` wrote; empty: what the data set itself says.
        patient_pattern: What of a path names the patient.
    """
    reader = build_source(source)
    found = list(reader.records(data))
    images = [record for record in found if record.role == "image"]
    _hint(source, data)
    _say_others([record for record in found if record.role != "image"])
    kept = _listed(images, Path(split)) if split else [r for r in images if r.split not in HELD_OUT]
    if held := len(images) - len(kept):
        say(f"held out of pre-training: {held} images for validation and test")
    if not kept:
        raise FoveateError(f"--data {data}: none of the {len(found)} files found is an image to train on.")
    known = patients_of_source(kept, reader, data, patient_pattern)
    say_notes([*channel_notes(kept), *known.notes, known.sentence])
    return [replace(record, maps={}, labels={}) for record in known.records]


def _hint(source: SourceConfig, data: Path) -> None:
    """Suggest --source if a plain folder looks like a known layout, which has patients and splits."""
    if source.name == "folder" and (names := recognised(data)):
        known = f"{data} looks like {' or '.join(names)}"
        say(f"{known}: --source {names[0]} reads its patients, splits and labels as well")


def _say_others(others: Sequence[Record]) -> None:
    """What is excluded, label maps first, in a few lines."""
    ordered = sorted(others, key=lambda record: record.role == "other")
    lines = list(
        grouped(
            (r.relative, f"{LABEL_MAPS} ({r.evidence})" if r.role == "label" else r.evidence) for r in ordered
        )
    )
    if others:
        more = f", among them ({len(lines) - SHOWN} further lines: `foveate scan`)" * (len(lines) > SHOWN)
        say(f"excluded from pre-training: {len(others)} files{more}")
    for line in lines[:SHOWN]:
        say(f"  {line}")


def _listed(images: Sequence[Record], folder: Path) -> list[Record]:
    """The images of train.txt and unlabelled.txt."""
    if not (folder / LISTS[0]).is_file():
        raise FoveateError(
            f"--split {folder} has no {LISTS[0]}; accepted: a folder that `foveate split` wrote."
        )
    texts = [
        (folder / name).read_text(encoding="utf-8", errors="surrogateescape")
        for name in LISTS
        if (folder / name).is_file()
    ]
    names = {line for text in texts for line in text.split("\n") if line}
    known = Counter(record.relative for record in images)
    if absent := sorted(names - set(known)):
        raise FoveateError(
            f"--split {folder} lists {absent[0]!r} ({len(absent)} of {len(names)} names), which --data does "
            "not have; accepted: the lists of this data set, read with the same --source."
        )
    return [record for record in images if record.relative in names]


def note_seen(out: Path, volumes: Sequence[CachedVolume], init: str, *, active: bool) -> None:
    """Write seen.json: what a run and the weights that it starts from were trained on, as salted hashes."""
    if not active:
        return
    patients, voxels = (v.patient for v in volumes), (v.entry.voxel_hash for v in volumes)
    write_seen(out, patients, voxels, earlier=run_of(init))


def run_of(init: str) -> Path | None:
    """The run folder that weights are from, if it has a seen.json."""
    path = Path(init).resolve()
    places = (path, *path.parents[:2]) if init and path.exists() else ()
    return next((place for place in places if (place / SEEN).is_file()), None)


def compared_with_pretraining(init: str, tests: Sequence[Record], policy: OnSeen, reading: Reading) -> str:
    """The leakage guard of a run: a note on how many test images the pre-training of `init` has seen.

    Raises:
        FoveateError: some of it, and the policy is to refuse.
    """
    if not tests or not Path(init).exists():
        return ""
    if (run := run_of(init)) is None:
        return "; the test cannot be compared with the pre-training: its run folder has no seen.json"
    found = seen_before(run, tests, list(hashes_of(tests, reading=reading)))
    refuse_seen(run, found, policy)
    return f"; {len(found)} of {len(tests)} test images were in the pre-training, by voxels or patient"
