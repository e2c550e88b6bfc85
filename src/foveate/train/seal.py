"""The checksum at the end of a checkpoint, checked before anything in the file is deserialised.

It lies in the file itself, so that file and checksum can never be of two writes; what reads zip archives
passes over what follows them. Files of before it was there are checked by the CRC-32 of every record.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from hashlib import sha256
from io import BufferedIOBase
from pathlib import Path

MARK = b"foveate sha256 "
LENGTH = len(MARK) + 2 * sha256().digest_size + 1  # a line of text
END = struct.Struct("<4s8x2I2x")  # of a zip archive without a comment; what is in it, zipfile looks at
PIECE = 1 << 20
MALFORMED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, KeyError, OverflowError),
)


class DamagedError(Exception):
    """The content of a file is not what was written."""


def seal(path: Path) -> None:
    """Append the checksum of all that is in the file, and wait until it is on the disk."""
    with path.open("rb+") as stream:
        digest = digest_of(stream, path.stat().st_size)
        stream.write(MARK + digest + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def check(path: Path) -> bool:
    """Whether a good file carries a checksum.

    Raises:
        DamagedError: the file is not as it was written.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - LENGTH))
        tail = stream.read()
        if sealed := len(tail) == LENGTH and tail.startswith(MARK):
            stream.seek(0)
            if tail != MARK + digest_of(stream, size - LENGTH) + b"\n":
                raise DamagedError("its checksum does not fit its content")
    if not sealed:
        check_archive(path, tail)
    return sealed


def digest_of(stream: BufferedIOBase, size: int) -> bytes:
    """The SHA-256 of the next `size` bytes, as hexadecimal digits."""
    digest, piece = sha256(), memoryview(bytearray(PIECE))
    while size and (count := stream.readinto(piece[:size])):
        digest.update(piece[:count])
        size -= count
    return digest.hexdigest().encode()


def check_archive(path: Path, tail: bytes) -> None:
    """Refuse a file without a checksum that does not end as it should, or has a record of another CRC-32."""
    end = tail[-(END.size) :]
    if len(end) < END.size or not end.startswith(b"PK\x05\x06") or not end.endswith(b"\0\0"):
        raise DamagedError("its end is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except MALFORMED:
        wrong = path.name
    if wrong:
        raise DamagedError("a record in it has another CRC-32 than when it was written")
