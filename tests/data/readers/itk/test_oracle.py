"""MetaImage and NRRD as SimpleITK writes and reads them, and spellings of a header against its reading."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from tests.data.readers.containers import STORED, VALUES, assert_same, by_itk, meta, nrrd

from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError

SCALARS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
DIRECTIONS = "(0,0.5,0.1) (-2,0,0.25) (0,0.3,-3)"
NAMES = {"u1": "uchar", "i1": "int8", "u2": "ushort", "i2": "short", "u4": "unsigned int", "i4": "int32_t"}
NAMES |= {"u8": "unsigned long long int", "i8": "longlong", "f4": "float", "f8": "double"}
METS = {"u1": "UCHAR", "i1": "CHAR", "u2": "USHORT", "i2": "SHORT", "u4": "UINT", "i4": "INT"}
METS |= {"u8": "ULONG_LONG", "i8": "LONG_LONG", "f4": "FLOAT", "f8": "DOUBLE"}


def drawn(rng, kind, shape):
    values = rng.integers(0, 1 << 62, shape) if kind[0] != "f" else rng.normal(0, 1e3, shape)
    return values.astype(kind)


def turned(rng):
    """A rotation drawn at random, reflected half of the time."""
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
def test_every_type_as_simpleitk_writes_it(tmp_path, suffix, compressed):
    rng = np.random.default_rng([len(suffix), ord(suffix[-1]), compressed])
    for kind in SCALARS:
        shape = tuple(int(n) for n in rng.integers(2, 9, 3))
        image = sitk.GetImageFromArray(drawn(rng, kind, shape[::-1]))
        image.SetDirection(turned(rng).ravel().tolist())
        image.SetSpacing(rng.uniform(0.1, 5, 3).tolist())
        image.SetOrigin(rng.normal(0, 100, 3).tolist())
        image.SetMetaData("0010|0010", "Nobody")
        path = tmp_path / f"{kind}.{suffix}"
        sitk.WriteImage(image, str(path), useCompression=compressed)
        volume = read_volume(path)
        assert volume.array.dtype == np.dtype(kind)
        assert_same(volume, by_itk(path))


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_axes_of_one_behind_the_third_are_dropped(tmp_path, suffix):
    image = sitk.GetImageFromArray(np.ascontiguousarray(VALUES.T)[None], isVector=False)
    assert image.GetSize() == (4, 5, 6, 1)
    image.SetSpacing((1.5, 2, 3, 9))
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    assert_same(read_volume(tmp_path / f"a.{suffix}"), by_itk(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(tmp_path, order):
    rng = np.random.default_rng(ord(order))
    for kind in SCALARS:
        data = drawn(rng, kind, (4, 5, 6)).astype(order + kind).tobytes(order="F")
        flag, word = str(order == ">"), {"<": "little", ">": "big"}[order]
        one = meta(
            tmp_path / f"{kind}.mha", data, BinaryDataByteOrderMSB=flag, ElementType=f"MET_{METS[kind]}"
        )
        two = nrrd(tmp_path / f"{kind}.nrrd", data, type=NAMES[kind], endian=word)
        three = nrrd(
            tmp_path / f"{kind}.x.nrrd", data.hex().encode(), type=NAMES[kind], endian=word, encoding="hex"
        )
        for path in (one, two, three):
            assert_same(read_volume(path), by_itk(path))


METAS = {
    "size for spacing": {"ElementSize": "2 3 4"},
    "spacing before size": {"ElementSize": "2 3 4", "ElementSpacing": "1e0 .5 2."},
    "Position": {"Position": "1 2 3"},
    "Origin": {"Origin": "1 -2 3"},
    "Offset twice alike": {"Offset": "1 2 3", "Position": "1.0 2.0 3.0"},
    "Rotation": {"Rotation": "0 1 0 1 0 0 0 0 1"},
    "Orientation": {"Orientation": "0 1 0 0 0 1 1 0 0", "Offset": "5 6 7"},
    "sheared": {"TransformMatrix": "1 0 0 0.2 1 0 0 0 1", "ElementSpacing": "1 2 3"},
    "mirrored": {"ElementSpacing": "1 -2 3"},
    "old byte order": {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "True"},
    "short word": {"BinaryDataByteOrderMSB": "1"},
    "nothing said": {"BinaryData": None, "BinaryDataByteOrderMSB": None, "ObjectType": None},
    "what says nothing": {
        "AnatomicalOrientation": "RAI",
        "CenterOfRotation": "1 2 3",
        "Modality": "MET_MOD_CT",
        "Comment": "a = b, caf\u00e9",
        "CompressionLevel": "2",
        "ElementNumberOfChannels": "1",
    },
    "tabs": {"ElementSpacing": "1\t2\t3"},
    "long of four bytes": {"ElementType": "MET_ULONG", "DimSize": "4 5 3"},
    "header elsewhere": {"HeaderSize": "-1"},
}
NRRDS = {
    "spacings": {"spacings": "1 2 3"},
    "one spacing unknown": {"spacings": "1 nan 3"},
    "mirrored": {"spacings": "1 -2 3"},
    "cells": {"spacings": "1 2 3", "axis_mins": "1 2 3"},
    "nodes": {"spacings": "1 2 3", "axis_mins": "1 2 3", "centerings": "node node cell"},
    "ends": {"axismins": "1 2 3", "axismaxs": "5 12 21", "centers": "node cell cell"},
    "places without sizes": {"axis mins": "1 2 3"},
    **{
        name: {"space": name, "space_directions": DIRECTIONS, "space_origin": "(1,2,3)"}
        for name in ("left-posterior-superior", "RAS", "right anterior superior", "LAS", "scanner-xyz", "lps")
    },
    "dimension": {"space_dimension": "3", "space_directions": DIRECTIONS, "space_origin": "(1, 2, 3)"},
    "no directions": {"space": "RAS", "space_origin": "(1,2,3)"},
    "no spaces in words": {"space": "RAS", "spacedirections": DIRECTIONS, "spaceorigin": "(1,2,3)"},
    "part last": {
        **{"dimension": "4", "sizes": "4 5 6 1", "kinds": "domain domain domain vector", "space": "RAS"},
        "space_directions": f"{DIRECTIONS} none",
    },
    "part first": {
        **{"dimension": "4", "sizes": "1 4 5 6", "kinds": "list space space space", "space": "RAS"},
        "space_directions": f"none {DIRECTIONS}",
    },
    "fourth axis": {"dimension": "4", "sizes": "4 5 6 1", "spacings": "1 2 3 4"},
    "kinds unknown": {"kinds": "??? none domain"},
    "capitals": {"type": "Short", "encoding": "RAW", "endian": "Little"},
    "labels": {"space": "LPS", "space_units": '"mm" "mm" "mm"', "labels": '"x: y" "b" "c"', "content": "#"},
    "bytes behind the header": {"byte_skip": "-1"},
}


@pytest.mark.parametrize("name", METAS)
def test_spellings_of_metaimage(tmp_path, name):
    path = meta(tmp_path / "a.mha", **METAS[name])
    assert_same(read_volume(path), by_itk(path))


@pytest.mark.parametrize("name", NRRDS)
def test_spellings_of_nrrd(tmp_path, name):
    path = nrrd(tmp_path / "a.nrrd", more=("# comment: x", "key:=value", "key:=again"), **NRRDS[name])
    assert_same(read_volume(path), by_itk(path))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_may_end_as_on_windows(tmp_path, end):
    for path in (meta(tmp_path / "a.mha", end=end), nrrd(tmp_path / "a.nrrd", end=end)):
        assert_same(read_volume(path), by_itk(path))


def test_numbers_as_text(tmp_path):
    words = " ".join(map(str, VALUES.ravel(order="F"))).encode() + b"\n"
    expected = by_itk(meta(tmp_path / "raw.mha"))
    assert_same(read_volume(meta(tmp_path / "a.mha", words, BinaryData="False")), expected)
    for word in ("ascii", "txt", "text"):
        path = nrrd(tmp_path / f"{word}.nrrd", words.replace(b" ", b", "), encoding=word)
        assert_same(read_volume(path), by_itk(path))
    with pytest.raises(UnreadableImageError, match="119 numbers where its header promises 120"):
        read_volume(nrrd(tmp_path / "b.nrrd", words[: words.rindex(b" ")], encoding="ascii"))


def test_what_stands_before_the_voxels_is_passed_over(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"a line\nxx" + STORED)
    paths = [
        nrrd(tmp_path / "a.nhdr", b"", data_file="a.raw", line_skip="1", byte_skip="2"),
        nrrd(tmp_path / "b.nhdr", b"", data_file="./a.raw", byteskip="-1"),
        meta(tmp_path / "a.mhd", b"", file="a.raw", HeaderSize="9"),
        meta(tmp_path / "b.mhd", b"", file="a.raw", HeaderSize="-1"),
        nrrd(tmp_path / "c.nrrd", b"a line\nxx" + STORED, lineskip="1", byteskip="2"),
    ]
    for path in paths:
        assert_same(read_volume(path), by_itk(path))
    with pytest.raises(UnreadableImageError, match="at least the bytes of the header itself"):
        read_volume(meta(tmp_path / "c.mha", HeaderSize="10"))
