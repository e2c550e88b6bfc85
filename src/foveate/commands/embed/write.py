"""The files beside the table: what its rows are, the card, the names for the owner alone, and a Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np

from foveate.commands.embed.features import Embedded
from foveate.commands.embed.likeness import blocks
from foveate.commands.embed.table import TABLE
from foveate.core.files import csv_text, replace_file, replace_text, write_json
from foveate.core.types import Array, Json
from foveate.nets.weights import store as weights
from foveate.runtime.folder import write_private
from foveate.train.logging import say

INDEX, CARD, PARQUET = "rows.csv", "card.json", "features.parquet"
NAMES = "private/names.csv"
Column = Sequence[str] | Array


def columns_of(found: Embedded) -> dict[str, Column]:
    """What is known of every row, by name: salted hashes of image and patient, slice, region and place."""
    entries = [volume.entry for volume in found.cache]
    known: dict[str, Column] = {
        "id": [entries[i].id for i in found.images.tolist()],
        "patient": [entries[i].patient for i in found.images.tolist()],
        "slice": found.parts,
    }
    layout = found.seen.layout
    if layout.regions:
        known["label"] = found.rows.labels
    elif layout.tiles or layout.grid_mm:
        middles = np.round(found.rows.middles, 3)
        known |= {f"{axis}_mm": middles[:, i] for i, axis in enumerate("xyz"[: middles.shape[1]])}
    return known


def write_tables(found: Embedded, card: weights.Card, made: Mapping[str, Json], out: Path) -> None:
    """All of them."""
    columns = columns_of(found)
    replace_text(out / INDEX, csv_text(columns, zip(*columns.values(), strict=True)))
    names = [(volume.entry.id, volume.relative) for volume in found.cache]
    write_private(out / NAMES, csv_text(("id", "image"), names))
    said: dict[str, Json] = {
        **made,
        "columns": found.seen.columns,
        "rows": len(found.features),
        "encoder": card["encoder"],
        "method": card.get("method"),
        "weights_data_hash": card.get("data_hash"),
        "data_hash": found.cache.data_hash,
        "weights_licence": card.get("weights_licence"),
        "pooling": pooling_of(found),
    }
    write_json(out / CARD, said)
    if find_spec("pyarrow") is None:
        say(f"no {PARQUET}: it needs `pip install 'foveate[embed]'`; {TABLE} has the same numbers")
    else:
        write_parquet(found.features, columns, said, out / PARQUET)


def pooling_of(found: Embedded) -> str:
    """What a row is the mean of."""
    layout = found.seen.layout
    over = "a region" if layout.regions else "a place" if layout.grid_mm else "space"
    return f"mean over {over} of every scale, side by side"


def write_parquet(
    features: Array, columns: Mapping[str, Column], said: Mapping[str, Json], path: Path
) -> None:
    """The same as one table, a block of rows at a time."""
    import pyarrow
    from pyarrow import parquet

    width = features.shape[1]
    kinds = {
        name: pyarrow.string()
        if isinstance(column, list)
        else pyarrow.float64()
        if name.endswith("_mm")
        else pyarrow.int32()
        for name, column in columns.items()
    }
    fields = [*kinds.items(), ("features", pyarrow.list_(pyarrow.float32(), width))]
    schema = pyarrow.schema(fields).with_metadata({"foveate": json.dumps(said, sort_keys=True)})

    def write(stream: BinaryIO) -> None:
        with parquet.ParquetWriter(stream, schema) as writer:
            for block in blocks(len(features)):
                flat = pyarrow.array(np.ascontiguousarray(features[block]).reshape(-1))
                rows = pyarrow.FixedSizeListArray.from_arrays(flat, width)
                arrays = [pyarrow.array(column[block], kinds[name]) for name, column in columns.items()]
                writer.write_table(pyarrow.Table.from_arrays([*arrays, rows], schema=schema))

    replace_file(path, write)
