"""DICOM pixels that are cut, missing or of another size are refused; whole ones of every writer are equal."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from scipy.ndimage import gaussian_filter

from foveate.data.readers.dicom import deflated
from foveate.data.readers.dicom.pixels import stored
from foveate.data.readers.formats import read_files, read_volume
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.sources.folder import FolderSource

from .miniatures import DX, NAME, dataset, enhanced, noise, write, write_series

SMOOTH = gaussian_filter(np.random.default_rng(2).normal(size=(48, 40)), 2)
DEEP = ((SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH) * 4000).astype(np.uint16)
GREY = (DEEP >> 4).astype(np.uint8)
REASON = "truncated|damaged|promises|segments|do not begin|do not end|frames"


def by_gdcm(path, compressor, values=DEEP):
    """A radiograph as SimpleITK compresses it."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    image = sitk.GetImageFromArray(values[None])
    image.SetMetaData("0008|0060", "DX")
    image.SetMetaData("0008|0016", DX)
    writer.Execute(image)
    return pydicom.dcmread(path)


def by_pillow(syntax, kind, values):
    """A radiograph whose frame Pillow compressed."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind)
    return with_frames(dataset(values, SOPClassUID=DX, Modality="DX"), [stream.getvalue()], syntax)


def by_pydicom(values=DEEP):
    data = dataset(values, SOPClassUID=DX, Modality="DX")
    data.compress(RLELossless)
    return data


def of_pydicom(name):
    """A test file of pydicom, which other writers made, as a radiograph."""
    data = pydicom.dcmread(get_testdata_file(name, download=False))
    data.Modality, data.SOPClassUID = "DX", DX
    return data


def with_frames(data, frames, syntax=None):
    data.PixelData = encapsulate(frames)
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax or data.file_meta.TransferSyntaxUID
    return data


CODECS = {
    "lossless JPEG": lambda path: by_gdcm(path, "JPEG"),
    "JPEG 2000 of GDCM": lambda path: by_gdcm(path, "JPEG2000"),
    "JPEG 2000 of Pillow": lambda _: by_pillow(JPEG2000Lossless, "JPEG2000", DEEP),
    "JPEG": lambda _: by_pillow(JPEGBaseline8Bit, "JPEG", GREY),
    "RLE": lambda _: by_pydicom(),
    "RLE of another": lambda _: of_pydicom("MR_small_RLE.dcm"),
    "JPEG-LS": lambda _: of_pydicom("MR_small_jpeg_ls_lossless.dcm"),
}
EXPECTED = {"JPEG": None, "RLE of another": "MR_small.dcm", "JPEG-LS": "MR_small.dcm"}


def refused(data, path, reason=REASON):
    data.save_as(path)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_volume(path)
    assert NAME not in caught.value.reason


@pytest.mark.parametrize("name", CODECS)
def test_frames_that_are_cut_missing_or_of_another_size_are_refused(tmp_path, name, capfd):
    path = tmp_path / "a.dcm"
    data = CODECS[name](path)
    (frame,) = generate_frames(data.PixelData, number_of_frames=1)
    data.save_as(path)
    found = read_volume(path).array[0].T
    if name not in EXPECTED:
        np.testing.assert_array_equal(found, DEEP)
    elif EXPECTED[name]:
        plain = pydicom.dcmread(get_testdata_file(EXPECTED[name], download=False)).pixel_array
        np.testing.assert_array_equal(found, plain)
    assert not capfd.readouterr().err
    for tag in ("Rows", "Columns"):
        for value in (data[tag].value // 2, data[tag].value - 1, data[tag].value + 1, data[tag].value * 2):
            kept = data[tag].value
            data[tag].value = value
            refused(data, path)
            data[tag].value = kept
    end = b"" if "RLE" in name else b"\xff\xd9"
    for share in (0.4, 0.7, 0.9):
        cut = frame[: int(len(frame) * share)].rstrip(b"\xff")
        refused(with_frames(data, [cut]), path)
        refused(with_frames(data, [cut + end]), path)
    for frames in ([frame, frame], [frame + frame], [b"\0\0"]):
        refused(with_frames(data, frames), path)
    data.NumberOfFrames = 2
    data.PixelData = encapsulate([frame])
    refused(with_frames(data, [frame]), path, r"frames|promises")


def test_a_jpeg_2000_of_more_bits_or_without_its_sizes_is_refused(tmp_path):
    data = by_pillow(JPEG2000Lossless, "JPEG2000", DEEP)
    (frame,) = generate_frames(data.PixelData, number_of_frames=1)
    start = frame.index(b"\xff\x4f\xff\x51")
    more = bytearray(frame)
    more[start + 42] += 1
    refused(with_frames(data, [bytes(more)]), tmp_path / "a", r"of 17 bits, its header promises .* of 16")
    for length in (8, 42):
        cut = frame[: start + length]
        refused(with_frames(data, [cut]), tmp_path / "a", "a compressed frame is truncated or damaged")


def test_segments_that_do_not_follow_each_other_are_refused(tmp_path):
    data = by_pydicom()
    (frame,) = generate_frames(data.PixelData, number_of_frames=1)
    for segment, start in ((0, 0), (0, 60), (1, 64), (1, len(frame)), (1, 1 << 30)):
        copy = bytearray(frame)
        struct.pack_into("<I", copy, 4 + 4 * segment, start)
        refused(with_frames(data, [bytes(copy)]), tmp_path / "a.dcm")


def test_a_segment_may_have_one_byte_more_and_no_two(tmp_path):
    """Odd rows and columns; behind a whole segment a run of one byte, or of two."""
    odd = DEEP[:47, :39]
    data = by_pydicom(odd)
    (frame,) = generate_frames(data.PixelData, number_of_frames=1)
    last = struct.unpack_from("<2I", frame, 4)[1]
    count, end = unpacked(frame[last:])
    unpadded = frame[: last + end]
    assert count == odd.size
    with_frames(data, [unpadded + b"\0\7"]).save_as(tmp_path / "a")
    np.testing.assert_array_equal(read_volume(tmp_path / "a").array[0].T, odd)
    refused(with_frames(data, [unpadded + b"\1\7\7"]), tmp_path / "a", r"holds 1835 bytes .* promises 1833")


def unpacked(segment, bytes_of_each=39 * 47):
    """Bytes that a segment of RLE stands for, and where the last run that is one of them ends."""
    at = count = 0
    while count < bytes_of_each:
        code = segment[at]
        at, count = (at + code + 2, count + code + 1) if code < 128 else (at + 2, count + 257 - code)
    return count, at


def test_pixels_that_are_not_compressed_are_as_long_as_promised(tmp_path):
    for length, pad in ((1, b""), (2, b"\0"), (3, b"x")):
        values = np.arange(5 * 3 * length, dtype=np.uint8).reshape(5, -1) * 3
        path = write(tmp_path / "a", values, SOPClassUID=DX, Modality="DX", PixelData=values.tobytes() + pad)
        np.testing.assert_array_equal(read_volume(path).array[0].T, values)
    row = DEEP[0].nbytes
    for rest, whole in (
        *((bytes(2), True), (bytes(row), True)),  # some writers pad
        *((bytes(row + 2), False), (b"x" + bytes(9), False), (DEEP.tobytes(), False)),
    ):
        data = dataset(DEEP, SOPClassUID=DX, Modality="DX", PixelData=DEEP.tobytes() + rest)
        if whole:
            data.save_as(tmp_path / "b", enforce_file_format=True)
            np.testing.assert_array_equal(read_volume(tmp_path / "b").array[0].T, DEEP)
        else:
            refused(data, tmp_path / "b")
    for short in (2, row, DEEP.nbytes // 2):
        data = dataset(DEEP, SOPClassUID=DX, Modality="DX", PixelData=DEEP.tobytes()[:-short])
        refused(data, tmp_path / "b")


def test_files_of_many_writers_hold_what_pydicom_and_gdcm_read():
    for name in (
        *(
            "MR_small_jp2klossless.dcm",
            "SC_rgb_rle_2frame.dcm",
            "SC_rgb_rle_16bit.dcm",
            "MR_small_padded.dcm",
        ),
        *("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "image_dfl.dcm"),
        *("examples_palette.dcm", "SC_ybr_full_422_uncompressed.dcm", "JPEGLSNearLossless_16.dcm"),
        *("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_jpeg.dcm", "liver_1frame.dcm", "rtdose_rle_1frame.dcm"),
    ):
        data = pydicom.dcmread(get_testdata_file(name, download=False))
        frames = (data.get("NumberOfFrames") or 1,) if data.get("NumberOfFrames", 1) > 1 else ()
        assert stored(data).shape == (*frames, data.Rows, data.Columns), name


# --- the deflated transfer syntax ---


def deflate(path, data, change=lambda packed: packed):
    """Written by pydicom as it is, its stream changed afterwards."""
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    start = 144 + struct.unpack_from("<I", whole, 140)[0]
    path.write_bytes(whole[:start] + change(whole[start:]))
    return path


def test_deflated_series_pictures_and_frames_are_what_was_written(tmp_path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    write_series(plain, noise(5))
    packed.mkdir()
    for path in plain.iterdir():
        deflate(packed / path.name, pydicom.dcmread(path))
    found = [next(r for r in FolderSource().records(root) if r.role == "image") for root in (plain, packed)]
    first, second = (read_files(record.files) for record in found)
    assert [record.patient for record in found] == [NAME, NAME]
    np.testing.assert_array_equal(first.array, second.array)
    path = enhanced(tmp_path / "e", noise(4), [2, 0, 3, 1])
    np.testing.assert_array_equal(
        read_volume(deflate(tmp_path / "f", pydicom.dcmread(path))).array, read_volume(path).array
    )


def test_deflated_file_that_is_cut_or_changed_is_refused(tmp_path):
    def radiograph(change, **tags):
        data = dataset(DEEP, SOPClassUID=DX, Modality="DX", **tags)
        return deflate(tmp_path / "a", data, change)

    np.testing.assert_array_equal(read_volume(radiograph(lambda packed: packed)).array[0].T, DEEP)
    np.testing.assert_array_equal(read_volume(radiograph(lambda packed: packed + b"\0")).array[0].T, DEEP)
    for change in (
        *(lambda packed: packed[:-3], lambda packed: packed[:-20], lambda packed: packed[:300]),
        *(lambda _: b"", lambda packed: b"\xff" + packed),  # the last byte may be padding
    ):
        with pytest.raises(UnreadableImageError, match=r"truncated|damaged|not DICOM|promises") as caught:
            read_volume(radiograph(change))
        assert NAME not in caught.value.reason
    with pytest.raises(UnreadableImageError, match=REASON):
        read_volume(radiograph(lambda packed: packed, Rows=90))


@pytest.mark.parametrize("count", range(140, 190))
def test_deflated_file_is_whole_wherever_a_piece_of_its_header_ends(tmp_path, monkeypatch, count):
    monkeypatch.setattr(deflated, "META_BYTES", count)
    path = deflate(tmp_path / "a", dataset(DEEP, SOPClassUID=DX, Modality="DX"))
    assert deflated.readable(path, DEEP.size).getvalue().endswith(DEEP.tobytes())


def test_deflated_file_that_unpacks_to_more_than_it_promises_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(deflated, "HEADER_BYTES", 1 << 17)
    packer = zlib.compressobj(wbits=-15)

    def longer(packed):
        plain = zlib.decompress(packed, -15)
        more = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 1 << 22) + bytes(1 << 22)
        return packer.compress(plain + more) + packer.flush()

    path = deflate(tmp_path / "a", dataset(DEEP, SOPClassUID=DX, Modality="DX"), longer)
    with pytest.raises(UnreadableImageError, match="unpack to more than"):
        read_volume(path)
