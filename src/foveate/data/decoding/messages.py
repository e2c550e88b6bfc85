"""The messages between `data.decoding` and its child: JSON after its length, then array bytes."""

from __future__ import annotations

import json
import struct
from io import FileIO
from typing import Any, BinaryIO

from foveate.core.types import Array

LENGTH = struct.Struct("<Q")
IDLE_EXIT = 75  # how a child says that nobody asked it for anything


def send(stream: BinaryIO, header: dict[str, Any], array: Array | None = None) -> None:
    """One message, its length first, and the bytes of an array after it."""
    message = json.dumps(header).encode()
    write(stream, memoryview(LENGTH.pack(len(message)) + message))
    if array is not None:
        write(stream, array.data.cast("B"))


def write(stream: BinaryIO, rest: memoryview) -> None:
    """Writes everything to an unbuffered stream."""
    while rest:
        rest = rest[stream.write(rest) :]


def fill(stream: FileIO, buffer: memoryview) -> int:
    """Fills a buffer from an unbuffered stream; how many bytes there were before it ended."""
    done = 0
    while done < len(buffer):
        count = stream.readinto(buffer[done:])
        if not count:
            break
        done += count
    return done
