"""MetaImage and NRRD whose headers lie: about files elsewhere, about sizes, about streams.

`@OUTSIDE@` stands for the folder next door, whose files have the names of `arena.OUTSIDE_FILES`.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from mutations import broken, is_whole, wrong_length
from specimens import VOLUME, drawn, encoded, metaimage, nrrd, unsized

STEM = "q7z"
RAW = drawn(0).volume.tobytes("F")
FILLER = 70 << 10  # more than a guard at the beginning of a file reads
NUMBERS = (
    *("0", "-1", "1", "2", "7", "255", "65536", "2147483647", "4294967296", "9223372036854775807", "1e9"),
    *(
        "nan",
        "inf",
        "0x10",
        "",
        "x",
        "99999999999999999999",
        "6 7",
        "6 7 8 1",
        "6 7 9",
        "600 700 800",
        "1 1 672",
    ),
)
PLACES = (
    "../outside/",
    "@OUTSIDE@/",
    "./../outside/",
    "x/../../outside/",
    "..\\outside\\",
    "file://@OUTSIDE@/",
)
LINKED = ("@OUTSIDE@/{file}", "../outside/{file}", "/dev/zero", "/dev/stdin", "@OUTSIDE@", "{stem}.loop")


@dataclass(frozen=True, slots=True)
class Case:
    """Files, links and pipes of one hostile image, by what follows the stem of their names.

    `hopeless`: it lacks voxels that it promises, or its checksum is wrong, so it must be refused.
    """

    files: dict[str, bytes]
    links: dict[str, str] = field(default_factory=dict)
    pipes: tuple[str, ...] = ()
    hopeless: bool = False


Craft = Callable[[np.random.Generator], Case]


def chosen(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of some texts."""
    return options[int(rng.integers(len(options)))]


def _target(rng: np.random.Generator, file: str) -> tuple[str, Case]:
    """What a header may point to, and what lies beside it for that."""
    way = int(rng.integers(8))
    if way < 3:
        return chosen(rng, PLACES) + file, Case({})
    if way == 3:
        return STEM + ".l", Case({}, {".l": chosen(rng, LINKED).format(file=file, stem=STEM)})
    if way == 4:
        return STEM + ".p", Case({}, pipes=(".p",))
    if way == 5:
        place = chosen(rng, PLACES)
        listed = f"{place}x1.raw\n{place}x2.raw\n" + f"{place}{file}\n" * 6
        return chosen(rng, ("LIST", "LIST 2D", "LIST 2", "list")) + "\n" + listed, Case({})
    if way == 6:
        return chosen(rng, PLACES) + chosen(
            rng, ("x%d.raw 1 8 1", "x%01d.raw 1 8 1 2", "x%d.raw 1 1 1")
        ), Case({})
    return chosen(rng, ("near-mha.mha", "near-nrrd-raw.nrrd", "near-nii.nii", "near-npz-stored.npz")), Case(
        {}
    )


def _pointer(rng: np.random.Generator, file: str, key: str, templates: tuple[str, ...]) -> tuple[bytes, Case]:
    target, beside = _target(rng, file)
    return chosen(rng, templates).format(key=key, to=target).encode() + b"\n", beside


META_POINTERS = (
    *(
        "{key} = {to}",
        "{key} = {to}",
        " {key} = {to}",
        "\t{key} = {to}",
        "\x0b{key} = {to}",
        "\x0c{key} = {to}",
    ),
    *(
        "{key} : {to}",
        "{key}={to}",
        "{key}:{to}",
        "{key} {to}",
        "\r{key} = {to}",
        "{key} = {to}\0",
        "{key}\0 = {to}",
    ),
    *("{key} = q7z.raw\n{key} = {to}", "{key} = {to}\n{key} = q7z.raw", "{key} = LOCAL\n{key} = {to}"),
    *(
        "Comment = x\r{key} = {to}",
        "Comment = x\n\n{key} = {to}",
        '{key} = "{to}"',
        "{key} = {to} ",
        "{key} = {to}\r",
    ),
    *("{key} =\t{to}", "Comment = x\0\n{key} = {to}", "\ufeff{key} = {to}", "{key} = \x0b{to}"),
)


