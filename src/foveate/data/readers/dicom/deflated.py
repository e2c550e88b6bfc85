"""The deflated transfer syntax: what follows the meta information is one raw deflate stream.

pydicom unpacks it whole, whatever its size, so it is unpacked here, up to a limit, and handed on as a file
that is not compressed. Raw deflate has no checksum: its end is all that tells that nothing is missing.
"""

from __future__ import annotations

from io import BufferedReader, BytesIO
from pathlib import Path

from foveate.data.readers import inflate
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.regular import open_regular

MAGIC_AT, MAGIC, META_GROUP = 128, b"DICM", b"\x02\x00"
SYNTAX = b"\x02\x00\x10\x00UI"
DEFLATED, PLAIN = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1"
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
META_BYTES, MOST_META_BYTES = 4096, 1 << 20
FIRST_BYTES = 8  # of an element: tag, kind and length, where that is short
HEADER_BYTES = 1 << 26  # a header may have this much before, or beside, its pixels
PIXEL_BYTES = 8  # at most, of all samples of a pixel
RAW_DEFLATE = -15


def readable(path: Path, pixels: int | None = None) -> Path | BytesIO:
    """What pydicom may read: the file, or the file unpacked.

    Args:
        path: The file.
        pixels: How many its header promises; None where no more than its header is wanted.

    Raises:
        RefusalError: it unpacks to more than its header promises, or its data are cut or damaged.
    """
    with open_regular(path) as file:
        start, value = _deflated_from(file)
        if not start:
            return path
        file.seek(0)
        head = bytearray(file.read(start))
        head[value : value + len(DEFLATED)] = PLAIN.ljust(len(DEFLATED), b"\0")
        source = inflate.Packed(file, lambda: inflate.Deflate(RAW_DEFLATE))
        if pixels is None:
            return BytesIO(head + _unpacked(source, HEADER_BYTES, exact=False))
        return BytesIO(head + _unpacked(source, HEADER_BYTES + PIXEL_BYTES * pixels, exact=True))


def _unpacked(source: inflate.Source, most: int, *, exact: bool) -> bytearray:
    """All bytes of a stream, which may be longer than `most` only where its end is not wanted."""
    found, room = bytearray(), memoryview(bytearray(inflate.PIECE))
    while len(found) <= most and (count := source.fill(room)):
        found += room[:count]
    if source.why():
        raise RefusalError(f"its compressed data are {source.why()}")
    if exact and len(found) > most:
        raise RefusalError(
            f"its data unpack to more than {most} bytes, which is more than its header promises"
        )
    return found


def _deflated_from(file: BufferedReader) -> tuple[int, int]:
    """Where the stream of a deflated file begins, and where the name of its syntax stands; 0 for others."""
    head = file.read(META_BYTES)
    at, value = _meta_end(head)
    if at + FIRST_BYTES > len(head) == META_BYTES:
        head += file.read(MOST_META_BYTES)
        at, value = _meta_end(head)
    if at >= len(head) > MOST_META_BYTES:
        raise RefusalError("its DICOM header is damaged: its meta information does not end")
    return (at, value) if value else (0, 0)


def _meta_end(head: bytes) -> tuple[int, int]:
    """Where the meta information ends, and where in it the deflated syntax is named."""
    at = MAGIC_AT + len(MAGIC) if head[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC else 0
    value = 0
    while head[at : at + 2] == META_GROUP and at + FIRST_BYTES <= len(head):
        long = head[at + 4 : at + 6] in LONG
        first = at + (12 if long else 8)
        length = int.from_bytes(head[at + 8 : at + 12] if long else head[at + 6 : at + 8], "little")
        if head.startswith(SYNTAX, at) and head[first : first + length].rstrip(b"\0 ") == DEFLATED:
            value = first
        at = first + length
    return at, value
