"""The table of features on disk: filled by one process or several, and where it was left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

import numpy as np

from foveate.commands.embed.features import Job, Seen, fill
from foveate.commands.embed.layout import Rows
from foveate.core.files import read_json, reserve, write_json
from foveate.core.types import Array, FoveateError, Json
from foveate.data.cache.volumes import Cache

TABLE, STATE, DONE = "features.npy", "embed.json", "done.npy"
SAVE_SECONDS = 5.0


def made_by(seen: Seen, weights_hash: str, cache: Cache) -> dict[str, Json]:
    """What decides on the numbers: another value, other features."""
    contents = blake2b(digest_size=16)
    for volume in cache:
        entry = volume.entry
        ends = " ".join(map(str, (entry.low, entry.high, *entry.windows)))
        maps = " ".join(each.content_hash for each in entry.maps)
        contents.update(f"{entry.content_hash} {ends} {maps}\n".encode())
    return {
        "weights": weights_hash,
        "normalisation": seen.normalisation,
        "images": contents.hexdigest(),
        "cut": [list(volume.cut) if volume.cut else None for volume in [cache[0]]],
        **{key: list(value) if key == "grid" else value for key, value in asdict(seen.layout).items()},
    }


def claim(out: Path, made: dict[str, Json], shape: tuple[int, int], images: int) -> None:
    """Make the table, or check that the one that is there was made alike.

    Raises:
        FoveateError: it was made otherwise.
    """
    before = read_json(out / STATE)
    if before is not None and before.get("made") != made:
        known = before.get("made", {})
        changed = [key for key, value in made.items() if known.get(key) != value]
        raise FoveateError(
            f"--out {out} holds features made otherwise ({', '.join(changed)} differ); accepted: a new "
            "folder, or the same weights, images and settings to go on."
        )
    if before is not None and (out / DONE).is_file() and (out / TABLE).is_file():
        return
    out.mkdir(parents=True, exist_ok=True)
    np.lib.format.open_memmap(out / TABLE, mode="w+", dtype=np.float32, shape=shape).flush()
    with (out / TABLE).open("r+b") as stream:
        reserve(stream.fileno(), (out / TABLE).stat().st_size)
    np.save(out / DONE, np.zeros(images, bool))
    write_json(out / STATE, {"made": made})  # last: from here on it can be gone on with


def compute(
    seen: Seen,
    cache: Cache,
    every_row: Sequence[Rows],
    mine: Sequence[Sequence[Job]],
    out: Path,
    advance: Callable[[], None],
    num_workers: int = 0,
) -> None:
    """Fill the rows of some groups of `jobs_of`, but those that are done."""
    table = np.load(out / TABLE, mmap_mode="r+", allow_pickle=False)
    done = np.load(out / DONE, mmap_mode="r+", allow_pickle=False)
    open_ones = [group for group in mine if not all(done[number] for number in group[0].images)]
    ready = sum(len(group[0].images) for group in mine) - sum(len(group[0].images) for group in open_ones)
    for _ in range(ready):
        advance()
    waiting: list[range] = []
    saved = time.monotonic()

    def save() -> None:
        table.flush()  # before they count as done
        for images in waiting:
            done[images.start : images.stop] = True
        done.flush()
        waiting.clear()

    def finished(images: range) -> None:
        nonlocal saved
        waiting.append(images)
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
        for _ in images:
            advance()

    try:
        fill(seen, cache, every_row, table, open_ones, finished, num_workers)
    finally:
        save()


def is_done(out: Path) -> bool:
    """Whether every image has its rows."""
    return bool(np.load(out / DONE, allow_pickle=False).all())


def open_table(out: Path) -> Array:
    """The finished table, a memory map."""
    return np.asarray(np.load(out / TABLE, mmap_mode="r", allow_pickle=False))