def meta_elsewhere(rng: np.random.Generator) -> Case:
    """A MetaImage that points elsewhere, behind all that may hide it."""
    packed = rng.random() < 0.3
    head = metaimage(VOLUME, packed=len(zlib.compress(RAW)) if packed else 0).rpartition(b"ElementDataFile")[
        0
    ]
    if rng.random() < 0.2:
        head += b"HeaderSize = %d\n" % int(rng.choice([-1, 0, 16, 400]))
    key = chosen(rng, ("ElementDataFile",) * 4 + ("elementdatafile", "ElementDataFIle"))
    line, beside = _pointer(rng, "x.zraw" if packed else "x.raw", key, META_POINTERS)
    if rng.random() < 0.4:
        head = b"Comment = " + b"x" * 1000 + b"\n" + head
        head += b"".join(b"Key%d = " % i + b"y" * 1000 + b"\n" for i in range(FILLER // 1000))
    ending, own = chosen(rng, (".mhd", ".mhd", ".mha")), RAW if rng.random() < 0.5 else b""
    files = {ending: head + line + own}
    return Case({**files, ".raw": RAW} if rng.random() < 0.5 else files, beside.links, beside.pipes)


NRRD_POINTERS = (
    *(
        "{key}: {to}",
        "{key}: {to}",
        "{key}:{to}",
        " {key}: {to}",
        "\t{key}: {to}",
        "\x0b{key}: {to}",
        "{key} : {to}",
    ),
    *(
        "{key}: {to}\0",
        "{key}:= {to}",
        "{key}: q7z.raw\n{key}: {to}",
        "{key}: {to}\n{key}: q7z.raw",
        "# c\r{key}: {to}",
    ),
    *(
        "k:=v\r{key}: {to}",
        "{key}: \t{to}",
        "\ufeff{key}: {to}",
        "{key}={to}",
        "{key}: {to} ",
        "k:={key}: {to}",
    ),
)


def nrrd_elsewhere(rng: np.random.Generator) -> Case:
    """A NRRD that points elsewhere, behind all that may hide it."""
    encoding, file = chosen(
        rng, ("raw x.raw", "raw x.raw", "gzip x.raw.gz", "bzip2 x.raw.bz2", "hex x.hex", "text x.txt")
    ).split()
    head = nrrd(VOLUME, encoding)[:-1]
    if rng.random() < 0.2:
        head += b"byte skip: %d\n" % int(rng.choice([-1, 0, 16, 400]))
    key = chosen(rng, ("data file", "data file", "datafile", "Data File", "DATAFILE", "data  file"))
    line, beside = _pointer(rng, file, key, NRRD_POINTERS)
    if rng.random() < 0.4:
        head += b"".join(b"# " + b"y" * 1000 + b"\n" for _ in range(FILLER // 1000))
    text = (head + line + b"\n").replace(b"\n", (b"\n", b"\n", b"\r\n", b"\r")[int(rng.integers(4))])
    files = {chosen(rng, (".nhdr", ".nhdr", ".nrrd")): text + (RAW if rng.random() < 0.5 else b"")}
    return Case({**files, ".raw": RAW} if rng.random() < 0.5 else files, beside.links, beside.pipes)


def _with_a_lie(rng: np.random.Generator, header: bytes, separator: bytes) -> bytes:
    """One value of a header becomes another number, stands twice, or is lost."""
    lines = header.split(b"\n")
    places = [i for i, line in enumerate(lines) if separator in line]
    i = places[int(rng.integers(len(places)))]
    key = lines[i].partition(separator)[0]
    lie = key + separator + b" " + chosen(rng, NUMBERS).encode()
    lines[i : i + 1] = ([lie], [lie], [lie], [lines[i], lie], [])[int(rng.integers(5))]
    return b"\n".join(lines)


def meta_lies(rng: np.random.Generator) -> Case:
    """A MetaImage whose sizes, type or flags are not those of its voxels."""
    packed = rng.random() < 0.5
    data = zlib.compress(RAW) if packed else RAW
    head = metaimage(VOLUME, packed=len(data) if packed else 0)
    extra = (b"", b"HeaderSize = 9\n", b"ElementNumberOfChannels = 2\n", b"HeaderSize = -1\n")[
        int(rng.integers(4))
    ]
    body, key, last = head.rpartition(b"ElementDataFile")
    head = _with_a_lie(rng, body + extra, b" =") + key + last
    if rng.random() < 0.3:
        return Case({".mhd": head.replace(b"LOCAL", STEM.encode() + b".raw"), ".raw": data})
    return Case({".mha": head + data})


def nrrd_lies(rng: np.random.Generator) -> Case:
    """A NRRD whose sizes, type or encoding are not those of its voxels."""
    encoding = chosen(rng, ("raw", "gzip", "bzip2", "hex", "text"))
    extra = (b"", b"byte skip: 9\n", b"line skip: 1\n", b"byte skip: -1\n")[int(rng.integers(4))]
    head = _with_a_lie(rng, nrrd(VOLUME, encoding)[:-1] + extra, b":") + b"\n"
    return Case({".nrrd": head + encoded(RAW)[encoding]})


def meta_streams(rng: np.random.Generator) -> Case:
    """A MetaImage with a stream that ends early or holds too little; its size right, wrong or not said."""
    stream = zlib.compress(wrong_length(rng, RAW)) if rng.random() < 0.3 else broken(rng, zlib.compress(RAW))
    said = (len(stream), len(zlib.compress(RAW)), 0)[int(rng.integers(3))]
    file = chosen(rng, ("LOCAL", STEM + ".zraw"))
    head = metaimage(VOLUME, file, packed=said or 1)
    head = head if said else unsized(head)
    files = {".mha": head + stream} if file == "LOCAL" else {".mhd": head, ".zraw": stream}
    return Case(files, hopeless=not is_whole("zlib", stream, len(RAW)))


def nrrd_streams(rng: np.random.Generator) -> Case:
    """A NRRD with voxels that end early, in any encoding, in the file or beside it."""
    encoding = chosen(rng, ("raw", "gzip", "gzip", "bzip2", "bzip2", "hex", "text"))
    if rng.random() < 0.3:
        data = encoded(wrong_length(rng, RAW))[encoding]
    else:
        data = broken(rng, encoded(RAW)[encoding])
    packed = encoding in {"gzip", "bzip2"}
    lost = not is_whole(encoding, data, len(RAW)) if packed else encoding == "raw" and len(data) < len(RAW)
    if rng.random() < 0.3:
        files = {".nhdr": nrrd(VOLUME, encoding, STEM + ".data"), ".data": data}
        return Case(files, hopeless=lost)
    return Case({".nrrd": nrrd(VOLUME, encoding) + data}, hopeless=lost)


@cache
def _bomb(packing: str) -> bytes:
    """A small stream of many zeros."""
    if packing == "bzip2":
        return bz2.compress(bytes(20_000_000)) * 10
    compress = zlib.compress if packing == "zlib" else gzip.compress
    return compress(bytes(100_000_000), 1)


def bombs(rng: np.random.Generator) -> Case:
    """Streams of 100 MB and more behind headers that promise less, as much, or more."""
    shape = (VOLUME, (500, 500, 400), (1000, 1000, 1000), (3000, 3000, 3000))[int(rng.integers(4))]
    packing = chosen(rng, ("zlib", "gzip", "bzip2"))
    if packing == "zlib":
        return Case({".mha": metaimage(shape, packed=len(_bomb("zlib"))) + _bomb("zlib")})
    return Case({".nrrd": nrrd(shape, packing) + _bomb(packing)})


META: tuple[Craft, ...] = (meta_elsewhere, meta_elsewhere, meta_lies, meta_streams, meta_streams)
NRRD: tuple[Craft, ...] = (nrrd_elsewhere, nrrd_elsewhere, nrrd_lies, nrrd_streams, nrrd_streams)
