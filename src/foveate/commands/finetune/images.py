"""The labelled images of a fine-tuning run: found, split, decoded, and what their labels complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, final

from foveate.commands.finetune.config import FinetuneConfig, labelled
from foveate.core.types import FoveateError, LabelFacts, Record
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.data.cohort.splits import Split, make_split
from foveate.data.cohort.wanted import MAP, Labelled
from foveate.data.readers.suffixes import dimension_of
from foveate.runtime import images as intake
from foveate.runtime.selection import say_notes


@final
@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """The images of a run, decoded, and the configuration that their labels complete."""

    config: FinetuneConfig
    train: Cache
    val: Cache
    split: Split
    layout: str


def load_images(config: FinetuneConfig, cache: Path, limit: int | None = None) -> LabelledImages:
    """Find, split and decode the labelled images; complete the task's configuration with their labels.

    `limit` decodes at most that many images of each part, for a dry run.
    """
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
    encoded = {p: Cache([with_labels(v, task.encode(v.labels)) for v in parts[p]]) for p in parts}
    return LabelledImages(
        config=replace(config, task=task),
        train=encoded["train"],
        val=encoded["val"],
        split=split,
        layout=f"{found.layout}; {found.unlabelled} images without a label excluded; {found.patients}",
    )


def refuse_whole_volumes(config: FinetuneConfig, records: Sequence[Record]) -> None:
    """Refuse to answer for whole volumes by a network that sees slices."""
    if config.task.want == "values" and dimension_of(records[0]) > config.dimension:
        raise FoveateError(
            f"--task {config.task.name} --dimension {config.dimension}: the images are volumes, and a value "
            "of a whole volume is not learned from slices; accepted: --dimension 3, or --task segmentation."
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
        return {value for v in volumes if MAP in v.map_names for value in v.map_entry(MAP).values}

    names = dict.fromkeys(name for labels in listed for name in labels)
    return LabelFacts(
        values=tuple(sorted(values(train))),
        others=tuple(sorted(values(val) - values(train))),
        classes=found.classes,
        ignore=found.ignore,
        columns={name: tuple(labels.get(name) for labels in listed) for name in names},
    )


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
    return digest.hexdigest()


def map_hashes(volume: CachedVolume) -> list[str]:
    """Hashes of the label maps of a volume."""
    return [each.content_hash for each in volume.entry.maps if each.name == MAP]
