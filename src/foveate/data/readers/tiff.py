"""TIFF as bytes: where its strips or tiles lie, and that each is as long as the header promises.

Pillow reads what an offset points to, whatever it is, and leaves black what no strip or tile covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

from foveate.data.readers.inflate import check_stream
from foveate.data.readers.refusals import RefusalError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANAR = 256, 257, 258, 259, 262, 277, 278, 284
STRIPS, STRIP_SIZES, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES = 273, 279, 322, 323, 324, 325
TABLES, SUBSAMPLING = 347, 530
RAW, JPEG, OLD_JPEG, DEFLATE = 1, 7, 6, frozenset({8, 32946})
SEPARATE, YCBCR = 2, 6
TYPES = {1: 1, 7: 1, 3: 2, 4: 4, 16: 8}  # of the whole numbers read here, to their bytes
MOST_VALUES = 1 << 24
WANTED = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANAR, TABLES, SUBSAMPLING}
    | {STRIPS, STRIP_SIZES, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES}
)


@final
@dataclass(frozen=True, slots=True)
class Directory:
    """The first directory of a file: its whole numbers, and the bytes that it takes up."""

    fields: dict[int, tuple[int, ...]]
    start: int
    end: int

    def one(self, tag: int, otherwise: int = 0) -> int:
        """The first number of a field."""
        return (self.fields.get(tag) or (otherwise,))[0]


@final
@dataclass(frozen=True, slots=True)
class Segment:
    """One strip or tile: where it lies, and how large it is unpacked; the last strip may be filled up."""

    start: int
    size: int
    columns: int
    rows: tuple[int, int]  # promised, filled up
    unpacked: tuple[int, int]  # bytes of them


def check_tiff(data: bytes) -> list[tuple[Segment, bytes]]:
    """Refuses a TIFF whose pixels are not all there; the JPEG streams in it are given back to be looked at.

    Raises:
        RefusalError: a strip or tile is missing, lies elsewhere, or is shorter or longer than promised.
    """
    directory = directory_of(data)
    kind = directory.one(COMPRESSION, RAW)
    if kind == OLD_JPEG:
        raise RefusalError("it is compressed as TIFF was before JPEG was defined in it; save it anew")
    segments = segments_of(directory, len(data))
    for segment in segments if kind in DEFLATE else ():
        packed = data[segment.start : segment.start + segment.size]
        check_stream(packed, segment.unpacked[0], segment.unpacked[1] - segment.unpacked[0])
    if kind != JPEG:
        return []
    tables = bytes(directory.fields.get(TABLES, ()))
    return [(each, _stream(tables, data[each.start : each.start + each.size])) for each in segments]


def _stream(tables: bytes, segment: bytes) -> bytes:
    """A JPEG stream that stands alone: its tables, without their end, before its own markers."""
    return tables[:-2] + segment[2:] if tables else segment


def directory_of(data: bytes) -> Directory:
    """The first directory of a file, which may be a BigTIFF."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in {b"+\0", b"\0+"}
    wide, entry, counted = (8, 20, 8) if big else (4, 12, 2)

    def number(at: int, size: int) -> int:
        if at < 0 or at + size > len(data):
            raise RefusalError("it is truncated: its directory goes on beyond its end")
        return int.from_bytes(data[at : at + size], order)

    start = number(8 if big else 4, wide)
    count = number(start, counted)
    end = start + counted + entry * count + wide
    fields: dict[int, tuple[int, ...]] = {}
    for at in range(start + counted, end - wide, entry):
        tag, kind, values = number(at, 2), number(at + 2, 2), number(at + 4, wide)
        if tag not in WANTED or kind not in TYPES or tag in fields:
            continue
        size = TYPES[kind]
        if values > min(MOST_VALUES, len(data)):
            raise RefusalError("its directory lists more strips or tiles than it can hold")
        first = at + 4 + wide if values * size <= wide else number(at + 4 + wide, wide)
        fields[tag] = tuple(number(first + size * i, size) for i in range(values))
    return Directory(fields, start, end)


def segments_of(directory: Directory, file_bytes: int) -> list[Segment]:
    """All strips or tiles, each inside the file and none over the directory."""
    tiled = TILES in directory.fields
    sizes = _grid(directory, tiled=tiled)
    starts = directory.fields.get(TILES if tiled else STRIPS, ())
    raw = directory.one(COMPRESSION, RAW) == RAW
    lengths = directory.fields.get(TILE_SIZES if tiled else STRIP_SIZES)
    if lengths is None and raw:  # writers before TIFF 6 leave them out
        lengths = tuple(unpacked[0] for _, _, unpacked in sizes)
    if len(starts) != len(sizes) or lengths is None or len(lengths) != len(sizes):
        raise RefusalError(f"its strips or tiles are {len(starts)} where its header promises {len(sizes)}")
    found = [
        Segment(start, length, *size) for start, length, size in zip(starts, lengths, sizes, strict=True)
    ]
    _check_apart(found)
    for each in found:
        over = each.start < directory.end and each.start + each.size > directory.start
        if over or each.start < TYPES[16] or each.size == 0 or each.start + each.size > file_bytes:
            raise RefusalError("it is truncated or damaged: a strip or tile lies beyond its pixels")
        if raw and each.size not in each.unpacked:
            raise RefusalError(
                f"a strip or tile of {each.size} bytes stands where its header promises {each.unpacked[0]}"
            )
    return found


def _check_apart(segments: list[Segment]) -> None:
    """Refuses strips or tiles that share a part; writers let equal ones be one."""
    places = sorted({(each.start, each.start + each.size) for each in segments})
    if any(first[1] > second[0] for first, second in pairwise(places)):
        raise RefusalError("it is damaged: strips or tiles lie over each other")


def _grid(directory: Directory, *, tiled: bool) -> list[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Of each strip or tile: its columns, its rows and its bytes, both as promised and filled up."""
    width, height = directory.one(WIDTH), directory.one(HEIGHT)
    samples = directory.one(SAMPLES, 1)
    planes = samples if directory.one(PLANAR, 1) == SEPARATE else 1
    columns, rows = width, directory.one(ROWS, height)
    across = 1
    if tiled:
        columns, rows = directory.one(TILE_WIDTH), directory.one(TILE_HEIGHT)
        across = -(-width // max(1, columns))
    elif not 0 < rows <= height:
        rows = height
    if min(width, height, columns, rows, samples) < 1:
        raise RefusalError("it is damaged: it has no pixels")
    down = -(-height // rows)
    if across * down * planes > MOST_VALUES:
        raise RefusalError("its directory lists more strips or tiles than it can hold")
    last = rows if tiled else height - rows * (down - 1)
    full = _bytes(directory, columns, rows, samples // planes)
    least = _bytes(directory, columns, last, samples // planes)
    plane = [(columns, (rows, rows), (full, full))] * (across * (down - 1))
    plane += [(columns, (last, rows), (least, full))] * across
    return plane * planes


def _bytes(directory: Directory, columns: int, rows: int, samples: int) -> int:
    """Unpacked bytes of a strip or tile."""
    bits = directory.fields.get(BITS) or (1,)
    if directory.one(PHOTOMETRIC) == YCBCR and samples == 3:
        across, down = (*directory.fields.get(SUBSAMPLING, ()), 2, 2)[:2]
        across, down = max(1, across), max(1, down)
        return -(-columns // across) * -(-rows // down) * (across * down + 2) * bits[0] // 8
    return rows * -(-columns * samples * bits[0] // 8)
