"""The header of NRRD (.nrrd, .nhdr), as Teem, ITK, 3D Slicer and pynrrd write it.

`field: value` in a line each up to an empty line; comments (`#`) and key/value pairs (`key:=value`) are
passed over. A field that the format does not have is refused: it may be one of a version to come.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from io import BufferedReader

import numpy as np

from foveate.core.types import Array
from foveate.data.readers.itk import header_text as text
from foveate.data.readers.itk.header_text import BLANKS, Packing, Promise, damaged
from foveate.data.readers.refusals import RefusalError

MAGIC = re.compile(r"NRRD(?:000[1-6]|00\.01)")
# Names are compared without blanks and capitals: `data file` and `datafile` are one field.
FIELDS = frozenset(
    {
        *("content", "number", "type", "blocksize", "dimension", "space", "spacedimension", "sizes"),
        *("spacings", "thicknesses", "axismins", "axismaxs", "spacedirections", "centers", "centerings"),
        *("kinds", "labels", "units", "min", "max", "oldmin", "oldmax", "endian", "encoding", "lineskip"),
        *("byteskip", "sampleunits", "spaceunits", "spaceorigin", "measurementframe", "datafile"),
    }
)
TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long"), "i8"),
    **dict.fromkeys(("signed long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int"), "u8"),
    **dict.fromkeys(("uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}
PACKINGS: dict[str, Packing] = {
    **{"raw": "raw", "hex": "hex", "txt": "text", "text": "text", "ascii": "text"},
    **{"gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"},
}
# Signs that turn a space into LPS; those that know no left and right are taken as they are, as in ITK.
SPACES: dict[str, tuple[int, int, int]] = {
    **dict.fromkeys(("leftposteriorsuperior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("rightanteriorsuperior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("leftanteriorsuperior", "las"), (1, -1, 1)),
    **dict.fromkeys(("scannerxyz", "3drighthanded", "3dlefthanded"), (1, 1, 1)),
}
DOMAIN_KINDS = frozenset({"domain", "space", "time", "???", "none"})
VECTORS = re.compile(r"(?:none|\([^()]*\))(?:[ \t]+(?:none|\([^()]*\)))*", re.IGNORECASE)
VECTOR = re.compile(r"none|\(([^()]*)\)", re.IGNORECASE)

Fields = dict[str, str]
Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the array; NaN or None where the header does not say."""

    size: int
    is_domain: bool  # samples along it are places, not parts of one value
    direction: Vector | None
    at_nodes: bool
    spacing: float
    low: float
    high: float


def promise_of(file: BufferedReader) -> Promise:
    """What the header of an open file says; the file is left behind the header.

    Raises:
        RefusalError: it is damaged, or says what is not read.
    """
    fields = _fields(file)
    packing = PACKINGS.get(fields["encoding"].lower())
    if packing is None:
        raise damaged("encoding", f"one of {', '.join(PACKINGS)}")
    byte_skip = text.whole(fields.get("byteskip", "0"), "byte skip", -1, text.MOST_SKIPPED)
    if byte_skip < 0 and packing != "raw":
        raise damaged("byte skip", "0 or more where the voxels are not raw")
    space = _space_axes(fields)
    axes = _axes(fields, space)
    places = [
        axis for axis in axes if axis.is_domain and not (space and axis.size == 1 and not axis.direction)
    ]
    parts = math.prod(axis.size for axis in axes if not axis.is_domain)
    return Promise(
        shape=tuple(axis.size for axis in places),
        dtype=_dtype(fields, packing),
        affine=_affine(fields, space, places),
        packing=packing,
        components=parts,
        file=fields.get("datafile", "").removeprefix("./"),
        line_skip=text.whole(fields.get("lineskip", "0"), "line skip", 0, text.MOST_SKIPPED),
        byte_skip=max(byte_skip, 0),
        at_end=byte_skip < 0,
    )


def _fields(file: BufferedReader) -> Fields:
    lines = text.lines_of(file)
    if not MAGIC.fullmatch(next(lines, "")):
        raise RefusalError("it is damaged or not NRRD of a version from 1 to 6")
    found: Fields = {}
    for line in lines:
        if not line:
            break
        if line[0] == "#" or not (field := _field(line)):
            continue
        name, value = field
        if name in found:
            raise RefusalError(f"its header is damaged: the field {name} stands in it twice")
        found[name] = value
    for name in ("type", "dimension", "sizes", "encoding"):
        if not found.get(name):
            raise RefusalError(f"its header is truncated or damaged: it has no {name}")
    if "centers" in found:
        found.setdefault("centerings", found["centers"])
    return found


def _field(line: str) -> tuple[str, str] | None:
    """Name and value; None for a key/value pair. A field's name wins where a line could be both."""
    name, colon, value = line.partition(":")
    known = name.replace(" ", "").lower()
    if colon and not value.startswith("=") and known in FIELDS and name[0] not in BLANKS:
        return known, value.strip(BLANKS)
    if ":=" in line and line[0] not in BLANKS:
        return None
    raise RefusalError("its header is damaged: a line is no field of NRRD, no comment and no key/value pair")


