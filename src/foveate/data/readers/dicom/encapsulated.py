"""Compressed frames: as many as the header promises, each whole and of its size, before they are decoded.

GDCM takes the size from the compressed data, whatever the header says, and libjpeg fills what a scan lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from foveate.data.readers import jpeg
from foveate.data.readers.pictures import check_jpeg
from foveate.data.readers.refusals import RefusalError

RLE, JPEG_2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.9"
BASELINE = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
CODESTREAM, TILE, STREAM_END = b"\xff\x4f\xff\x51", b"\xff\x90", b"\xff\xd9"
RLE_HEADER, MOST_SEGMENTS = 64, 15


@final
@dataclass(frozen=True, slots=True)
class Promise:
    """What a header says of its pixels."""

    rows: int
    columns: int
    frames: int
    samples: int
    bits: int  # allocated


def checked_frames(pixel_data: bytes, promise: Promise, syntax: str) -> list[bytes]:
    """The compressed frames.

    Raises:
        RefusalError: there are more or fewer than promised, or one is cut or of another size.
    """
    from pydicom.encaps import generate_frames

    frames: list[bytes] = list(generate_frames(pixel_data, number_of_frames=promise.frames))
    if len(frames) != promise.frames:
        raise RefusalError(f"it holds {len(frames)} frames where its header promises {promise.frames}")
    check = _check_of(syntax)
    for frame in frames:
        check(frame, promise)
    return frames


def _check_of(syntax: str) -> Callable[[bytes, Promise], None]:
    if syntax == RLE:
        return _check_rle
    if syntax.startswith(JPEG_2000):
        return _check_jpeg_2000
    return _check_baseline if syntax in BASELINE else _check_jpeg


def _check_jpeg(data: bytes, promise: Promise) -> None:
    _check_frame(data, jpeg.frame_of(data), promise)


def _check_baseline(data: bytes, promise: Promise) -> None:
    _check_frame(data, check_jpeg(data), promise)


def _check_frame(data: bytes, frame: jpeg.Frame, promise: Promise) -> None:
    _check_size((frame.rows, frame.columns, len(frame.components), frame.precision), promise)
    _check_rest(data[frame.end :])


def _check_size(found: tuple[int, int, int, int], promise: Promise) -> None:
    rows, columns, samples, bits = found
    if (rows, columns, samples) != (promise.rows, promise.columns, promise.samples) or bits > promise.bits:
        raise RefusalError(
            f"a compressed frame is {rows} x {columns} x {samples} of {bits} bits, its header promises "
            f"{promise.rows} x {promise.columns} x {promise.samples} of {promise.bits}"
        )


def _check_rest(rest: bytes) -> None:
    if rest.strip(b"\0\xff"):
        raise RefusalError("more compressed data follow a frame than its header promises")


def _check_rle(data: bytes, promise: Promise) -> None:
    """Segments that follow each other after the header; their lengths are counted while they are decoded."""
    words = [int.from_bytes(data[at : at + 4], "little") for at in range(0, RLE_HEADER, 4)]
    expected = promise.samples * (promise.bits // 8)
    starts = words[1 : 1 + expected]
    if words[0] != expected or expected > MOST_SEGMENTS:
        raise RefusalError(f"a frame has {words[0]} segments where its header promises {expected}")
    if starts[:1] < [RLE_HEADER] or starts != sorted(set(starts)) or starts[-1] >= len(data):
        raise RefusalError("a compressed frame is truncated or damaged")


def _check_jpeg_2000(data: bytes, promise: Promise) -> None:
    """The size in its header, and tiles that end where the data do."""
    start = data.find(CODESTREAM)
    head = data[start : start + 64]
    if start < 0 or len(head) < 43:
        raise RefusalError("a compressed frame is truncated or damaged")
    right, bottom, left, top = (int.from_bytes(head[at : at + 4], "big") for at in (8, 12, 16, 20))
    bits = (head[42] & 127) + 1
    _check_size((bottom - top, right - left, int.from_bytes(head[40:42], "big"), bits), promise)
    at = start + 2
    while data[at : at + 2] != TILE:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at : at + 1] != b"\xff" or length < 2:
            raise RefusalError("a compressed frame is truncated or damaged")
        at += 2 + length
    while data[at : at + 2] == TILE:
        length = int.from_bytes(data[at + 6 : at + 10], "big")
        if not length:  # the last tile, to the end
            return
        at += length
    if at > len(data) or (data[at : at + 2] not in {b"", STREAM_END, b"\0", b"\0\0"}):
        raise RefusalError("a compressed frame is truncated or damaged")
    boxed = start > 0  # other boxes may follow, but no second picture
    _check_rest(data[at + 2 :] if not boxed or CODESTREAM in data[at:] else b"")
