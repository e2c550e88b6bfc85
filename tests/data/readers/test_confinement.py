"""Headers that would have a file read elsewhere: refused with a reason, and the file is never opened."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.data.readers.containers import META, NRRD, STORED, VALUES, assert_same, by_itk, meta, nrrd

from foveate.core.types import Record
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.decoding.decoder import decode
from foveate.data.image_files import image_files
from foveate.data.inventory.headers import unforeseen
from foveate.data.readers.channels import read_image
from foveate.data.readers.formats import read_volume
from foveate.data.readers.itk import header_text
from foveate.data.readers.itk.volume import claimed_grid, data_file
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.unreadable import UnreadableImageError

BESIDE, DAMAGED = "not in one file beside it", "its header is (damaged|truncated|longer)"
LONG = "".join(f"Key{number} = {'x' * 60}\n" for number in range(1200))


@pytest.fixture
def data(tmp_path):
    """The folder of the data, and next door a file that must not be read."""
    (tmp_path / "next door").mkdir()
    (tmp_path / "next door" / "secret.raw").write_bytes(STORED)
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "a.raw").write_bytes(STORED)
    return tmp_path / "data"


def secret(data):
    return data.parent / "next door" / "secret.raw"


def head(fields, sign):
    return "".join(f"{key}{sign}{value}\n" for key, value in fields.items())


def pointers(path):
    """Lines of MetaImage that ITK takes for a pointer to a file, and why they are not."""
    return {
        "behind 64 KiB": (f"{LONG}ElementDataFile = {path}\n", BESIDE),
        "behind blanks": (f"  ElementDataFile = {path}\nElementDataFile = LOCAL\n", DAMAGED),
        "behind a tab": (f"\tElementDataFile = {path}\nElementDataFile = LOCAL\n", DAMAGED),
        "behind a vertical tab": (f"\x0bElementDataFile = {path}\nElementDataFile = LOCAL\n", DAMAGED),
        "with a colon": (f"ElementDataFile : {path}\nElementDataFile = LOCAL\n", DAMAGED),
        "with a colon and an equals sign": (f"ElementDataFile : {path} = \n", DAMAGED),
        "in a line of another": (
            f"Comment = a\rElementDataFile = {path}\nElementDataFile = LOCAL\n",
            DAMAGED,
        ),
        "absolute": (f"ElementDataFile = {path}\n", BESIDE),
        "upwards": ("ElementDataFile = ../next door/secret.raw\n", BESIDE),
        "downwards": ("ElementDataFile = sub/a.raw\n", BESIDE),
        "the folder above": ("ElementDataFile = ..\n", BESIDE),
        "a list": (f"ElementDataFile = LIST\n{path}\n", BESIDE),
        "a list of planes": (f"ElementDataFile = LIST 2\n{path}\n", BESIDE),
        "a pattern": ("ElementDataFile = %s 1 6 1\n", BESIDE),
        "a pattern in a path": ("ElementDataFile = /tmp/%d.raw 1 6 1\n", BESIDE),
        "twice": (f"ElementDataFile =\nElementDataFile = {path}\n", DAMAGED),
        "a device": ("ElementDataFile = /dev/zero\n", BESIDE),
        "a byte of nothing": ("ElementDataFile = a.raw\0.mha\n", DAMAGED),
        "itself": ("ElementDataFile = a.mhd\nHeaderSize = 0\n", "an image of its own"),
    }


@pytest.mark.parametrize("name", pointers(Path()))
def test_no_pointer_of_a_metaimage_leads_elsewhere(data, name):
    line, reason = pointers(secret(data))[name]
    path = data / "a.mhd"
    path.write_bytes((head(META, " = ") + line).encode() + STORED)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_volume(path)
    assert "secret" not in caught.value.reason
    assert data_file(path) is None


def nrrd_pointers(path):
    """The same for NRRD."""
    return {
        "absolute": (f"data file: {path}\n", BESIDE),
        "without a blank": (f"datafile:{path}\n", BESIDE),
        "in capitals": (f"Data File: {path}\n", BESIDE),
        "behind 64 KiB": (f"# {'x' * 99999}\ndata file: {path}\n", BESIDE),
        "behind a carriage return": (f"content: a\rdata file: {path}\n", DAMAGED),
        "behind a blank": (f" data file: {path}\n", DAMAGED),
        "upwards": ("data file: ../next door/secret.raw\n", BESIDE),
        "a list": (f"data file: LIST\n{path}\n", "damaged"),
        "a pattern": ("data file: %d.raw 1 6 1 2\n", BESIDE),
        "twice": (f"data file: a.raw\ndata file: {path}\n", DAMAGED),
        "itself": ("data file: ./a.nhdr\n", "an image of its own"),
    }


@pytest.mark.parametrize("name", nrrd_pointers(Path()))
def test_no_pointer_of_an_nrrd_leads_elsewhere(data, name):
    line, reason = nrrd_pointers(secret(data))[name]
    path = data / "a.nhdr"
    path.write_bytes(("NRRD0004\n" + head(NRRD, ": ") + line + "\n").encode() + STORED)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_volume(path)
    assert "secret" not in caught.value.reason
    assert data_file(path) is None


def test_carriage_returns_alone_end_no_line(data):
    path = data / "a.nrrd"
    lines = ["NRRD0004", *head(NRRD, ": ").splitlines(), f"data file: {secret(data)}", ""]
    path.write_bytes("\r".join(lines).encode() + b"\n" + STORED)
    with pytest.raises(UnreadableImageError, match="control characters"):
        read_volume(path)


def record(data, path):
    return Record(path=path, relative=path.relative_to(data).as_posix())


HEADERS = {
    "mhd": lambda path: meta(path, b"", file="v.raw"),
    "nhdr": lambda p: nrrd(p, b"", data_file="v.raw"),
}


@pytest.mark.parametrize("suffix", HEADERS)
def test_a_link_beside_a_header_may_lead_within_the_data_only(data, suffix):
    path = HEADERS[suffix](data / "sub" / f"h.{suffix}")
    link = data / "sub" / "v.raw"
    link.symlink_to(secret(data))
    with pytest.raises(UnreadableImageError, match="leads out of the data's folder"):
        decode(record(data, path))
    assert image_files(record(data, path)) == (path,)
    with pytest.raises(UnreadableImageError, match="leads out of the data's folder"):
        read_volume(path)
    link.unlink()
    (data / "voxels.raw").write_bytes(STORED)
    link.symlink_to(data / "voxels.raw")
    np.testing.assert_array_equal(np.sort(decode(record(data, path)).array, None), np.sort(VALUES, None))
    assert image_files(record(data, path)) == (path, link)
    with pytest.raises(UnreadableImageError, match="leads out of the data's folder"):
        read_volume(path)  # alone: its own folder is all that is known
    other = meta(data / "other.mha")
    both = Record(path=other, relative="other.mha", channels=(other, path), maps={"labels": path})
    assert image_files(both) == (other, path, link)
    assert len(read_image(both, decode).array) == 2
    cache = prepare([both], data.parent / "cache", PrepareConfig(), lambda *_: None)
    assert [each.name for each in cache[0].entry.maps] == ["labels"]


@pytest.mark.parametrize("suffix", HEADERS)
def test_folders_and_images_that_are_linked_into_the_data_are_read(data, suffix):
    elsewhere = data.parent / "next door"
    (elsewhere / "v.raw").write_bytes(STORED)
    HEADERS[suffix](elsewhere / f"h.{suffix}")
    meta(elsewhere / "whole.mha")
    (data / "linked").symlink_to(elsewhere)
    (data / "whole.mha").symlink_to(elsewhere / "whole.mha")
    expected = by_itk(elsewhere / f"h.{suffix}")
    assert_same(decode(record(data, data / "linked" / f"h.{suffix}")), expected)
    assert decode(record(data, data / "whole.mha")).array.shape == expected.array.shape


@pytest.mark.parametrize("suffix", HEADERS)
def test_what_is_no_regular_file_is_refused_at_once(data, suffix):
    path = HEADERS[suffix](data / f"h.{suffix}")
    os.mkfifo(data / "v.raw")
    with pytest.raises(UnreadableImageError, match="no regular file"):
        decode(record(data, path))
    (data / "v.raw").unlink()
    (data / "v.raw").mkdir()
    with pytest.raises(UnreadableImageError, match="no regular file"):
        decode(record(data, path))
    (data / "v.raw").rmdir()
    (data / "v.raw").symlink_to("/dev/zero")
    with pytest.raises(UnreadableImageError, match="leads out of the data's folder"):
        decode(record(data, path))
    (data / "v.raw").unlink()
    (data / "v.raw").symlink_to("v.raw")
    with pytest.raises(UnreadableImageError, match="could not read it"):
        decode(record(data, path))


def test_the_root_of_a_record_is_what_its_relative_name_counts_from(tmp_path):
    path = tmp_path / "a" / "b" / "c.mhd"
    assert Record(path=path, relative="b/c.mhd").root == tmp_path / "a"
    assert Record(path=path, relative="c.mhd").root == tmp_path / "a" / "b"
    for unknown in ("another.mhd", "../b/c.mhd", ""):
        assert Record(path=path, relative=unknown).root is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"NDims": "-3"}, "NDims must be"),
        ({"NDims": "999"}, "NDims must be"),
        ({"DimSize": "4 5"}, "DimSize must be 3 whole numbers"),
        ({"DimSize": "4 5 6.0"}, "DimSize"),
        ({"DimSize": "4 5 -6"}, "DimSize"),
        ({"DimSize": "4 5 0x6"}, "DimSize"),
        ({"ndims": "3"}, "NDims stands in it twice"),
        ({"ElementSpacing": "1 nan 1"}, "ElementSpacing must be 3 finite numbers"),
        ({"ElementSpacing": "1 0 1"}, "other than 0"),
        ({"Offset": "1 2 3", "Origin": "1 2 4"}, "disagree"),
        ({"ElementByteOrderMSB": "True"}, "BinaryDataByteOrderMSB must be"),
        ({"BinaryData": "maybe"}, "BinaryData must be True or False"),
        ({"BinaryData": "False", "CompressedData": "True"}, "CompressedData must be False"),
        ({"CompressedData": "True", "HeaderSize": "-1"}, "HeaderSize must be 0"),
        ({"HeaderSize": "-2"}, "HeaderSize must be"),
        ({"ElementType": "MET_FLOAT_ARRAY"}, "one real number per voxel"),
        ({"ElementNumberOfChannels": "3"}, "colours or vectors"),
        ({"ObjectType": "Tube"}, "no image"),
        ({"Comment": "\x01"}, "control characters"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 0"}, "affine cannot be inverted"),
    ],
)
def test_a_metaimage_that_contradicts_itself_is_refused(tmp_path, change, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        read_volume(meta(tmp_path / "a.mha", **change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"magic": "NRRD0009"}, "not NRRD of a version"),
        ({"more": ["type: short"]}, "field type stands in it twice"),
        ({"more": ["future: 1"]}, "a line is no field"),
        ({"more": ["nonsense"]}, "a line is no field"),
        ({"endian": None}, "endian must be"),
        ({"encoding": "zrl"}, "encoding must be one of"),
        ({"encoding": "gz", "byte_skip": "-1"}, "byte skip must be 0 or more"),
        ({"type": "block"}, "type of number"),
        ({"sizes": "4 5"}, "sizes must be 3"),
        ({"sizes": "4 5 0"}, "no voxels"),
        ({"spacings": "1 0 1"}, "spacings must be finite"),
        ({"space": "RAS", "spacings": "1 2 3"}, "spacings must be absent"),
        ({"space": "right-anterior-superior-time"}, "space is not one"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,1)"}, "in a space that is named"),
        ({"space": "RAS", "space_directions": "(1,0,0) (0,1,0) (0,0)"}, "space directions must be 3"),
        ({"space": "RAS", "space_directions": "(1,0,0) none (0,0,1)"}, "given for every axis"),
        ({"space": "RAS", "space_directions": "(1,0,0) (0,1,0)"}, "space directions must be 3 vectors"),
        ({"kinds": "domain domain vector"}, "colours or vectors"),
        ({"line_skip": "9999"}, "more lines than"),
    ],
)
def test_an_nrrd_that_contradicts_itself_is_refused(tmp_path, change, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        read_volume(nrrd(tmp_path / "a.nrrd", **change))


def test_headers_are_read_to_their_end_up_to_a_limit_that_is_said(tmp_path):
    long = {f"0010|{number:04}": "x" * 90 for number in range(10000)}  # about 1 MB, as of many DICOM tags
    assert_same(read_volume(meta(tmp_path / "a.mha", **long)), by_itk(meta(tmp_path / "b.mha")))
    limit = header_text.HEADER_BYTES
    for path in (
        meta(tmp_path / "c.mha", Comment="x" * limit),
        nrrd(tmp_path / "c.nrrd", more=("# " + "x" * limit,)),
    ):
        with pytest.raises(UnreadableImageError, match=f"longer than {limit} bytes"):
            read_volume(path)


def test_the_grid_of_a_damaged_header_is_a_reason_and_no_path(tmp_path):
    assert claimed_grid(meta(tmp_path / "a.mha", ElementSpacing="1 2 3")) == ((4, 5, 6), (1.0, 2.0, 3.0))
    with pytest.raises(RefusalError, match="DimSize"):
        claimed_grid(meta(tmp_path / "a.mha", DimSize="4 5"))
    assert "RefusalError" in unforeseen(RefusalError("x"))
