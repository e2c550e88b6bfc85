"""PNG as bytes: every chunk whole, and exactly as many unpacked bytes as the header promises.

Pillow takes a stream that ends early for a picture whose other rows are black.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from foveate.data.readers.inflate import unpacked
from foveate.data.readers.refusals import RefusalError

MAGIC = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES, FRAME_BYTES = 13, 12  # of IHDR; of a chunk beside its data: length, name, checksum
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type to numbers per pixel
WHOLE = ((0, 0, 1, 1),)
INTERLACED = (  # first x, first y, step in x, step in y of the seven passes
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def stored(data: bytes) -> bytes:
    """The same PNG, its pixels unpacked and counted here and not compressed any more.

    So they need not be unpacked twice, and the decoder gets nothing that was not counted.

    Raises:
        RefusalError: a chunk is cut or its checksum is wrong, or the pixels are fewer or more than promised.
    """
    chunks = list(_chunks(data))
    names = [name for name, _ in chunks]
    if names[:1] != [b"IHDR"] or len(chunks[0][1]) != HEADER_BYTES or names[-1] != b"IEND":
        raise RefusalError("it is truncated: its last chunk is missing")
    if b"IDAT" not in names:
        raise RefusalError("it is damaged: it has no pixels")
    packed = b"".join([content for name, content in chunks if name == b"IDAT"])
    rows = zlib.compress(unpacked(packed, promised_bytes(bytes(chunks[0][1]))).data, 0)
    at = names.index(b"IDAT")
    kept = [each for each in chunks[at:] if each[0] != b"IDAT"]
    return MAGIC + b"".join(_framed(*each) for each in (*chunks[:at], (b"IDAT", memoryview(rows)), *kept))


def _framed(name: bytes, content: memoryview) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return b"".join([len(content).to_bytes(4, "big"), name, content, checksum.to_bytes(4, "big")])


def promised_bytes(header: bytes) -> int:
    """Bytes of all rows, each with the number of its filter, that the data of IHDR promise."""
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
    bits, colour, interlace = header[8], header[9], header[12]
    if colour not in SAMPLES:
        raise RefusalError("its kind of colour is unknown")
    total = 0
    for left, top, across, down in INTERLACED if interlace else WHOLE:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * SAMPLES[colour] * bits // 8))
    return total


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and data of each chunk to the last one; what follows it is no part of the picture."""
    view, at, name = memoryview(data), len(MAGIC), b""
    while name != b"IEND" and at < len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + length + FRAME_BYTES
        if end > len(data):
            raise RefusalError("it is truncated: a chunk goes on beyond its end")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise RefusalError("it is damaged: a checksum is wrong")
        yield name, view[at + 8 : end - 4]
        at = end
