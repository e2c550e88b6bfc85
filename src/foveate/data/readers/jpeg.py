"""JPEG as bytes: its frame, its scans and their ends, and a copy that tells whether they are complete.

A scan has no checksum and no length, and libjpeg fills what is missing at its end with grey. But a decoder
reads the bytes between the last block and the next marker only where blocks are missing: if such bytes are
put there and the pixels change, the scan was cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from foveate.data.readers.refusals import RefusalError

START, END = b"\xff\xd8", b"\xff\xd9"
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that begin a frame
LOSSLESS, JPEG_LS = frozenset({0xC3, 0xC7, 0xCB, 0xCF}), 0xF7
ARITHMETIC = frozenset(range(0xC9, 0xD0))  # may leave zeros out at the end of a scan
SCAN, INTERVAL = 0xDA, 0xDD
ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without data
SCAN_END = re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]")
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
POISON = bytes((37 * number * number + 91 * number + 53) % 255 for number in range(96))


@final
@dataclass(frozen=True, slots=True)
class Frame:
    """What a stream says of its picture, where the data of each scan end, and where the stream does."""

    process: int
    precision: int
    rows: int
    columns: int
    components: tuple[tuple[int, int, int], ...]  # name, samples across, samples down
    scans: tuple[int, ...]
    end: int


@final
class _Walk:
    """Goes from marker to marker."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.interval = data, len(START), 0
        self.process, self.precision, self.rows, self.columns = 0, 0, 0, 0
        self.components: tuple[tuple[int, int, int], ...] = ()
        self.scans: list[int] = []

    def frame(self) -> Frame:
        """All of it, to the marker of its end."""
        if not self.data.startswith(START):
            raise RefusalError("its compressed data do not begin as JPEG does")
        while (marker := self._marker()) != END[1]:
            if marker not in ALONE:
                self._segment(marker)
        if not self.scans or not self.rows or not self.columns:
            raise RefusalError("its compressed data are damaged: they hold no picture")
        shape = self.process, self.precision, self.rows, self.columns
        return Frame(*shape, self.components, tuple(self.scans), self.at)

    def _marker(self) -> int:
        start = self.at
        while self.at < len(self.data) and self.data[self.at] == 0xFF:
            self.at += 1
        if self.at >= len(self.data):
            raise RefusalError("its compressed data are truncated: their end marker is missing")
        if self.at == start:
            raise RefusalError("its compressed data are damaged")
        self.at += 1
        return self.data[self.at - 1]

    def _segment(self, marker: int) -> None:
        length = int.from_bytes(self.data[self.at : self.at + 2], "big")
        content = self.data[self.at + 2 : self.at + length]
        if length < 2 or len(content) != length - 2:
            raise RefusalError("its compressed data are truncated or damaged")
        self.at += length
        if marker in FRAMES or marker == JPEG_LS:
            self._begin(marker, content)
        elif marker == INTERVAL:
            self.interval = int.from_bytes(content[:2], "big")
        elif marker == SCAN:
            self._scan(content)

    def _begin(self, marker: int, content: bytes) -> None:
        if self.components or len(content) < 6 or len(content) < 6 + 3 * content[5]:
            raise RefusalError("its compressed data are damaged")
        self.process, self.precision = marker, content[0]
        self.rows, self.columns = (int.from_bytes(content[at : at + 2], "big") for at in (1, 3))
        named = (content[at : at + 2] for at in range(6, 6 + 3 * content[5], 3))
        self.components = tuple((name, sampling >> 4, sampling & 15) for name, sampling in named)
        if any(not across or not down for _, across, down in self.components):
            raise RefusalError("its compressed data are damaged")

    def _scan(self, content: bytes) -> None:
        found = SCAN_END.search(self.data, self.at)
        if found is None:
            raise RefusalError("its compressed data are truncated: their end marker is missing")
        if self.interval and self.components and content and self.process != JPEG_LS:
            names = content[1 : 1 + 2 * content[0] : 2]
            expected = -(-self._units(names) // self.interval) - 1
            restarts = len(RESTART.findall(self.data, self.at, found.start()))
            if restarts != expected:
                raise RefusalError(
                    f"its compressed data have {restarts} restart markers where it promises {expected}"
                )
        self.at = found.start()
        self.scans.append(self.at)

    def _units(self, names: bytes) -> int:
        """How many units, of one or several blocks, a scan has."""
        side = 1 if self.process in LOSSLESS else 8
        most = [max(sampling[axis] for sampling in self.components) for axis in (1, 2)]
        size = [self.columns, self.rows]
        if len(names) != 1:
            return _blocks(size[0], side * most[0]) * _blocks(size[1], side * most[1])
        own = next((each for each in self.components if each[0] == names[0]), None)
        if own is None:
            raise RefusalError("its compressed data are damaged")
        across, down = (_blocks(size[axis] * own[axis + 1], most[axis]) for axis in (0, 1))
        return _blocks(across, side) * _blocks(down, side)


def _blocks(size: int, side: int) -> int:
    return -(-size // side)


def frame_of(data: bytes) -> Frame:
    """What a stream says of its picture.

    Raises:
        RefusalError: it does not go from its first to its end marker.
    """
    return _Walk(data).frame()


def poisoned(data: bytes, frame: Frame) -> bytes | None:
    """A copy that decodes to the same pixels if no scan is cut; None where that cannot be told."""
    if frame.process in ARITHMETIC:
        return None
    cuts = [0, *frame.scans, len(data)]
    parts = [data[first:last] for first, last in pairwise(cuts)]
    return POISON.join(parts)


CUT = "its compressed data end before its pixels do: they are truncated or damaged"
