"""Damage to the bytes of a file: what a disk or a network may do, and what an enemy tries first."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

Mutation = Callable[[np.random.Generator, bytearray], bytearray]

HEADER_BYTES = 400  # where most of what decoders believe is written
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def _flip_bits(rng: np.random.Generator, data: bytearray) -> bytearray:
    for at in rng.integers(0, len(data), rng.integers(1, 9)):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def _damage_header(rng: np.random.Generator, data: bytearray) -> bytearray:
    end = min(len(data), HEADER_BYTES)
    for at in rng.integers(0, end, rng.integers(1, 5)):
        data[at] = int(rng.integers(256))
    return data


def _extreme_number(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Sizes and offsets become 0, -1 or as large as they can be."""
    width = int(rng.choice((1, 2, 4)))
    value = int(rng.choice(EXTREMES)) & (1 << 8 * width) - 1
    at = int(rng.integers(0, max(1, min(len(data), 2 * HEADER_BYTES) - width)))
    data[at : at + width] = value.to_bytes(width, str(rng.choice(("little", "big"))))  # type: ignore[arg-type]
    return data


def _digits(rng: np.random.Generator, data: bytearray) -> bytearray:
    """A digit of a header in text becomes a sign, a point or many digits."""
    places = [at for at, byte in enumerate(data[:HEADER_BYTES]) if chr(byte).isdigit()]
    if places:
        at = int(rng.choice(places))
        data[at : at + 1] = bytes(rng.choice([b"-", b".", b"99999999", b"0", b"e99", b"nan"]))
    return data


def _cut(rng: np.random.Generator, data: bytearray) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def _lose_a_block(rng: np.random.Generator, data: bytearray) -> bytearray:
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
    del data[start : start + size]
    return data


def _repeat_a_block(rng: np.random.Generator, data: bytearray) -> bytearray:
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
    return data[:start] + data[start : start + size] * 2 + data[start + size :]


def _zero_a_block(rng: np.random.Generator, data: bytearray) -> bytearray:
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, 512))
    data[start : start + size] = bytes(len(data[start : start + size]))
    return data


def _swap_blocks(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Two parts of one length change places."""
    size = int(rng.integers(1, max(2, min(256, len(data) // 2))))
    first, second = sorted(int(at) for at in rng.integers(0, max(1, len(data) - 2 * size), 2))
    second += size
    data[first : first + size], data[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )
    return data


def _insert(rng: np.random.Generator, data: bytearray) -> bytearray:
    at = int(rng.integers(0, len(data) + 1))
    data[at:at] = rng.bytes(int(rng.integers(1, 64)))
    return data


MUTATIONS: tuple[Mutation, ...] = (
    *(_flip_bits, _damage_header, _damage_header, _extreme_number, _extreme_number, _digits),
    *(_cut, _lose_a_block, _repeat_a_block, _zero_a_block, _swap_blocks, _insert),
)


def mutated(rng: np.random.Generator, ending: str, data: bytes) -> bytes:
    """Damaged once or twice; half of the compressed files inside, so that the damage is reached."""
    if rng.random() < 0.5 and (inside := _damaged_inside(rng, ending, data)) is not None:
        return inside
    return _several(rng, data)


def _damaged_inside(rng: np.random.Generator, ending: str, data: bytes) -> bytes | None:
    """The same with whole streams around damaged bytes; None where the format has no such streams."""
    if ending.endswith(".gz"):
        return gzip.compress(_several(rng, gzip.decompress(data)), mtime=0)
    if ending == ".zraw":
        return zlib.compress(_several(rng, zlib.decompress(data)))
    if ending != ".npz":
        return None
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = archive.namelist()[0]
        damaged = _several(rng, archive.read(member))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, damaged)
    return packed.getvalue()


def broken(rng: np.random.Generator, stream: bytes) -> bytes:
    """A compressed stream that is cut, flipped, empty, doubled, or followed by something else."""
    size = len(stream)
    at = int(rng.integers(0, max(1, size)))
    return (
        stream[:at],
        stream[: size // 2],
        stream[: max(0, size - int(rng.integers(1, 13)))],
        _several(rng, stream),
        bytes(_flip_bits(rng, bytearray(stream))) if stream else b"",
        b"",
        stream * 2,
        stream[:at] + bytes(size - at),
        stream + rng.bytes(64),
    )[int(rng.integers(9))]


def is_whole(packing: str, stream: bytes, promised: int) -> bool:
    """Whether a stream comes to its end, with a right checksum, and holds as many bytes as were promised."""
    try:
        if packing == "bzip2":
            return len(bz2.decompress(stream)) >= promised
        unpack = zlib.decompressobj({"gzip": 31, "zlib": 15}[packing])
        return len(unpack.decompress(stream)) >= promised and unpack.eof
    except (zlib.error, OSError, ValueError):
        return False


def held(stream: bytes, window: int = 15) -> bytes:
    """What a zlib stream yields before it ends or breaks; a deflate stream with a window of -15."""
    unpack, found = zlib.decompressobj(window), b""
    with contextlib.suppress(zlib.error):
        for at in range(len(stream)):
            found += unpack.decompress(stream[at : at + 1])
    return found


def wrong_length(rng: np.random.Generator, raw: bytes) -> bytes:
    """Too few or too many bytes, as a whole stream may hold."""
    cut = raw[: int(rng.integers(0, len(raw)))]
    return cut if rng.random() < 0.7 else raw + cut


def _several(rng: np.random.Generator, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 3))):
        if damaged:
            damaged = MUTATIONS[int(rng.integers(len(MUTATIONS)))](rng, damaged)
    return bytes(damaged)
