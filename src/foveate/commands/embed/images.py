"""The encoder of a run, and images as it saw those of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foveate.commands.embed.config import EmbedConfig
from foveate.commands.embed.features import Embedded, Seen, fill, grid_of, jobs_of, rows_of
from foveate.commands.embed.layout import Layout
from foveate.core.labels import LABELS
from foveate.core.types import Array, FoveateError, Record
from foveate.data.cache.complete import complete_entries, refuse_incomplete
from foveate.data.cache.index import is_prepared
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import Cache, CachedVolume, open_prepared
from foveate.data.cohort.labelled import patients_of_source, read_labelled
from foveate.data.cohort.splits import named_parts
from foveate.data.sources.folder import FolderSource
from foveate.nets.weights import store as weights
from foveate.runtime import images as intake
from foveate.runtime.config import from_card
from foveate.runtime.finetuned import prepared
from foveate.runtime.precision import device_of, set_up_device
from foveate.runtime.selection import say_notes
from foveate.train.logging import say


class Images(NamedTuple):
    """The images of a command."""

    cache: Cache
    folder: Path  # of the cache
    split: Sequence[str]  # for every image its part; empty where nobody says


def open_encoder(config: EmbedConfig, card: weights.Card) -> Seen:
    """The encoder of the run on its device."""
    if not card.get("normalisation"):
        raise FoveateError(f"{config.run}: its card does not say how its input is normalised.")
    device = device_of(config.accelerator)
    set_up_device(config.accelerator, float32_matmul=card.get("float32_matmul", "highest"))
    encoder = weights.load_encoder(config.run).to(device)
    layout = Layout(
        grid=grid_of(card, encoder, config.grid),
        stride=encoder.strides[0],
        tiles=config.tiles,
        regions=LABELS if config.labels else "",
        grid_mm=config.grid_mm,
    )
    return Seen(
        encoder=encoder, normalisation=card["normalisation"], layout=layout, batch_size=config.batch_size
    )


def open_images(config: EmbedConfig, card: weights.Card) -> Images:
    """The images as the network saw those of its training."""
    data = Path(config.data)
    if is_prepared(data):
        if config.split:
            raise FoveateError(
                f"--split {config.split}: a cache does not know the names of its images; accepted with a "
                "folder as --data."
            )
        return Images(prepared_images(data, config, card), data, ())
    records = labelled_records(config, card) if config.labels else bare_records(config, card)
    records = with_parts(records, config.split) if config.split else records
    parts = {record.relative: record.split for record in records}
    wanted = intake.of_dimension(records, card["dimension"])
    prepare = prepare_of(card)
    folder = cache_folder(Path(config.out).absolute().parent, data, prepare)
    cache = intake.seen_in(
        intake.decode(wanted, folder, prepare, config.num_workers if len(wanted) > 1 else 0),
        card["dimension"],
        slices_of(config, card),
    )
    split = [parts[volume.relative] for volume in cache]
    return Images(cache, folder, split if any(split) else ())


def prepared_images(data: Path, config: EmbedConfig, card: weights.Card) -> Cache:
    """The images of a finished cache, with their label maps where these are asked for."""
    entries = complete_entries(data)
    refuse_incomplete(data, entries)
    cache = open_prepared(data)
    if config.labels:
        maps = [tuple(each for each in entry.maps if each.name == LABELS) for entry in entries]
        if not any(maps):
            raise FoveateError(
                f"--data {data} --labels true: the cache has no label maps; accepted: the images' folder."
            )
        volumes = [CachedVolume(data, replace(e, maps=own)) for e, own in zip(entries, maps, strict=True)]
        cache = Cache(volumes, notes=cache.notes)
    return intake.seen_in(cache, card["dimension"], slices_of(config, card))


def slices_of(config: EmbedConfig, card: weights.Card) -> SlicesConfig:
    """How volumes are cut: as asked for, or as in the run."""
    said = card.get("slices")
    own = SlicesConfig() if said is None else from_card(SlicesConfig, said)
    return own if config.slices == SlicesConfig() else config.slices


def bare_records(config: EmbedConfig, card: weights.Card) -> list[Record]:
    """The images of a folder without their labels."""
    data, reader = Path(config.data), FolderSource(expected=card["in_channels"])
    found = [record for record in reader.records(data) if record.role == "image"]
    if not found:
        raise FoveateError(f"--data {data}: no image was found there.")
    known = patients_of_source(found, reader, data, config.patient_pattern)
    say_notes([*known.notes, known.sentence])
    return [replace(record, maps={}, labels={}, regions=()) for record in known.records]


def labelled_records(config: EmbedConfig, card: weights.Card) -> list[Record]:
    """The images that have a label map, with it."""
    found = read_labelled(
        Path(config.data),
        "maps",
        pairs=config.pairs,
        patient_pattern=config.patient_pattern,
        source=FolderSource(expected=card["in_channels"]),
    )
    say_notes([*found.notes, found.patients])
    if found.unlabelled:
        say(f"without a row: {found.unlabelled} images that have no label map")
    return [replace(record, labels={}) for record in found.records]


def with_parts(records: Sequence[Record], split: str) -> list[Record]:
    """The images with the parts that a split puts them in; those that it does not name have none."""
    parts: dict[str, str] = {}
    for part, found in named_parts(records, split, "--split", "image").items():
        for record in found:
            if parts.setdefault(record.relative, part) != part:
                raise FoveateError(f"--split {split} names {record.relative!r} in two parts; accepted: one.")
    if not parts:
        raise FoveateError(
            f"--split {split} names no image; accepted: a folder with train.txt, val.txt and test.txt, or "
            'JSON {"train": [names], "val": [...]}.'
        )
    return [replace(record, split=parts.get(record.relative, "")) for record in records]


def features_of(path: Path, found: Embedded, card: weights.Card, out: Path) -> Array:
    """Features of an image that is not in the table."""
    images = [r for r in FolderSource(expected=card["in_channels"]).records(path) if r.role == "image"]
    if len(images) != 1:
        raise FoveateError(f"--query {path}: {len(images)} images were found; accepted: one.")
    with prepared(images[0], prepare_of(card), out) as volume:
        first = found.cache[0]
        alone = Cache([volume.replaced(cut=first.cut) if first.cut else volume])
        rows = rows_of(found.seen.layout, alone)
        table = np.zeros((len(rows[0].parts), found.features.shape[1]), np.float32)
        fill(found.seen, alone, rows, table, list(jobs_of(found.seen, alone)), lambda _images: None)
    return table


def prepare_of(card: weights.Card) -> PrepareConfig:
    """How the images of the run were prepared."""
    return PrepareConfig() if card.get("intensity") is None else from_card(PrepareConfig, card["intensity"])
