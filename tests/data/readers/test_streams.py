"""Compressed voxels: whole streams of several writers are bit-equal, others refused with both numbers."""

from __future__ import annotations

import bz2
import gzip
import io
import shutil
import subprocess
import zlib

import nibabel as nib
import numpy as np
import pytest
from tests.data.readers.containers import STORED, VALUES, assert_same, by_itk, meta, nrrd

from foveate.core.types import Record
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError

NOISE = np.random.default_rng(8).integers(0, 100, (24, 24, 24)).astype(np.int16)
CUT = r"truncated|damaged"
CUBE = {"DimSize": "24 24 24", "CompressedData": "True"}


def named(data):
    """A gzip member with a name, as the command and Teem write it."""
    stream = io.BytesIO()
    with gzip.GzipFile("voxels.raw", "wb", fileobj=stream) as file:
        file.write(data)
    return stream.getvalue()


def members(pack, data):
    """Several streams one after the other, of uneven sizes."""
    return b"".join(pack(part) for part in (data[:1], data[1:90], b"", data[90:]))


def command(name, data):
    """What a command of this machine makes of the data."""
    program = shutil.which(name) or pytest.skip(f"there is no {name}")
    return subprocess.run([program, "-c"], input=data, capture_output=True, check=True).stdout


def strategies(data):
    """One zlib stream of every level and strategy."""
    for level in range(10):
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED):
            packer = zlib.compressobj(level, strategy=strategy)
            yield packer.compress(data) + packer.flush()


GZIPPED = {
    "module": gzip.compress,
    "named": named,
    "members": lambda data: members(gzip.compress, data),
    "padded": lambda data: gzip.compress(data) + bytes(700),
    "padded between": lambda data: gzip.compress(data[:9]) + bytes(5) + gzip.compress(data[9:]),
    "stored": lambda data: gzip.compress(data, 0),
    "followed": lambda data: gzip.compress(data) + b"more",  # gzip warns and goes on
    "command": lambda data: command("gzip", data),
}
BZIPPED = {
    "module": bz2.compress,
    "members": lambda data: members(bz2.compress, data),
    "command": lambda data: command("bzip2", data),
}


@pytest.mark.parametrize("name", GZIPPED)
def test_gzip_of_every_writer_is_read_in_nrrd_and_nifti(tmp_path, name):
    expected = by_itk(nrrd(tmp_path / "raw.nrrd"))
    packed = GZIPPED[name](STORED)
    for word in ("gz", "gzip"):
        assert_same(read_volume(nrrd(tmp_path / f"{word}.nrrd", packed, encoding=word)), expected)
    (tmp_path / "a.raw.gz").write_bytes(packed)
    assert_same(read_volume(nrrd(tmp_path / "a.nhdr", b"", encoding="gz", data_file="a.raw.gz")), expected)
    plain = nib.Nifti1Image(VALUES, np.diag([-1.0, -1, 1, 1])).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(GZIPPED[name](plain))
    assert_same(read_volume(tmp_path / "a.nii.gz"), expected)


@pytest.mark.parametrize("name", BZIPPED)
def test_bzip2_of_every_writer_is_read(tmp_path, name):
    expected = by_itk(nrrd(tmp_path / "raw.nrrd"))
    for word in ("bz2", "bzip2"):
        path = nrrd(tmp_path / f"{word}.nrrd", BZIPPED[name](STORED), encoding=word)
        assert_same(read_volume(path), expected)


def test_bytes_are_skipped_once_unpacked_and_lines_before(tmp_path):
    path = nrrd(
        tmp_path / "a.nrrd",
        b"a line\n" + gzip.compress(b"xx" + STORED),
        encoding="gz",
        line_skip=1,
        byte_skip=2,
    )
    assert_same(read_volume(path), by_itk(path))


def test_a_label_map_that_bzip2_packs_ten_thousand_times_is_no_lie(tmp_path):
    labels = np.zeros((160, 160, 160), np.uint8)
    labels[70:90, 70:90, 70:90] = 1
    packed = bz2.compress(labels.tobytes(order="F"))
    assert labels.nbytes > 10_000 * len(packed)
    path = nrrd(tmp_path / "a.nrrd", packed, type="uchar", sizes="160 160 160", encoding="bz2")
    array = read_volume(path, as_map=True).array[0]
    assert array.sum() == labels.sum()


@pytest.mark.parametrize("size", [None, "0", "-", "1e2", "7", "99999"])
def test_zlib_with_any_size_in_the_header_is_whole(tmp_path, size):
    expected = by_itk(meta(tmp_path / "raw.mha"))
    for number, packed in enumerate((*strategies(STORED), gzip.compress(STORED))):
        said = str(len(packed)) if size == "-" else size
        path = meta(tmp_path / f"{number}.mha", packed, CompressedData="True", CompressedDataSize=said)
        assert_same(read_volume(path), expected)