def _dtype(fields: Fields, packing: Packing) -> np.dtype[np.generic]:
    kind = TYPES.get(fields["type"].lower())
    if kind is None:
        raise RefusalError("its voxels are not of a type of number that NRRD has")
    orders = {"little": "<", "big": ">"}
    order = orders.get(fields.get("endian", "").lower(), "")
    if not order and kind[1] != "1" and packing != "text":
        raise damaged("endian", "little or big")
    return np.dtype((order or "=") + kind)


def _space_axes(fields: Fields) -> int:
    """How many axes the space has; 0 where there is none."""
    if "space" in fields:
        if _space(fields) not in SPACES:
            raise RefusalError("its space is not one of three axes that is known")
        if fields.get("spacedimension", "3") != "3":
            raise damaged("space dimension", "3, as its space has")
        return 3
    return text.whole(fields.get("spacedimension", "0"), "space dimension", 0, text.MOST_AXES)


def _space(fields: Fields) -> str:
    return fields["space"].lower().replace("-", "").replace(" ", "")


def _axes(fields: Fields, space: int) -> list[Axis]:
    count = text.whole(fields["dimension"], "dimension", 1, text.MOST_AXES)
    words = {name: fields[name].split() for name in ("kinds", "centerings") if name in fields}
    for name, each in words.items():
        if len(each) != count:
            raise damaged(name, f"{count} words")
    kinds = words.get("kinds", ["domain"] * count)
    centers = words.get("centerings", ["cell"] * count)
    numbers = [_per_axis(fields, name, count) for name in ("spacings", "axismins", "axismaxs")]
    directions = _vectors(fields.get("spacedirections", ""), "space directions", space)
    if directions and len(directions) != count:
        raise damaged("space directions", f"{count} vectors")
    return [
        Axis(size, kind.lower() in DOMAIN_KINDS, direction, center.lower() == "node", *three)
        for size, kind, direction, three, center in zip(
            text.wholes(fields["sizes"], "sizes", count),
            kinds,
            directions or [None] * count,
            zip(*numbers, strict=True),
            centers,
            strict=True,
        )
    ]


def _per_axis(fields: Fields, name: str, count: int) -> Vector:
    words = fields[name].split() if name in fields else ["nan"] * count
    return text.decimals(words, name, count)


def _vectors(line: str, field: str, space: int) -> list[Vector | None]:
    """Vectors in brackets; None for `none`, or one of NaN."""
    if not line:
        return []
    if not space or not VECTORS.fullmatch(line):
        raise damaged(field, "vectors such as (1,0,0), in a space that is named")
    inner = [match[1] for match in VECTOR.finditer(line)]
    found = [
        text.decimals([w.strip() for w in each.split(",")], field, space) if each else None for each in inner
    ]
    if any(each and any(map(math.isinf, each)) for each in found):
        raise damaged(field, "finite")
    return [None if each is None or any(map(math.isnan, each)) else each for each in found]


def _affine(fields: Fields, space: int, axes: list[Axis]) -> Array:
    """From index to LPS; a space without directions has steps of one along its own axes, as in ITK."""
    affine = np.eye(4)
    if not space:
        affine[[0, 1, 2], [0, 1, 2]] = _three([_step(axis) for axis in axes], 1.0)
        affine[:3, 3] = _three(_middles(axes), 0.0)
        return affine
    if space < 3:
        raise RefusalError("its space has fewer than three axes")
    signs = np.asarray(SPACES[_space(fields)] if "space" in fields else (1, 1, 1), dtype=np.float64)
    if any(not math.isnan(axis.spacing) for axis in axes):
        raise damaged("spacings", "absent where there are space directions")
    directions = [axis.direction for axis in axes]
    if any(directions) and len(axes) >= 3:  # else no volume, and nothing is read
        affine[:3, :3] = np.transpose([_spatial(each) for each in directions[:3]]) * signs[:, np.newaxis]
    origin = _vectors(fields.get("spaceorigin", ""), "space origin", space)
    if len(origin) > 1:
        raise damaged("space origin", "one vector")
    if origin and origin[0]:
        affine[:3, 3] = np.asarray(origin[0][:3]) * signs
    return affine


def _spatial(direction: Vector | None) -> Vector:
    if direction is None:
        raise damaged("space directions", "given for every axis of more than one sample")
    return direction[:3]


def _three(values: list[float], rest: float) -> list[float]:
    return [*values, rest, rest, rest][:3]


def _step(axis: Axis) -> float:
    if axis.spacing == 0 or math.isinf(axis.spacing):
        raise damaged("spacings", "finite and other than 0")
    return 1.0 if math.isnan(axis.spacing) else axis.spacing


def _middles(axes: list[Axis]) -> list[float]:
    """Where the first sample of each axis is, from its least place; 0 where not all is known."""
    lows = [axis.low for axis in axes]
    steps = [axis.spacing for axis in axes]
    if any(map(math.isnan, steps)):
        steps = [(a.high - a.low) / max(1, a.size - a.at_nodes) for a in axes]
    if not all(map(math.isfinite, (*lows, *steps))):
        return [0.0] * len(axes)
    return [
        low if axis.at_nodes else low + step / 2 for low, step, axis in zip(lows, steps, axes, strict=True)
    ]
