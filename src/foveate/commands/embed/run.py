"""`foveate embed`: a table of features, and what it says: neighbours, duplicates, outliers, what to label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np

from foveate.commands.embed.config import EmbedConfig
from foveate.commands.embed.features import (
    TABLE,
    Embedded,
    Seen,
    blocks,
    compute,
    grid_of,
    made_by,
    place_rows,
)
from foveate.commands.embed.findings import report
from foveate.core.files import csv_text, replace_file, replace_text, write_json
from foveate.core.types import Array, Ending, FoveateError, Json
from foveate.data.cache.complete import complete_entries, refuse_incomplete
from foveate.data.cache.index import is_prepared
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import Cache, open_prepared
from foveate.data.cohort.labelled import patients_of_source
from foveate.data.sources.folder import FolderSource
from foveate.nets.weights import store as weights
from foveate.runtime import images as intake
from foveate.runtime.config import from_card
from foveate.runtime.finetuned import prepared
from foveate.runtime.folder import write_private
from foveate.runtime.precision import device_of, set_up_device
from foveate.runtime.report.build import write_page
from foveate.runtime.selection import say_notes
from foveate.train.logging import say
from foveate.train.progress import counted

INDEX, CARD, PARQUET = "rows.csv", "card.json", "features.parquet"
NAMES = "private/names.csv"
Row = tuple[str, str, int]  # salted hashes of image and patient, and the slice


def run_embed(config: EmbedConfig) -> Ending:
    """Embed, and say what was found; the exit code is 1 if an image could not be used."""
    found = embed(config)
    return Ending.INCOMPLETE if found.cache.rejects else Ending.FINISHED


def embed(config: EmbedConfig) -> Embedded:
    """Compute the features, write them and the lists, and print the lists with names."""
    card = weights.read(config.run)[1]
    seen = open_encoder(config, card)
    out = Path(config.out)
    cache = open_images(config, card)
    made = made_by(seen, weights.checksum(weights.locate(config.run)), cache)
    images, parts = place_rows(cache)
    try:
        with counted("embedding", len(cache)) as advance:
            features = compute(seen, made, cache, out, advance)
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None
    found = Embedded(seen=seen, cache=cache, features=features, images=images, parts=parts)
    write_tables(found, card, made, out)
    say(f"{len(features)} rows of {features.shape[1]} features from {len(cache)} images: {out / TABLE}")
    asked = features_of(Path(config.query), found, card, prepare_of(card), out) if config.query else None
    report(found, config, asked)
    say(f"on one page: {write_page(out)}")
    return found


def open_encoder(config: EmbedConfig, card: weights.Card) -> Seen:
    """The encoder of the run on its device."""
    if not card.get("normalisation"):
        raise FoveateError(f"{config.run}: its card does not say how its input is normalised.")
    device = device_of(config.accelerator)
    set_up_device(config.accelerator, float32_matmul=card.get("float32_matmul", "highest"))
    encoder = weights.load_encoder(config.run).to(device)
    return Seen(
        encoder=encoder,
        normalisation=card["normalisation"],
        grid=grid_of(card, encoder, config.grid),
        batch_size=config.batch_size,
    )


def open_images(config: EmbedConfig, card: weights.Card) -> Cache:
    """The images as the network saw those of its training."""
    data, said = Path(config.data), card.get("slices")
    own = SlicesConfig() if said is None else from_card(SlicesConfig, said)
    slices = own if config.slices == SlicesConfig() else config.slices
    if is_prepared(data):
        refuse_incomplete(data, complete_entries(data))
        return intake.seen_in(open_prepared(data), card["dimension"], slices)
    reader = FolderSource(expected=card["in_channels"])
    found = [record for record in reader.records(data) if record.role == "image"]
    if not found:
        raise FoveateError(f"--data {data}: no image was found there.")
    known = patients_of_source(found, reader, data, config.patient_pattern)
    say_notes([*known.notes, known.sentence])
    bare = [replace(record, maps={}, labels={}, regions=()) for record in known.records]
    wanted = intake.of_dimension(bare, card["dimension"])
    prepare = prepare_of(card)
    cache = intake.decode(wanted, cache_folder(Path(config.out).absolute().parent, data, prepare), prepare)
    return intake.seen_in(cache, card["dimension"], slices)


def features_of(path: Path, found: Embedded, card: weights.Card, prepare: PrepareConfig, out: Path) -> Array:
    """Features of an image that is not in the table."""
    images = [r for r in FolderSource(expected=card["in_channels"]).records(path) if r.role == "image"]
    if len(images) != 1:
        raise FoveateError(f"--query {path}: {len(images)} images were found; accepted: one.")
    with prepared(images[0], prepare, out) as volume:
        first = found.cache[0]
        return found.seen.rows(volume.replaced(cut=first.cut) if first.cut else volume)


def prepare_of(card: weights.Card) -> PrepareConfig:
    """How the images of the run were prepared."""
    return PrepareConfig() if card.get("intensity") is None else from_card(PrepareConfig, card["intensity"])


def write_tables(found: Embedded, card: weights.Card, made: Mapping[str, Json], out: Path) -> None:
    """The index of the rows, the card, the names for the owner alone, and a Parquet where pyarrow is."""
    volumes = list(found.cache)
    pairs = zip(found.images.tolist(), found.parts.tolist(), strict=True)
    index: list[Row] = [(volumes[i].entry.id, volumes[i].entry.patient, part) for i, part in pairs]
    replace_text(out / INDEX, csv_text(("id", "patient", "slice"), index))
    write_private(out / NAMES, csv_text(("id", "image"), [(v.entry.id, v.relative) for v in volumes]))
    said: dict[str, Json] = {
        **made,
        "columns": found.seen.columns,
        "rows": len(found.features),
        "encoder": card["encoder"],
        "method": card.get("method"),
        "weights_data_hash": card.get("data_hash"),
        "data_hash": found.cache.data_hash,
        "weights_licence": card.get("weights_licence"),
        "pooling": "mean over space of every scale, side by side",
    }
    write_json(out / CARD, said)
    if find_spec("pyarrow") is None:
        say(f"no {PARQUET}: it needs `pip install foveate[embed]`; {TABLE} has the same numbers")
    else:
        write_parquet(found, index, said, out / PARQUET)


def write_parquet(found: Embedded, index: Sequence[Row], said: Mapping[str, Json], path: Path) -> None:
    """The same as one table, a block of rows at a time."""
    import pyarrow
    from pyarrow import parquet

    width = found.features.shape[1]
    fields = [("id", pyarrow.string()), ("patient", pyarrow.string()), ("slice", pyarrow.int32())]
    schema = pyarrow.schema([*fields, ("features", pyarrow.list_(pyarrow.float32(), width))])
    schema = schema.with_metadata({"foveate": json.dumps(said, sort_keys=True)})

    def write(stream: BinaryIO) -> None:
        with parquet.ParquetWriter(stream, schema) as writer:
            for block in blocks(len(index)):
                columns = [list(column) for column in zip(*index[block], strict=True)]
                flat = pyarrow.array(np.ascontiguousarray(found.features[block]).reshape(-1))
                rows = pyarrow.FixedSizeListArray.from_arrays(flat, width)
                arrays = [pyarrow.array(c, f[1]) for c, f in zip(columns, fields, strict=True)]
                writer.write_table(pyarrow.Table.from_arrays([*arrays, rows], schema=schema))

    replace_file(path, write)
