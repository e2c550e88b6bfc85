"""NIfTI, npz, PNG, TIFF and JPEG whose numbers lie, or whose streams are broken under right checksums."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from functools import cache

import numpy as np

from hostile_text import Case, Craft
from mutations import broken, held, is_whole, wrong_length
from specimens import drawn, specimens

OWN = specimens("q7z", drawn(0))
OFFSETS = (0.0, 1.0, 4.0, 100.0, 347.0, 348.0, 351.0, 352.0, 352.5, 353.0, 356.0, 540.0, 1e9, -1.0, 3e38)
TIFFS = [name for name in OWN if name.startswith("tiff")]
NOISY = ("tiff-lzw-strips", "tiff-packbits-strips")
STRIP = 512  # bytes of a strip or a tile
SIZES = (0, 1, -1, 2, 5, 6, 9, 255, 4096, 32767, -32768)
BIG_SIZES = (*SIZES, 1 << 31, (1 << 32) - 1, 65535, 1 << 20)


def _of(kinds: str, rng: np.random.Generator) -> tuple[str, bytes]:
    """The file of one of the kinds whose name begins so: its ending and its bytes."""
    names = [name for name in OWN if name.startswith(kinds)]
    specimen = OWN[names[int(rng.integers(len(names)))]]
    return specimen.ending, specimen.files[specimen.ending]


def nifti_lies(rng: np.random.Generator) -> Case:
    """Offsets into the header, sizes and types that are not those of the voxels; or too few voxels."""
    second = rng.random() < 0.4
    data = bytearray(OWN["nii2" if second else "nii"].files[".nii"])
    way, whole, offset = int(rng.integers(5)), len(data), 1e9
    if way < 2:
        offset = OFFSETS[int(rng.integers(len(OFFSETS)))] + (192 if second and rng.random() < 0.5 else 0)
        struct.pack_into(
            "<q" if second else "<f",
            data,
            168 if second else 108,
            int(offset) % (1 << 62) if second else offset,
        )
    elif way == 2:
        axis, size = int(rng.integers(8)), SIZES[int(rng.integers(len(SIZES)))]
        struct.pack_into("<q" if second else "<h", data, 16 + 8 * axis if second else 40 + 2 * axis, size)
    elif way == 3:
        struct.pack_into(
            "<h", data, (12 if second else 70) + 2 * int(rng.integers(2)), int(rng.integers(0, 2049))
        )
    else:
        data = bytearray(wrong_length(rng, bytes(data)))
    hopeless = len(data) < whole or offset < (544 if second else 352)
    if rng.random() < 0.6:
        return Case({".nii.gz": gzip.compress(bytes(data), 1, mtime=0)}, hopeless=hopeless)
    return Case({".nii": bytes(data)}, hopeless=hopeless)


def nifti_streams(rng: np.random.Generator) -> Case:
    """A stream that ends early, down to the last bytes of its checksum."""
    stream = broken(rng, OWN["nii-gzip"].files[".nii.gz"])
    whole = is_whole("gzip", stream, len(OWN["nii"].files[".nii"]))
    return Case({".nii.gz": stream}, hopeless=not whole)


def _npy(rng: np.random.Generator, raw: bytes) -> bytes:
    shapes = (
        "(6, 7, 8)",
        "(6, 7, 80)",
        "(60000, 7, 8)",
        "(6, 7)",
        "(6, 7, 8, 1)",
        "(-6, 7, 8)",
        "()",
        "(6, 7, 0)",
    )
    kinds = ("<i2", "<i2", ">i2", "|i1", "<f8", "|O", "<U2", "|V4", "<f2")
    order = ("False", "True")[int(rng.integers(2))]
    kind, shape = kinds[int(rng.integers(9))], shapes[int(rng.integers(8))]
    head = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    size = len(head) if rng.random() < 0.9 else int(rng.integers(0, 65536))
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", size) + head.encode() + raw


def npz_lies(rng: np.random.Generator) -> Case:
    """Arrays whose headers lie, members that are too short, archives with wrong sizes and methods."""
    volume = drawn(0).volume.tobytes()
    raw = volume if rng.random() < 0.5 else wrong_length(rng, volume)
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.7 else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("image.npy", _npy(rng, raw))
    data = bytearray(file.getvalue())
    if rng.random() < 0.5:
        for start, places in ((data.find(b"PK\3\4"), (8, 18, 22)), (data.find(b"PK\1\2"), (10, 20, 24))):
            place = places[int(rng.integers(3))]
            value = int(rng.integers(0, 2000)) if rng.random() < 0.7 else 0xFFFFFFFF
            width = "<H" if place in {8, 10} else "<I"
            struct.pack_into(width, data, start + place, value & (0xFFFF if width == "<H" else 0xFFFFFFFF))
    return Case({".npz": bytes(data)})


def npz_streams(rng: np.random.Generator) -> Case:
    """A member whose deflate stream is broken, in an archive that fits it or does not."""
    npy = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<i2', 'fortran_order': False, 'shape': (6, 7, 8), }".ljust(117)
        + b"\n"
    )
    whole = npy + drawn(0).volume.tobytes()
    stream = broken(rng, zlib.compress(whole)[2:-4])
    told = len(whole) if rng.random() < 0.7 else int(rng.integers(0, 3000))
    fields = (20, 0, 8, 0, 0, zlib.crc32(whole), len(stream), told, 9)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", *fields, 0) + b"image.npy" + stream
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *fields, 0, 0, 0, 0, 0, 0) + b"image.npy"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)
    return Case({".npz": local + central + end}, hopeless=held(stream, -15) != whole)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_lies(rng: np.random.Generator) -> Case:
    """Right checksums around wrong sizes, depths, filters and streams."""
    ending, data = _of("png", rng)
    depth = data[24]
    rows = np.asarray(drawn(0).dim if depth == 8 else drawn(0).picture.astype(">u2"))
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    size, kind = [32, 24], [depth, 0, 0, 0, int(rng.random() < 0.1)]
    way = int(rng.integers(4))
    stream = zlib.compress(lines)
    if way == 0:
        size[int(rng.integers(2))] = BIG_SIZES[int(rng.integers(len(BIG_SIZES)))] & 0xFFFFFFFF
    elif way == 1:
        kind[int(rng.integers(2))] = int(rng.choice([1, 2, 3, 4, 6, 8, 16, 32]))
    elif way == 2:
        stream = broken(rng, stream)
    else:
        stream = zlib.compress(wrong_length(rng, lines))
    head = _chunk(b"IHDR", struct.pack(">II5B", *size, *kind))
    lost = size == [32, 24] and kind[:2] == [depth, 0] and len(held(stream)) < len(lines)
    cut = int(rng.integers(0, len(stream) + 1))
    body = _chunk(b"IDAT", stream[:cut]) + _chunk(b"IDAT", stream[cut:])
    end = _chunk(b"IEND", b"") if rng.random() < 0.7 else b""
    return Case({ending: data[:8] + head + body + end}, hopeless=lost)


def tiff_lies(rng: np.random.Generator) -> Case:
    """One entry of the directory changed: sizes, offsets, counts, compression, predictor, type."""
    ending, data = _of("tiff", rng)
    damaged = bytearray(data)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    at = start + 2 + 12 * int(rng.integers(count))
    place = int(rng.choice([0, 2, 4, 8, 8, 8]))
    value = BIG_SIZES[int(rng.integers(len(BIG_SIZES)))] & 0xFFFFFFFF
    if place < 4:
        struct.pack_into("<H", damaged, at + place, int(rng.integers(0, 340)) if place == 0 else value & 0xF)
    else:
        struct.pack_into("<I", damaged, at + place, value)
    return Case({ending: bytes(damaged)})


def _entries(data: bytes) -> dict[int, tuple[int, int, int]]:
    """Type, count and place of the value of each entry of the first directory."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    found = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number, value = struct.unpack_from("<HHII", data, at)
        size = {3: 2, 4: 4}.get(kind, 1)
        found[tag] = (size, number, at + 8 if size * number <= 4 else value)
    return found


