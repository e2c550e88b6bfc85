"""What MetaImage and NRRD have in common: a header of lines, its numbers, and what it promises of voxels.

Only lines that cannot be understood in two ways are taken: a parser elsewhere that splits them differently
would see another file than the one that is read here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import Literal

import numpy as np

from foveate.core.types import Array
from foveate.data.readers.refusals import RefusalError

HEADER_BYTES = 1 << 22
MOST_AXES = 16
MOST_SKIPPED = 1 << 30  # bytes or lines before the voxels: more is no header of another format
BLANKS = " \t"
WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)
DECIMAL = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,4})?|nan|inf)", re.ASCII | re.IGNORECASE)

Packing = Literal["raw", "zlib", "gzip", "bzip2", "text", "hex"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a header says of its voxels."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]  # as stored, with its byte order
    affine: Array  # from array index to LPS millimetres, (4, 4)
    packing: Packing
    components: int = 1
    file: str = ""  # the name of the file with the voxels; "": they follow the header
    line_skip: int = 0  # lines, then bytes, that stand before the voxels
    byte_skip: int = 0
    at_end: bool = False  # the voxels are the last bytes of their file

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels, unpacked."""
        return math.prod(self.shape) * self.components * self.dtype.itemsize


def lines_of(file: BufferedReader) -> Iterator[str]:
    """The lines of a header, without their ends; the file is left after the last one taken.

    Raises:
        RefusalError: the header is too long, or holds what belongs to no text.
    """
    left = HEADER_BYTES
    while line := file.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise RefusalError(f"its header is longer than {HEADER_BYTES} bytes, or not a header at all")
        yield _text(line)


def _text(line: bytes) -> str:
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    if any((code < 0x20 and code != 0x09) or code == 0x7F for code in text):
        raise RefusalError("its header is damaged or not text: it holds control characters")
    return text.decode("utf-8", "surrogateescape").rstrip(BLANKS)


def damaged(field: str, accepted: str) -> RefusalError:
    """The refusal of a field; `field` is a word of the format, never of the file."""
    return RefusalError(f"its header is damaged: {field} must be {accepted}")


def whole(text: str, field: str, low: int, high: int = 1 << 53) -> int:
    """A whole number within bounds."""
    if not WHOLE.fullmatch(text) or not low <= int(text) <= high:
        raise damaged(field, f"a whole number from {low} to {high}")
    return int(text)


def wholes(text: str, field: str, count: int) -> tuple[int, ...]:
    """As many whole numbers, none below 0."""
    words = text.split()
    if len(words) != count:
        raise damaged(field, f"{count} whole numbers")
    return tuple(whole(word, field, 0) for word in words)


def decimals(words: Sequence[str], field: str, count: int) -> tuple[float, ...]:
    """As many numbers, which may be NaN where the caller allows it."""
    if len(words) != count or not all(DECIMAL.fullmatch(word) for word in words):
        raise damaged(field, f"{count} numbers")
    return tuple(map(float, words))


def finite(words: Sequence[str], field: str, count: int) -> tuple[float, ...]:
    """As many numbers, none of them NaN or infinite."""
    found = decimals(words, field, count)
    if not all(map(math.isfinite, found)):
        raise damaged(field, f"{count} finite numbers")
    return found
