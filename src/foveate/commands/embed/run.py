"""`foveate embed`: a table of features, and what it says: neighbours, duplicates, outliers, what to label."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from foveate.commands.embed.config import SPEC, EmbedConfig
from foveate.commands.embed.features import Embedded, jobs_of, rows_of
from foveate.commands.embed.findings import report
from foveate.commands.embed.images import features_of, open_encoder, open_images, prepared_images
from foveate.commands.embed.share import embedded
from foveate.commands.embed.table import STATE, TABLE, compute, made_by
from foveate.commands.embed.write import write_tables
from foveate.core.config import read_yaml
from foveate.core.files import json_with, read_json
from foveate.core.processes.signals import stop_signals
from foveate.core.types import Ending, FoveateError
from foveate.nets.weights import store as weights
from foveate.runtime.report.build import write_page
from foveate.runtime.resources.gpus import check_gpus, take_gpu
from foveate.train.logging import CONSOLE, say
from foveate.train.progress import counted

STOPPED = "stopped by a signal; the same command goes on: the images that are done are kept."


def run_embed(config: EmbedConfig) -> Ending:
    """Embed, and say what was found; the exit code is 1 if an image could not be used."""
    found = embed_all(config)
    if isinstance(found, Ending):
        say(STOPPED)
        return found
    return Ending.INCOMPLETE if found.cache.rejects else Ending.FINISHED


def embed(config: EmbedConfig) -> Embedded:
    """The same from Python.

    Raises:
        FoveateError: a signal stopped it.
    """
    found = embed_all(config)
    if isinstance(found, Ending):
        raise FoveateError(STOPPED)
    return found


def embed_all(config: EmbedConfig) -> Embedded | Ending:
    """Compute the features, write them and the lists, print the lists with names; or how it was stopped."""
    check_gpus(config)
    if config.gpus:
        take_gpu(config.accelerator, config.gpus[0])
    card = weights.read(config.run)[1]
    seen, out = open_encoder(config, card), Path(config.out)
    images = open_images(config, card)
    try:
        found = embedded(config, seen, images.cache, images.folder)
        if isinstance(found, Ending):
            return found
        found = replace(found, split=images.split)
        write_tables(found, card, json_with("made", out / STATE)["made"], out)
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None
    count, width = found.features.shape
    say(f"{count} rows of {width} features from {len(found.cache)} images: {out / TABLE}")
    asked = features_of(Path(config.query), found, card, out) if config.query else None
    report(found, config, asked)
    say(f"on one page: {write_page(out)}")
    return found


def one_of_several(path: Path) -> Ending:
    """The share of one process of several, whose configuration is in a file; images are in the cache."""
    rank = int(os.environ["LOCAL_RANK"])
    CONSOLE.quiet = True  # whoever started this has said it all
    config = SPEC.resolve(read_yaml(path), {})
    out = Path(config.out)
    if config.accelerator == "cuda":
        take_gpu("cuda", config.gpus[rank] if config.gpus else rank)
    card = weights.read(config.run)[1]
    seen = open_encoder(config, card)
    cache = prepared_images(Path(config.data), config, card)
    made = made_by(seen, weights.checksum(weights.locate(config.run)), cache)
    if (read_json(out / STATE) or {}).get("made") != made:
        raise FoveateError(
            f"--data: the cache {config.data} changed meanwhile; accepted: the same command again, alone."
        )
    mine = list(jobs_of(seen, cache))[rank :: config.devices]
    count = sum(len(group[0].images) for group in mine)
    CONSOLE.quiet = rank > 0
    with stop_signals() as left, counted("embedding, the first share", count, active=rank == 0) as advance:

        def advance_or_stop() -> None:
            advance()
            if left["order"]:  # what is done is kept
                raise KeyboardInterrupt

        try:
            rows = rows_of(seen.layout, cache)
            compute(seen, cache, rows, mine, out, advance_or_stop, config.num_workers)
        except KeyboardInterrupt:
            return Ending.REQUEUE if left["order"] > 1 else Ending.STOPPED
    return Ending.FINISHED
