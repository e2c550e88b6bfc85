"""The images of a fine-tuning run: found, split, decoded, what labels complete; and those without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, final

from foveate.commands.finetune.config import FinetuneConfig, labelled
from foveate.commands.finetune.intensity import decoded_as, seen_through, window_of
from foveate.core.boxes.tasks import BoxConfig
from foveate.core.labels import LABELS
from foveate.core.tasks import DenseConfig, TaskConfig
from foveate.core.types import FoveateError, LabelFacts, Record
from foveate.data.cache.index import PROFILE, is_prepared
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.profiles import from_json
from foveate.data.cache.volumes import Cache, CachedVolume, open_prepared
from foveate.data.catalogue import SOURCES, build_source
from foveate.data.cohort.draw import PARTS, patient_of
from foveate.data.cohort.labelled import patients_of_source
from foveate.data.cohort.leakage import hashes_of
from foveate.data.cohort.patients import Known, with_patients
from foveate.data.cohort.rest import rest_of
from foveate.data.cohort.splits import Split, make_split
from foveate.data.cohort.wanted import Labelled
from foveate.data.readers.suffixes import dimension_of
from foveate.runtime import images as intake
from foveate.runtime.config import REST
from foveate.runtime.selection import images_for_pretraining, say_notes
from foveate.train.logging import say
from foveate.train.semi.settings import SemiConfig


@final
@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """The images of a run, decoded, and the configuration that their labels complete."""

    config: FinetuneConfig
    train: Cache
    val: Cache
    split: Split
    layout: str
    unlabelled: Cache | None = None


def load_images(config: FinetuneConfig, cache: Path, limit: int | None = None) -> LabelledImages:
    """Find, split and decode the labelled images; complete the task's configuration with their labels.

    `limit` decodes at most that many images of each part, for a dry run.
    """
    wanted = config.prepare.window
    config = replace(config, prepare=decoded_as(config.prepare))
    found = labelled(config, Path(config.data))
    say_notes(found.notes)
    split = make_split(found.records, [config.task.stratum(r.labels) for r in found.records], config.split)
    chosen = {part: spread(split[part], limit) for part in ("train", "val")}
    records = intake.of_dimension([*chosen["train"], *chosen["val"]], config.dimension)
    refuse_whole_volumes(config, records)
    both = intake.seen_in(intake.decode(records, cache, config.prepare), config.dimension, config.slices)
    if wrong := [reject for reject in both.rejects if "map" in reject.reason]:
        said = "; ".join(f"{reject.relative}: {reject.reason}" for reject in wrong[:3])
        raise FoveateError(f"{len(wrong)} labelled images cannot be used: {said}. Fix or remove them.")
    by_name = {volume.relative: volume for volume in both}
    parts = {p: [by_name[r.relative] for r in chosen[p] if r.relative in by_name] for p in chosen}
    for part, volumes in parts.items():
        if not volumes:
            raise FoveateError(
                f"--data {config.data}: no image for {part} could be read; accepted: at least one."
            )
    listed = [record.labels for record in split["train"]] if limit else [v.labels for v in parts["train"]]
    task = config.task.settle(facts_of(parts["train"], parts["val"], found, listed))
    unlabelled = load_unlabelled(config, found, split, [*parts["train"], *parts["val"]], cache, limit)
    if wanted == "dataset":
        ends = dataset_window(task, parts["train"])
        config = replace(config, prepare=replace(config.prepare, window="range", intensity_range=ends))
        parts = {part: [seen_through(v, ends) for v in volumes] for part, volumes in parts.items()}
        unlabelled = unlabelled and Cache([seen_through(v, ends) for v in unlabelled])
    if isinstance(task, BoxConfig):
        refuse_without_boxes(task, parts["val"])
    encoded = {p: Cache([with_labels(v, task.encode(v.labels)) for v in parts[p]]) for p in parts}
    excluded = "" if config.unlabelled == REST else " excluded"
    return LabelledImages(
        config=replace(config, task=task),
        train=encoded["train"],
        val=encoded["val"],
        split=split,
        unlabelled=unlabelled and Cache([with_labels(v, task.encode({})) for v in unlabelled]),
        layout=f"{found.layout}; {found.unlabelled} images without a label{excluded}; {found.patients}",
    )


def dataset_window(task: TaskConfig, train: Sequence[CachedVolume]) -> tuple[float, float]:
    """The intensity window that the labelled voxels of the training images ask for, said in the log."""
    if not isinstance(task, DenseConfig):
        raise FoveateError("prepare.window dataset: accepted for tasks that learn label maps.")
    ends = window_of(train, task.unknown_values)
    say(f"intensity window of the data set, by its labelled voxels: {ends[0]:g} to {ends[1]:g}")
    return ends


def refuse_whole_volumes(config: FinetuneConfig, records: Sequence[Record]) -> None:
    """Refuse to answer for whole volumes by a network that sees slices."""
    if config.task.want != "maps" and dimension_of(records[0]) > config.dimension:
        what = {"values": "a value", "boxes": "a box"}[config.task.want]
        raise FoveateError(
            f"--task {config.task.name} --dimension {config.dimension}: the images are volumes, and {what} "
            "of a whole volume is not learned from slices; accepted: --dimension 3, or --task segmentation."
        )


def load_unlabelled(
    config: FinetuneConfig,
    found: Labelled,
    split: Split,
    labelled: Sequence[CachedVolume],
    cache: Path,
    limit: int | None,
) -> Cache | None:
    """The images that `unlabelled` names, without any label map; None where it names none.

    Args:
        config: Of the run.
        found: The labelled images of the data set, and those without a label.
        split: Their parts.
        labelled: The decoded images of training and validation.
        cache: Where those are.
        limit: Decode at most so many, for a dry run.
    """
    if not config.unlabelled:
        if config.semi != SemiConfig():
            raise FoveateError("--semi.* is said without --unlabelled; accepted: both, or neither.")
        return None
    volumes = decoded(config, found, split, cache, limit)
    known = {volume.entry.voxel_hash for volume in labelled} | set(
        hashes_of(split["test"], reading=config.prepare.reading)
    )
    known -= {"", None}
    people = {r.patient for part in ("val", "test") for r in split[part]} - {""}
    kept = [v for v in volumes if v.entry.voxel_hash not in known and v.patient not in people]
    if dropped := len(volumes) - len(kept):
        say(f"excluded from --unlabelled: {dropped} images that are labelled, or whose patient is held out")
    if not kept:
        raise FoveateError(
            f"--unlabelled {config.unlabelled}: no image is left to learn from without labels; accepted: at "
            "least one that is not labelled in --data"
            + (", such as those that --split.train_cases leaves out." if config.unlabelled == REST else ".")
        )
    seen = intake.seen_in(Cache(kept), config.dimension, config.slices)
    if seen.channels != labelled[0].channels:
        raise FoveateError(
            f"--unlabelled {config.unlabelled}: its images have {seen.channels} channels, those of --data "
            f"{labelled[0].channels}; accepted: as many."
        )
    return seen


def decoded(
    config: FinetuneConfig, found: Labelled, split: Split, cache: Path, limit: int | None
) -> list[CachedVolume]:
    """All images that `unlabelled` names; they carry no map, whatever the cache holds."""
    path = Path(config.unlabelled)
    if config.unlabelled != REST and is_prepared(path):
        if config.prepare != from_json((path / PROFILE).read_text(), path):
            raise FoveateError(
                f"--unlabelled {path} is a prepared cache that was made with other values of --prepare.* "
                "than this run has; prepare it with the same, or name the folder of the images instead."
            )
        intake.say_of_salt(path)
        return list(open_prepared(path))
    folder = cache
    if config.unlabelled == REST:
        records = rest_records(config, found, split)
    else:
        records = images_for_pretraining(SOURCES["folder"].Config(), path, "", config.patient_pattern)
        folder = cache.parent / cache_folder(Path(config.out).parent, path, config.prepare).name
    bare = [replace(record, maps={}, labels={}, regions=()) for record in records]
    if not bare:
        return []
    bare = intake.of_dimension(bare, config.dimension)
    chosen = bare[:: -(-len(bare) // limit)] if limit else bare
    return [without_maps(volume) for volume in intake.decode(chosen, folder, config.prepare)]


def without_maps(volume: CachedVolume) -> CachedVolume:
    """The same volume without the maps that an earlier run may have put into the cache."""
    entry = replace(volume.entry, maps=())
    return CachedVolume(volume.folder, entry, volume.relative, patient=volume.patient)


def rest_records(config: FinetuneConfig, found: Labelled, split: Split) -> list[Record]:
    """The images of the training patients without labels, and those that `split.train_cases` leaves out."""
    data, pattern = Path(config.data), config.patient_pattern

    def name(records: Sequence[Record]) -> Known:
        if config.source.name == "folder":
            return with_patients(records, data, own=found.named_by, pattern=pattern)
        return patients_of_source(records, build_source(config.source), data, pattern)

    strata = [config.task.stratum(record.labels) for record in found.records]
    whole = make_split(found.records, strata, replace(config.split, train_cases=0, train_patients=0))
    return rest_of(found, whole, split, name)


def refuse_without_boxes(task: BoxConfig, validation: Sequence[CachedVolume]) -> None:
    """Refuse a validation part in which nothing is to be found: no score could choose the weights."""
    values = {value for volume in validation for value in volume.map_entry(LABELS).values}
    if lacking := task.lacking(values):
        raise FoveateError(
            f"None of the {len(validation)} validation images has {lacking}, so that nothing could be "
            "scored; change --split.*, or label images of the validation part that have one."
        )


def spread(records: Sequence[Record], limit: int | None) -> list[Record]:
    """At most `limit` records, evenly spread: neighbours in a list are often alike."""
    step = -(-len(records) // limit) if limit and records else 1
    return list(records[::step])


def facts_of(
    train: Sequence[CachedVolume],
    val: Sequence[CachedVolume],
    found: Labelled,
    listed: Sequence[Mapping[str, Any]],
) -> LabelFacts:
    """What the labels hold; `listed`: the labels of whole training images."""

    def values(volumes: Sequence[CachedVolume]) -> set[int]:
        return {value for v in volumes if LABELS in v.map_names for value in v.map_entry(LABELS).values}

    names = dict.fromkeys(name for labels in listed for name in labels)
    return LabelFacts(
        values=tuple(sorted(values(train))),
        others=tuple(sorted(values(val) - values(train))),
        classes=found.classes,
        ignore=found.ignore,
        columns={name: tuple(labels.get(name) for labels in listed) for name in names},
        instances=found.instances,
    )


def scored_images(images: LabelledImages) -> list[Record]:
    """What no training may have seen: the test part, and in a cross-validation the fold that validates."""
    folded = images.split["val"] if images.config.split.folds else []
    return [*images.split["test"], *folded]


def with_labels(volume: CachedVolume, labels: dict[str, float]) -> CachedVolume:
    """The same volume with its labels as numbers."""
    return volume.replaced(labels=labels)


def data_hash(images: LabelledImages) -> str:
    """A hash of voxels, labels and split, without names."""
    digest = blake2b(digest_size=16)
    for part, cache in (("train", images.train), ("val", images.val)):
        for line in sorted(
            repr((v.entry.content_hash, map_hashes(v), sorted(v.labels.items()))) for v in cache
        ):
            digest.update(f"{part} {line}\n".encode())
    for content in sorted(volume.entry.content_hash for volume in images.unlabelled or ()):
        digest.update(f"unlabelled {content}\n".encode())
    return digest.hexdigest()


def map_hashes(volume: CachedVolume) -> list[str]:
    """Hashes of the label maps of a volume, with the boxes that they are painted from."""
    known = [each for each in volume.entry.maps if each.name == LABELS]
    return [each.content_hash + (str(each.boxes) if each.boxes is not None else "") for each in known]


def summary(images: LabelledImages) -> str:
    """Counts only: no name reaches a log."""
    used = {"train": len(images.train), "val": len(images.val), "test": len(images.split["test"])}
    lost = sum(len(images.split[part]) - used[part] for part in ("train", "val"))
    counts = ", ".join(f"{used[part]} {part}" for part in PARTS)
    seen = intake.slices_note(images.train)
    parts = [
        f"data: {images.layout}",
        counts,
        labels_note(images),
        f"{len(images.unlabelled or ())} unlabelled" * bool(images.unlabelled),
        f"training images {seen}" * bool(seen),
        f"{lost} labelled images could not be used" * bool(lost),
    ]
    return "; ".join(filter(None, parts))


def labels_note(images: LabelledImages) -> str:
    """Whether labels were counted in patients or in cases; "" where all of them are used."""
    config, train = images.config.split, images.split["train"]
    if config.train_patients:
        return f"labels counted in patients: {config.train_patients}, who have {len(train)} cases"
    patients = len({patient_of(record) for record in train})
    return f"labels counted in cases: {len(train)}, of {patients} patients" * bool(config.train_cases)
