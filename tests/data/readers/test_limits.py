"""Single parts of the readers where sizes are smallest, largest or just enough."""

import bz2
import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.readers.containers import STORED, assert_same, by_itk, meta, nrrd
from tests.data.readers.test_channels import read, write

from foveate.core.types import Record
from foveate.data.readers import channels, inflate, jpeg, png, tiff
from foveate.data.readers.formats import read_volume
from foveate.data.readers.itk import header_text
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.unreadable import UnreadableImageError

PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("chunk", range(1, 6))
def test_streams_behind_one_another_are_found_wherever_a_piece_of_the_file_ends(monkeypatch, pack, chunk):
    monkeypatch.setattr(inflate, "CHUNK", chunk)
    streams = {gzip.compress: inflate.gzip_streams, bz2.compress: inflate.bzip2_streams}[pack]
    data = pack(b"one") + bytes(7) + pack(b"") + pack(b" two")
    assert inflate.filled(streams(io.BytesIO(data)), 7).tobytes() == b"one two"
    with pytest.raises(RefusalError, match="end early: 7 of the 8"):
        inflate.filled(streams(io.BytesIO(data)), 8)
    with pytest.raises(RefusalError, match=r"are (damaged|truncated): 0 of"):
        inflate.filled(streams(io.BytesIO(b"no such thing")), 1)


@pytest.mark.parametrize("order", "<>")
def test_a_directory_of_a_tiff_is_whole_or_refused_at_every_byte(order):
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    data = magic + struct.pack(f"{order}IH", 8, 2)  # two fields: a number, and two that stand behind them
    data += struct.pack(f"{order}HHIHH", tiff.WIDTH, 3, 1, 7, 0)
    data += struct.pack(f"{order}HHII", tiff.STRIPS, 4, 2, 38) + struct.pack(f"{order}III", 0, 100, 200)
    found = tiff.directory_of(data)
    assert found.fields == {tiff.WIDTH: (7,), tiff.STRIPS: (100, 200)}
    assert (found.start, found.end) == (8, 38)
    for cut in range(4, len(data)):
        with pytest.raises(RefusalError, match="truncated: its directory"):
            tiff.directory_of(data[:cut])


def test_a_tiff_that_promises_tiles_without_end_is_refused_before_they_are_listed():
    fields = {
        tiff.WIDTH: 80_000,
        tiff.HEIGHT: 80_000,
        tiff.TILE_WIDTH: 16,
        tiff.TILE_HEIGHT: 16,
        tiff.TILES: 8,
    }
    directory = tiff.Directory({tag: (value,) for tag, value in fields.items()}, 8, 90)
    with pytest.raises(RefusalError, match="lists more strips or tiles than it can hold"):
        tiff.segments_of(directory, 10**9)


def test_slow_loop_agrees_on_the_bytes_of_a_small_interlaced_png():
    for width, height in np.ndindex(10, 10):
        expected = 0
        for left, top, across, down in PASSES:
            columns, rows = len(range(left, width, across)), len(range(top, height, down))
            expected += rows * (1 + columns) if columns else 0
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
        assert png.promised_bytes(header) == expected, (width, height)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("shape", [(96, 80), (41, 35), (8, 17)])
def test_restarts_of_scans_of_one_colour_are_counted_by_its_own_blocks(subsampling, shape):
    rows = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    stream = io.BytesIO()
    options = {"progressive": True, "restart_marker_blocks": 1, "subsampling": subsampling}
    Image.fromarray(rows).save(stream, "JPEG", **options)
    found = jpeg.frame_of(stream.getvalue())
    assert (found.columns, found.rows) == (shape[1], shape[0])


def test_channels_as_far_apart_as_is_accepted_are_in_one_place(tmp_path, monkeypatch):
    monkeypatch.setattr(channels, "SAME_PLACE_MM", 0.5)
    paths = tuple(write(tmp_path / f"c{i}.nii", i, shift=i * 0.5)[0] for i in range(2))
    record = Record(path=paths[0], relative="c0.nii", channels=paths)
    assert len(channels.read_image(record, read).array) == 2
    write(Path(paths[1]), 1, shift=0.5625)
    with pytest.raises(UnreadableImageError, match=r"channel 1 lies up to 0\.562 mm"):
        channels.read_image(record, read)


@pytest.mark.parametrize("words", [["1", "x", "1"], ["1", "1_0", "1"], ["1", "1"], ["1"] * 4])
def test_decimals_are_all_of_them_numbers_and_as_many_as_asked(words):
    assert header_text.decimals(["1", "-2.5e3", "+.5"], "f", 3) == (1, -2500, 0.5)
    with pytest.raises(RefusalError, match="3 numbers"):
        header_text.decimals(words, "f", 3)


@pytest.mark.parametrize("text", ["x", "", "1.0", "-1", "0x1", "4", "1" * 30])
def test_a_whole_number_is_one_and_within_its_bounds(text):
    assert [header_text.whole(str(n), "f", 0, 3) for n in range(4)] == [0, 1, 2, 3]
    with pytest.raises(RefusalError, match="f must be a whole number from 0 to 3"):
        header_text.whole(text, "f", 0, 3)


def test_voxels_at_the_end_of_a_file_that_is_too_short_are_not_taken_from_its_header(tmp_path):
    whole = meta(tmp_path / "a.mha", b"x" * 9 + STORED, HeaderSize="-1")
    assert_same(read_volume(whole), by_itk(meta(tmp_path / "c.mha")))
    for path in (
        meta(tmp_path / "b.mha", STORED[:-2], HeaderSize="-1"),
        nrrd(tmp_path / "b.nrrd", STORED[:-2], byte_skip="-1"),
        meta(tmp_path / "b.mhd", b"", file="b.raw", HeaderSize="-1"),
    ):
        (tmp_path / "b.raw").write_bytes(STORED[:-2])
        with pytest.raises(UnreadableImageError, match=r"more than its|end early"):
            read_volume(path)


def test_numbers_as_text_have_no_order_of_bytes(tmp_path):
    words = " ".join(map(str, np.frombuffer(STORED, "<i2"))).encode()
    path = nrrd(tmp_path / "a.nrrd", words, encoding="text", endian=None)
    assert_same(read_volume(path), by_itk(nrrd(tmp_path / "c.nrrd")))
    for encoding in ("raw", "hex"):
        with pytest.raises(UnreadableImageError, match="endian must be"):
            read_volume(nrrd(tmp_path / "b.nrrd", STORED, encoding=encoding, endian=None))


def test_bytes_of_a_subsampled_tiff_are_those_of_its_whole_blocks():
    """5 x 3 pixels in blocks of 2 x 2: six blocks of four grey values and two of colour each."""
    fields = {tiff.WIDTH: (5,), tiff.HEIGHT: (3,), tiff.ROWS: (3,), tiff.BITS: (8, 8, 8), tiff.SAMPLES: (3,)}
    fields |= {tiff.PHOTOMETRIC: (tiff.YCBCR,), tiff.SUBSAMPLING: (2, 2), tiff.STRIPS: (100,)}
    (found,) = tiff.segments_of(tiff.Directory({**fields, tiff.STRIP_SIZES: (36,)}, 8, 90), 136)
    assert repr(found.unpacked) == "(36, 36)"
    with pytest.raises(RefusalError, match="35 bytes stands where its header promises 36"):
        tiff.segments_of(tiff.Directory({**fields, tiff.STRIP_SIZES: (35,)}, 8, 90), 136)