PACKED = {
    "a.mha": (zlib.compress, lambda path, data: meta(path, data, **CUBE)),
    "sized.mha": (zlib.compress, lambda p, data: meta(p, data, CompressedDataSize=str(len(data)), **CUBE)),
    "gz.nrrd": (gzip.compress, lambda path, data: nrrd(path, data, sizes="24 24 24", encoding="gz")),
    "bz2.nrrd": (bz2.compress, lambda path, data: nrrd(path, data, sizes="24 24 24", encoding="bz2")),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_stream_that_is_cut_damaged_or_of_another_length_is_refused(tmp_path, name):
    pack, write = PACKED[name]
    plain = NOISE.tobytes(order="F")
    whole = pack(plain)
    path = tmp_path / name
    assert np.array_equal(np.sort(read_volume(write(path, whole)).array, None), np.sort(NOISE, None))
    for length in (len(whole) // 2, len(whole) - 400, len(whole) - 1):
        with pytest.raises(UnreadableImageError, match=CUT):
            read_volume(write(path, whole[:length]))
    rng = np.random.default_rng(len(name))
    for at in (*rng.integers(200, len(whole) - 10, 5), len(whole) - 2):
        flipped = bytearray(whole)
        flipped[at] ^= 16
        with pytest.raises(UnreadableImageError, match=rf"{CUT}|more than"):
            read_volume(write(path, bytes(flipped)))
    with pytest.raises(UnreadableImageError, match="27646 of the 27648 bytes"):
        read_volume(write(path, pack(plain[:-2])))
    with pytest.raises(UnreadableImageError, match="more than the 27648 bytes"):
        read_volume(write(path, pack(plain + b"x" * (1 << 22))))


def test_a_raw_file_of_another_length_is_refused(tmp_path):
    for write in (
        lambda data: meta(tmp_path / "a.mha", data),
        lambda data: nrrd(tmp_path / "a.nrrd", data),
    ):
        for data, numbers in ((STORED[:-2], "120 voxels, more than its 238"), (STORED + b"xx", "242.*240")):
            with pytest.raises(UnreadableImageError, match=numbers):
                read_volume(write(data))


def test_a_nifti_cut_by_its_last_bytes_or_with_another_checksum_is_refused(tmp_path):
    whole = gzip.compress(nib.Nifti1Image(NOISE, np.eye(4)).to_bytes())
    path = tmp_path / "a.nii.gz"
    checksum, length = (bytes([whole[at] ^ 1]) for at in (-8, -4))
    for damaged in (
        *(whole[:-8], whole[:-1], whole[: len(whole) // 2]),
        *(whole[:-8] + checksum + whole[-7:], whole[:-4] + length + whole[-3:]),
    ):
        path.write_bytes(damaged)
        with pytest.raises(UnreadableImageError, match=CUT):
            read_volume(path)


def test_what_follows_the_voxels_of_a_nifti_is_let_be_as_by_nibabel(tmp_path):
    plain = nib.Nifti1Image(VALUES, np.eye(4)).to_bytes() + bytes(range(256)) * 40
    for name, data in (("a.nii", plain), ("a.nii.gz", gzip.compress(plain))):
        (tmp_path / name).write_bytes(data)
        array = read_volume(tmp_path / name).array[0]
        np.testing.assert_array_equal(array, nib.load(tmp_path / name).dataobj)


def test_half_a_stream_behind_four_neighbours_brings_none_of_their_voxels(tmp_path):
    """ITK returned a buffer that it had not filled: half of the last volume was another image's."""
    folder = tmp_path / "images"
    folder.mkdir()
    shape = (40, 40, 40)
    fields = {"DimSize": "40 40 40", "CompressedData": "True"}
    rng = np.random.default_rng(1)
    for number in range(4):
        values = rng.integers(5000, 6000, shape).astype("<i2")
        meta(folder / f"{number}.mha", zlib.compress(values.tobytes()), **fields)
    packed = zlib.compress(rng.integers(0, 100, shape).astype("<i2").tobytes())
    half = packed[: len(packed) // 2]
    for number, size in enumerate((None, str(len(half)))):
        meta(folder / f"x{number}.mha", half, CompressedDataSize=size, **fields)
    meta(folder / "y.mha", packed, **fields)  # whole, but its size is not said
    records = [Record(path=path, relative=path.name) for path in sorted(folder.iterdir())]
    cache = prepare(records, tmp_path / "cache", PrepareConfig(), lambda *_: None)
    assert len(cache) == 5
    last = cache[4]
    values = last.read((0, 0, 0), last.shape)
    assert values.max() < 5000
