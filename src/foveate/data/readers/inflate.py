"""Fills a buffer with exactly the bytes that a header promises, unpacked here so that every byte is counted.

Nothing is unpacked beyond what is promised and one byte more, so a small file cannot become a large array; a
stream is followed to its end, where its own checksum and length are compared. What follows a complete stream
is ignored, as gzip does.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable
from io import BufferedReader, BytesIO
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from foveate.data.readers.refusals import DEFLATE_RATIO, RefusalError

CHUNK = 1 << 18  # bytes read at once: large enough that Python's share of the time is small
PIECE = 1 << 20  # bytes unpacked at once
ZLIB_OR_GZIP, GZIP = (
    47,
    31,
)  # zlib's `wbits`: which wrapper, and so which checksum, is around the deflate stream


class Source(Protocol):
    """Bytes in their order."""

    def fill(self, out: memoryview) -> int:
        """Fills `out`; fewer bytes than it has room for only at the end."""

    def why(self) -> str:
        """What is wrong at the end that was met; "" where nothing is."""


class Member(Protocol):
    """One compressed stream."""

    eof: bool

    def decompress(self, data: bytes, most: int) -> bytes:
        """At most `most` bytes; `data` may be left for later."""

    def wants(self) -> bool:
        """Whether it can go on only with further bytes."""

    def rest(self) -> bytes:
        """Bytes that follow its end."""


@final
class Plain:
    """Bytes as they are in a file."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file

    def fill(self, out: memoryview) -> int:
        """Fills `out` from where the file is."""
        done = 0
        while done < len(out) and (count := self._file.readinto(out[done:])):
            done += count
        return done

    def why(self) -> str:
        """A file without a checksum can only be too short."""
        return ""


@final
class Deflate:
    """A zlib or gzip stream; zlib compares the checksum, and gzip's length, at its end."""

    def __init__(self, wbits: int) -> None:
        self._stream = zlib.decompressobj(wbits)
        self.eof = False

    def decompress(self, data: bytes, most: int) -> bytes:
        """At most `most` bytes."""
        found = self._stream.decompress(self._stream.unconsumed_tail or data, most)
        self.eof = self._stream.eof
        return found

    def wants(self) -> bool:
        """Whether all that it was given is used."""
        return not self._stream.unconsumed_tail

    def rest(self) -> bytes:
        """Bytes that follow its end."""
        return self._stream.unused_data


@final
class Bzip2:
    """A bzip2 stream, which has a checksum of each block and of all."""

    def __init__(self) -> None:
        self._stream = bz2.BZ2Decompressor()
        self.eof = False

    def decompress(self, data: bytes, most: int) -> bytes:
        """At most `most` bytes."""
        found = self._stream.decompress(data, most)
        self.eof = self._stream.eof
        return found

    def wants(self) -> bool:
        """Whether all that it was given is used."""
        return self._stream.needs_input

    def rest(self) -> bytes:
        """Bytes that follow its end."""
        return self._stream.unused_data


@final
class Packed:
    """The bytes of one compressed stream, or of all that follow one another and begin with `magic`."""

    def __init__(self, file: BufferedReader, fresh: Callable[[], Member], magic: bytes = b"") -> None:
        self._file, self._fresh, self._magic = file, fresh, magic
        self._member, self._read_ahead = fresh(), b""
        self._ended, self._why = False, ""

    def fill(self, out: memoryview) -> int:
        """Unpacks until `out` is full or the data end."""
        done = 0
        while done < len(out) and (piece := self._piece(min(PIECE, len(out) - done))):
            out[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def why(self) -> str:
        """Whether the data are truncated or damaged."""
        return self._why

    def _piece(self, most: int) -> bytes:
        while not self._ended:
            if self._member.eof and not self._begin_next():
                break
            data = self._more() if self._member.wants() else b""
            try:
                piece = self._member.decompress(data, most)
            except (zlib.error, OSError, EOFError):
                return self._end("damaged")
            if piece:
                return piece
            if not data and self._member.wants() and not self._member.eof:
                return self._end("truncated")
        return b""

    def _more(self) -> bytes:
        data, self._read_ahead = self._read_ahead or self._file.read(CHUNK), b""
        return data

    def _begin_next(self) -> bool:
        """Goes on with the stream that follows, if one does; zeros between streams are padding."""
        following = self._member.rest().lstrip(b"\0")
        while self._magic and len(following) < len(self._magic) and (more := self._file.read(CHUNK)):
            following = (following + more).lstrip(b"\0")
        if not self._magic or not following.startswith(self._magic):
            self._end("")
            return False
        self._member, self._read_ahead = self._fresh(), following
        return True

    def _end(self, why: str) -> bytes:
        self._ended, self._why = True, why
        return b""


def zlib_stream(file: BufferedReader) -> Source:
    """One stream as MetaImage has it: zlib's, or gzip's, which ITK also takes."""
    return Packed(file, lambda: Deflate(ZLIB_OR_GZIP))


def gzip_streams(file: BufferedReader) -> Source:
    """A gzip file, of one member or several."""
    return Packed(file, lambda: Deflate(GZIP), b"\x1f\x8b")


def bzip2_streams(file: BufferedReader) -> Source:
    """A bzip2 file, of one stream or several, as parallel packers write it."""
    return Packed(file, Bzip2, b"BZh")


def skip(source: Source, count: int) -> int:
    """Passes over bytes; how many there were."""
    done = 0
    room = memoryview(bytearray(min(count, PIECE)))
    while done < count and (found := source.fill(room[: count - done])):
        done += found
    return done


def filled(source: Source, count: int) -> NDArray[np.uint8]:
    """The next `count` bytes, all of them.

    Raises:
        RefusalError: there are fewer, or they are damaged.
    """
    array = np.empty(count, np.uint8)
    found = source.fill(array.data)
    if found < count:
        state = {"": "end early", "truncated": "are truncated", "damaged": "are damaged"}[source.why()]
        raise RefusalError(f"its data {state}: {found} of the {count} bytes that its header promises")
    return array


def check_end(source: Source, promised: int, tolerated: int = 0) -> None:
    """Follows a source to its end, where a checksum stands.

    Raises:
        RefusalError: more than `tolerated` bytes follow the promised ones, or the stream does not end well.
    """
    if skip(source, tolerated + 1) > tolerated:
        raise RefusalError(f"its data are more than the {promised} bytes that its header promises")
    if source.why():
        raise RefusalError(f"its compressed data are {source.why()}: their checksum is missing or wrong")


def check_stream(packed: bytes, promised: int, tolerated: int = 0) -> None:
    """Refuses a zlib stream that is damaged or unpacks to another length; nothing of it is kept.

    Raises:
        RefusalError: it is cut or damaged, or not the promised bytes and at most `tolerated` more.
    """
    source = zlib_stream(BufferedReader(BytesIO(packed)))
    found = skip(source, promised)
    if found < promised:
        state = f"are {source.why()}" if source.why() else "end early"
        raise RefusalError(f"its data {state}: {found} of the {promised} bytes that its header promises")
    check_end(source, promised, tolerated)


def unpacked(packed: bytes, promised: int) -> NDArray[np.uint8]:
    """The bytes of one zlib stream.

    Raises:
        RefusalError: it is cut or damaged, or not the promised bytes.
    """
    if promised > DEFLATE_RATIO * len(packed):
        raise RefusalError(f"its data end early: {len(packed)} bytes cannot hold the {promised} it promises")
    source = zlib_stream(BufferedReader(BytesIO(packed)))
    found = filled(source, promised)
    check_end(source, promised)
    return found
