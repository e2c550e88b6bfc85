"""Who computes the table: this process, or several that it starts and that share the images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from foveate.commands.embed.config import EmbedConfig
from foveate.commands.embed.features import Embedded, Seen, jobs_of, joined, rows_of
from foveate.commands.embed.table import claim, compute, is_done, made_by, open_table
from foveate.core.types import Ending, FoveateError
from foveate.data.cache.volumes import Cache
from foveate.nets.weights import store as weights
from foveate.runtime.launch import run_processes
from foveate.train.progress import counted

RANK = "foveate.commands.embed.run:one_of_several"


def embedded(config: EmbedConfig, seen: Seen, cache: Cache, folder: Path) -> Embedded | Ending:
    """The features, computed where they are not there yet, or how several processes were stopped.

    Args:
        config: Of the command.
        seen: The encoder.
        cache: The images.
        folder: The cache that they are in, from which other processes read them.
    """
    out = Path(config.out)
    every_row = rows_of(seen.layout, cache)
    images, rows = joined(every_row)
    if not len(images):
        raise FoveateError(f"--data {config.data}: no image has a region in its label map.")
    made = made_by(seen, weights.checksum(weights.locate(config.run)), cache)
    claim(out, made, (len(images), sum(seen.encoder.channels)), len(cache))
    if config.devices == 1:
        groups = list(jobs_of(seen, cache))
        with counted("embedding", len(cache)) as advance:
            compute(seen, cache, every_row, groups, out, advance, config.num_workers)
    elif not is_done(out):
        ending = run_processes(RANK, replace(config, data=str(folder)), kept)
        if ending is not Ending.FINISHED:
            return ending
    return Embedded(seen=seen, cache=cache, features=open_table(out), images=images, rows=rows)


def kept(_out: Path) -> str:
    """What the same command does after an error."""
    return "The same command goes on: the images that are done are kept."
