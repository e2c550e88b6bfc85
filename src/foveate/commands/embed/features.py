"""Features of whole images, and of the slices of volumes: pooled maps of every scale, a row each, on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from foveate.core.contracts import VolumeReader
from foveate.core.files import read_json, write_json
from foveate.core.networks import Encoder
from foveate.core.types import Array, CropSpec, FoveateError, Json, Normalisation
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.nets.heads import pooled
from foveate.nets.weights.store import Card
from foveate.views.pipeline import make_views, normalise, with_channels

TABLE, STATE = "features.npy", "embed.json"
SAVE_SECONDS = 5.0
Table = np.memmap[tuple[int, int], np.dtype[np.float32]]


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """An encoder, and how it sees an image.

    Attributes:
        encoder: In evaluation mode, on its device.
        normalisation: The named step before it.
        grid: That whole images are sampled on.
        batch_size: Images at once.
    """

    encoder: Encoder
    normalisation: Normalisation
    grid: tuple[int, ...]
    batch_size: int

    @property
    def columns(self) -> dict[str, list[int]]:
        """Columns [first, end) of every scale."""
        ends = np.cumsum(self.encoder.channels).tolist()
        pairs = zip([0, *ends], ends, strict=False)
        return {f"stride_{s}": [a, b] for s, (a, b) in zip(self.encoder.strides, pairs, strict=True)}

    @torch.no_grad()
    def rows(self, volume: CachedVolume) -> Array:
        """Features (parts, D) of an image: one row, or one for each slice."""
        planes = volume.planes
        parts: Sequence[VolumeReader] = (
            [volume] if planes is None else [planes[i] for i in range(len(planes))]
        )
        device = next(self.encoder.parameters()).device
        found = []
        for start in range(0, len(parts), self.batch_size):
            some = [self.view(parts[i]) for i in range(start, min(start + self.batch_size, len(parts)))]
            images = with_channels(torch.cat(some)[:, None], self.encoder.in_channels)[:, 0].to(device)
            maps = self.encoder(normalise(images, self.normalisation))
            found.append(torch.cat([pooled(m) for m in maps], 1).float().cpu())
        return np.asarray(torch.cat(found).numpy())

    def view(self, part: VolumeReader) -> Tensor:
        """The whole image on the grid, (1, C, *grid) with values in [0, 1]."""
        whole = CropSpec(count=1, grid=self.grid)
        return make_views(part, 0, specs={"image": whole}, seed=0)["image"].images


@final
@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Features of a data set.

    Attributes:
        seen: The encoder that made them.
        cache: The images.
        features: A row for every image, or for every slice of one.
        images: For every row the number of its image.
        parts: For every row the number of its slice; 0 for a whole image.
    """

    seen: Seen
    cache: Cache
    features: Array
    images: Array
    parts: Array

    @property
    def patients(self) -> Array:
        """For every row the number of its patient; an image whose patient is not known is its own."""
        names = [v.patient or v.entry.patient or f"image {i}" for i, v in enumerate(self.cache)]
        return np.asarray(np.unique(names, return_inverse=True)[1][self.images])

    def volume(self, row: int) -> CachedVolume:
        """The image of a row."""
        return self.cache[int(self.images[row])]

    def name(self, row: int) -> str:
        """An image and its slice, for the terminal."""
        volume = self.volume(row)
        where = f", slice {self.parts[row]}" if volume.planes is not None else ""
        return f"{volume.relative or volume.entry.id}{where}"


def grid_of(card: Card, encoder: Encoder, asked: tuple[int, ...]) -> tuple[int, ...]:
    """The grid of whole images: as asked for, or that of the largest views."""
    views = (card.get("views") or {}).values()
    grid = asked or tuple(max(views, key=math.prod, default=()))
    stride = encoder.strides[-1]
    if len(grid) != card["dimension"] or any(n < stride or n % stride for n in grid):
        raise FoveateError(
            f"--grid {','.join(map(str, grid)) or 'is not known: the card of --run names no views'}; "
            f"accepted: {card['dimension']} multiples of {stride}."
        )
    return grid


def parts_of(volume: CachedVolume) -> int:
    """Rows of an image."""
    return 1 if volume.planes is None else len(volume.planes)


def place_rows(cache: Cache) -> tuple[Array, Array]:
    """For every row the number of its image, and that of its slice (0 for a whole image)."""
    counts = [parts_of(volume) for volume in cache]
    images = np.repeat(np.arange(len(counts)), counts)
    return images, np.concatenate([np.arange(count) for count in counts])


def made_by(seen: Seen, weights_hash: str, cache: Cache) -> dict[str, Json]:
    """What decides on the numbers: another value, other features."""
    contents = blake2b(digest_size=16)
    for volume in cache:
        entry = volume.entry
        ends = " ".join(map(str, (entry.low, entry.high, *entry.windows)))
        contents.update(f"{entry.content_hash} {ends}\n".encode())
    return {
        "weights": weights_hash,
        "grid": list(seen.grid),
        "normalisation": seen.normalisation,
        "images": contents.hexdigest(),
        "cut": [list(volume.cut) if volume.cut else None for volume in [cache[0]]],
    }


def compute(seen: Seen, made: dict[str, Json], cache: Cache, out: Path, advance: Callable[[], None]) -> Array:
    """The table of features (rows, D), a memory map; goes on where an earlier call stopped."""
    counts = [parts_of(volume) for volume in cache]
    ends = np.cumsum(counts)
    shape = (int(ends[-1]), sum(seen.encoder.channels))
    table, done = open_table(out, made, shape)
    for _ in range(done):
        advance()
    written = time.monotonic()
    for number in range(done, len(cache)):
        table[ends[number] - counts[number] : ends[number]] = seen.rows(cache[number])
        advance()
        if time.monotonic() - written > SAVE_SECONDS or number + 1 == len(cache):
            table.flush()  # before it counts as done
            write_json(out / STATE, {"made": made, "done": number + 1})
            written = time.monotonic()
    return table


def open_table(out: Path, made: dict[str, Json], shape: tuple[int, int]) -> tuple[Table, int]:
    """The table to write into, and how many images are done; refuses features that were made otherwise."""
    before, path = read_json(out / STATE), out / TABLE
    if before is not None:
        if before.get("made") != made:
            known = before.get("made", {})
            changed = [key for key, value in made.items() if known.get(key) != value]
            raise FoveateError(
                f"--out {out} holds features made otherwise ({', '.join(changed)} differ); accepted: a new "
                "folder, or the same weights, images and settings to go on."
            )
        table: Table = np.load(path, mmap_mode="r+", allow_pickle=False)
        if table.shape == shape:
            return table, int(before["done"])
    out.mkdir(parents=True, exist_ok=True)
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    write_json(out / STATE, {"made": made, "done": 0})
    return table, 0


def blocks(count: int, size: int = 1024) -> Iterator[slice]:
    """Slices that cover a number of rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
