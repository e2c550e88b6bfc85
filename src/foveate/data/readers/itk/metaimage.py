"""The header of MetaImage (MHA, MHD), as ITK and its relatives write it.

`Key = value` in a line each; what follows the line of `ElementDataFile` are voxels. Keys that say nothing of
the voxels or their place are passed over.
"""

from __future__ import annotations

from io import BufferedReader

import numpy as np

from foveate.core.types import Array
from foveate.data.readers.itk import header_text as text
from foveate.data.readers.itk.header_text import BLANKS, Packing, Promise, damaged
from foveate.data.readers.refusals import RefusalError

# Each row: names of one thing, the commonest first. Where a file gives several, they must agree.
ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
ORIGIN = ("Offset", "Origin", "Position", "ImagePosition")
DIRECTION = ("TransformMatrix", "Rotation", "Orientation")
ALONE = (
    *("ObjectType", "NDims", "DimSize", "HeaderSize", "BinaryData", "CompressedData", "CompressedDataSize"),
    *("ElementType", "ElementNumberOfChannels", "ElementSpacing", "ElementSize", "ElementDataFile"),
)
KNOWN = {name.lower(): name for name in (*ALONE, *ORDER, *ORIGIN, *DIRECTION)}
TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4"},  # 4 bytes on every machine
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
TRUE, FALSE = ("true", "t", "1"), ("false", "f", "0")

Fields = dict[str, str]


def promise_of(file: BufferedReader) -> Promise:
    """What the header of an open file says; the file is left behind the header.

    Raises:
        RefusalError: it is damaged, or says what is not read.
    """
    fields = _fields(file)
    if fields.get("ObjectType", "Image").lower() != "image":
        raise RefusalError("it is a MetaIO object, but no image")
    axes = text.whole(fields["NDims"], "NDims", 1, text.MOST_AXES)
    name = fields["ElementDataFile"]
    name = "" if name.upper() == "LOCAL" else name.removeprefix("./")
    start = text.whole(fields.get("HeaderSize", "0"), "HeaderSize", -1, text.MOST_SKIPPED)
    packing = _packing(fields)
    if start and packing == "zlib" and (start < 0 or not name):
        raise damaged("HeaderSize", "0 where the voxels are compressed")
    if not name and start > 0:
        start -= file.tell()  # it counts from the first byte of the file
        if start < 0:
            raise damaged("HeaderSize", "at least the bytes of the header itself")
    return Promise(
        shape=text.wholes(fields["DimSize"], "DimSize", axes),
        dtype=_dtype(fields),
        affine=_affine(fields, axes),
        packing=packing,
        components=text.whole(fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels", 1),
        file=name,
        byte_skip=max(start, 0),
        at_end=start < 0,
    )


def _fields(file: BufferedReader) -> Fields:
    found: Fields = {}
    for line in text.lines_of(file):
        if not line:
            continue
        key, equals, value = line.partition("=")
        key = key.rstrip(BLANKS)
        if not equals or not key or key[0] in BLANKS or ":" in key:
            raise RefusalError(
                "its header is damaged: a line is not `Key = value` from its first character on"
            )
        if name := KNOWN.get(key.lower()):
            if name in found:
                raise RefusalError(f"its header is damaged: {name} stands in it twice")
            found[name] = value.strip(BLANKS)
        if name == "ElementDataFile":
            break
    for name in ("NDims", "DimSize", "ElementType", "ElementDataFile"):
        if not found.get(name):
            raise RefusalError(f"its header is truncated or damaged: it has no {name}")
    return found


def _flag(fields: Fields, names: tuple[str, ...], default: str) -> bool:
    values = {fields.get(name, "").lower() for name in names if name in fields} or {default}
    if values <= set(TRUE):
        return True
    if values <= set(FALSE):
        return False
    raise damaged(names[0], "True or False")


def _packing(fields: Fields) -> Packing:
    packed = _flag(fields, ("CompressedData",), "false")
    if not _flag(fields, ("BinaryData",), "true"):
        if packed:
            raise damaged("CompressedData", "False where the voxels are text")
        return "text"
    # The size is often missing and seldom right: the stream's own end and checksum say more.
    text.decimals(fields.get("CompressedDataSize", "0").split(), "CompressedDataSize", 1)
    return "zlib" if packed else "raw"


def _dtype(fields: Fields) -> np.dtype[np.generic]:
    if fields["ElementType"] not in TYPES:
        raise RefusalError("its voxels are complex or not numbers; save one real number per voxel")
    order = ">" if _flag(fields, ORDER, "false") else "<"
    return np.dtype(order + TYPES[fields["ElementType"]])


def _affine(fields: Fields, axes: int) -> Array:
    """Axes beyond the third, of one element, carry nothing; of fewer there is no place in space."""
    sizes = _numbers(fields, ("ElementSpacing",), axes) or _numbers(fields, ("ElementSize",), axes)
    if sizes and 0 in sizes:
        raise damaged("ElementSpacing", "other than 0")
    spacing = np.asarray(sizes or (1.0,) * axes)
    origin = np.asarray(_numbers(fields, ORIGIN, axes) or (0.0,) * axes)
    rows = _numbers(fields, DIRECTION, axes * axes)  # one axis after the other
    direction = np.reshape(rows, (axes, axes)).T if rows else np.eye(axes)
    affine, space = np.eye(4), min(axes, 3)
    affine[:space, :space] = direction[:3, :3] * spacing[:3]
    affine[:space, 3] = origin[:3]
    return affine


def _numbers(fields: Fields, names: tuple[str, ...], count: int) -> tuple[float, ...]:
    """The numbers under any of the names; empty where none of them is given."""
    found = {text.finite(fields[name].split(), name, count) for name in names if name in fields}
    if len(found) > 1:
        raise RefusalError(f"its header is damaged: two of {', '.join(names)} disagree")
    return found.pop() if found else ()