def tiff_strips(rng: np.random.Generator) -> Case:
    """Strips and tiles whose streams are broken or whose lengths are wrong."""
    kind = TIFFS[int(rng.integers(len(TIFFS)))]
    ending, data = _of(kind, rng)
    damaged, entries = bytearray(data), _entries(data)
    tags = (324, 325) if 324 in entries else (273, 279)
    (_, number, offsets), (width, _, lengths) = (entries[tag] for tag in tags)
    which = int(rng.integers(number))
    (offset,) = (
        struct.unpack_from("<I", data, offsets + 4 * which)
        if entries[tags[0]][0] == 4
        else struct.unpack_from("<H", data, offsets + 2 * which)
    )
    (length,) = struct.unpack_from("<I" if width == 4 else "<H", data, lengths + width * which)
    whole = length
    if rng.random() < 0.6:
        stream = broken(rng, bytes(data[offset : offset + length]))[:length]
        damaged[offset : offset + len(stream)] = stream
    if rng.random() < 0.6:
        told = int(rng.choice([0, 1, length // 2, max(length - 1, 0), length + 1, 60000, len(data)]))
        struct.pack_into("<I" if width == 4 else "<H", damaged, lengths + width * which, told)
        length = told
    left = bytes(damaged[offset : offset + length])
    if kind.startswith("tiff-deflate"):
        return Case({ending: bytes(damaged)}, hopeless=len(held(left)) < STRIP)
    # Noise does not shrink: half of a strip cannot hold the whole.
    return Case({ending: bytes(damaged)}, hopeless=kind in NOISY and len(left) <= whole // 2)


def jpeg_lies(rng: np.random.Generator) -> Case:
    """Frames that are larger than their scan, cut scans, scans without an end."""
    data = bytearray(OWN["jpeg"].files[".jpg"])
    frame = data.find(b"\xff\xc0")
    lying = rng.random() < 0.6
    if lying:
        place = frame + int(rng.choice([4, 5, 7, 9]))
        width = 1 if place in {frame + 4, frame + 9} else 2
        value = int(rng.choice([0, 1, 2, 3, 8, 12, 64, 200, 4000, 65535])) & (0xFF if width == 1 else 0xFFFF)
        data[place : place + width] = value.to_bytes(width, "big")
    scan = data.find(b"\xff\xda")
    cut = int(rng.integers(scan, len(data)))
    end = b"\xff\xd9" if rng.random() < 0.5 else b""
    if rng.random() < 0.3:
        return Case({".jpg": bytes(data)})
    return Case({".jpg": bytes(data[:cut]) + end}, hopeless=not lying and cut < len(data) - 10)


@cache
def _bomb(kind: str) -> bytes:
    zeros = bytes(100_000_000)
    if kind == ".nii.gz":
        head = bytearray(OWN["nii"].files[".nii"][:352])
        struct.pack_into("<3h", head, 42, 300, 300, 300)
        return gzip.compress(bytes(head) + zeros, 1, mtime=0)
    if kind == ".npz":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("image.npy", _npy(np.random.default_rng(0), zeros))
        return file.getvalue()
    head = _chunk(b"IHDR", struct.pack(">II5B", 9999, 9999, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", zlib.compress(zeros, 1)) + _chunk(b"IEND", b"")


def bombs(rng: np.random.Generator) -> Case:
    """100 MB of zeros in 100 KB."""
    kind = (".nii.gz", ".npz", ".png")[int(rng.integers(3))]
    return Case({kind: _bomb(kind)})


BINARY: dict[str, tuple[Craft, ...]] = {
    "nii": (nifti_lies, nifti_lies, nifti_streams),
    "npz": (npz_lies, npz_streams),
    "png": (png_lies,),
    "tiff": (tiff_lies, tiff_strips, tiff_strips),
    "jpeg": (jpeg_lies,),
}
