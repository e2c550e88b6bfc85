"""Pictures and archives of which a part is missing are refused; whole ones of every writer are bit-equal."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib

import imageio.v3 as imageio
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError

RNG = np.random.default_rng(5)
SMOOTH = gaussian_filter(RNG.normal(size=(96, 80)), 2)
GREY = ((SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH) * 255).astype(np.uint8)
DEEP = ((SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH) * 65535).astype(np.uint16)
REAL = SMOOTH.astype(np.float32)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)
VALUES = RNG.integers(-900, 900, (6, 7, 8)).astype(np.int16)


def rows_of(path):
    return read_volume(path).array[0].T


def refused(path, data, reason="truncated|damaged|promises"):
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_volume(path)
    assert path.name not in caught.value.reason


def saved(rows, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(rows).save(stream, kind, **options)
    return stream.getvalue()


# --- PNG ---


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


LAST = chunk(b"IEND", b"")


def png(packed, height=96, header=b"\x08\x00\x00\x00\x00", width=80, end=LAST):
    size = struct.pack(">II", width, height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + header) + chunk(b"IDAT", packed) + end


PLAIN = b"".join(b"\0" + row.tobytes() for row in GREY)


def test_png_whose_rows_are_not_all_there_is_refused(tmp_path):
    path, packed = tmp_path / "a.png", zlib.compress(PLAIN)
    path.write_bytes(png(packed))
    np.testing.assert_array_equal(rows_of(path), GREY)
    for data in (
        *(png(packed, height=97), png(packed, height=192), png(packed, height=95)),
        *(png(packed[: len(packed) // 2]), png(packed[:-4]), png(packed[:-1] + b"x")),
        *(png(zlib.compress(PLAIN[:-81])), png(zlib.compress(PLAIN + b"x")), png(packed, end=b"")),
        *(png(packed)[:-1], png(packed)[:-20], png(packed)[:-20] + b"x" + png(packed)[-19:]),
    ):
        refused(path, data)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_interlaced_png_of_any_depth_is_whole(tmp_path, bits):
    """Pillow writes none, so the passes are made here."""
    height, width, shift = 11, 13, max(0, 8 - bits)
    values = RNG.integers(0, 1 << bits, (height, width))
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    plain = b""
    for left, top, across, down in passes:
        for row in values[top::down, left::across]:
            digits = "".join(f"{value:0{bits}b}" for value in row)
            digits += "0" * (-len(digits) % 8)
            plain += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    data = png(zlib.compress(plain), height, bytes([bits, 0, 0, 0, 1]), width)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    found = read_volume(path, as_map=True).array[0].T
    scale = 1 if bits > 8 else 255 // ((1 << bits) - 1)
    np.testing.assert_array_equal(found, values * scale)
    assert shift or bits >= 8
    refused(path, png(zlib.compress(plain[:-2]), height, bytes([bits, 0, 0, 0, 1]), width))


@pytest.mark.parametrize("rows", [GREY, DEEP])
def test_png_of_every_writer_is_whole(tmp_path, rows):
    Image.fromarray(rows).save(tmp_path / "pillow.png", optimize=True)
    sitk.WriteImage(sitk.GetImageFromArray(rows), str(tmp_path / "itk.png"), useCompression=True)
    imageio.imwrite(tmp_path / "imageio.png", rows)
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(rows_of(path), rows)


# --- JPEG ---


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100, "optimize": True}]
)
@pytest.mark.parametrize("rows", [GREY, COLOUR])
def test_jpeg_whose_scan_is_cut_is_refused_though_it_ends_well(tmp_path, options, rows):
    whole, path = saved(rows, "JPEG", **options), tmp_path / "a.jpg"
    path.write_bytes(whole + b"more")
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("L"))
    np.testing.assert_array_equal(rows_of(path), expected)
    for share in (0.6, 0.8, 0.97):
        cut = whole[: int(len(whole) * share)].rstrip(b"\xff")
        refused(path, cut)
        refused(path, cut + b"\xff\xd9", "truncated|damaged|restart")
    refused(path, whole[:-2])
    frame = whole.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0") + 5
    refused(path, whole[:frame] + (192).to_bytes(2, "big") + whole[frame + 2 :], "truncated|damaged|restart")


def test_jpeg_cut_where_an_interval_ends_is_refused(tmp_path):
    whole = saved(GREY, "JPEG", restart_marker_rows=1)
    refused(tmp_path / "a.jpg", whole[: whole.index(b"\xff\xd5")] + b"\xff\xd9", "5 restart markers")


def test_jpeg_of_every_writer_is_whole(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "pillow.jpg", exif=Image.Exif(), icc_profile=b"x" * 70000)
    sitk.WriteImage(sitk.GetImageFromArray(GREY), str(tmp_path / "itk.jpg"))
    imageio.imwrite(tmp_path / "imageio.jpg", COLOUR, subsampling=2)
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(rows_of(path), np.asarray(Image.open(path).convert("L")))


# --- TIFF ---

COMPRESSIONS = [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"]


@pytest.mark.parametrize("rows", [GREY, DEEP, REAL, COLOUR])
def test_tiff_of_every_writer_is_whole(tmp_path, rows):
    for name in COMPRESSIONS:
        Image.fromarray(rows).save(tmp_path / f"pillow{name}.tif", compression=name)
    for name in (None, "zlib"):
        tifffile.imwrite(tmp_path / f"strips{name}.tif", rows, rowsperstrip=13, compression=name)
        tifffile.imwrite(tmp_path / f"tiles{name}.tif", rows, tile=(32, 48), compression=name)
        tifffile.imwrite(tmp_path / f"big{name}.tif", rows, bigtiff=True, rowsperstrip=7, compression=name)
    tifffile.imwrite(tmp_path / "motorola.tif", rows, byteorder=">", rowsperstrip=13)
    for packed in (False, True):
        image = sitk.GetImageFromArray(rows, isVector=rows.ndim == 3)
        sitk.WriteImage(image, str(tmp_path / f"itk{packed}.tif"), useCompression=packed)
    expected = np.asarray(Image.fromarray(rows).convert("L")) if rows.ndim == 3 else rows
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(rows_of(path), expected, err_msg=path.name)


def fields(data):
    """Where the entry of each field of a TIFF is."""
    first = struct.unpack_from("<I", data, 4)[0]
    entries = range(first + 2, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], 12)
    return {struct.unpack_from("<H", data, at)[0]: at for at in entries}


def changed(data, tag, value, item=None):
    """A TIFF with another value of a field, or of one of its values."""
    at, copy = fields(data)[tag], bytearray(data)
    kind, count = struct.unpack_from("<HI", data, at + 2)
    size = 2 if kind == 3 else 4
    first = at + 8 if count * size <= 4 else struct.unpack_from("<I", data, at + 8)[0]
    struct.pack_into("<H" if kind == 3 else "<I", copy, first + size * (item or 0), value)
    return bytes(copy)


def fewer(data, tag, count):
    """A TIFF that lists fewer strips or tiles."""
    copy = bytearray(data)
    struct.pack_into("<I", copy, fields(data)[tag] + 4, count)
    return bytes(copy)


def written(rows, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, rows, **options)
    return stream.getvalue()


@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.parametrize(("layout", "starts"), [({"rowsperstrip": 16}, 273), ({"tile": (32, 48)}, 324)])
def test_tiff_with_a_strip_or_tile_missing_or_elsewhere_is_refused(tmp_path, layout, starts, packed):
    data, path = written(DEEP, compression=packed, **layout), tmp_path / "a.tif"
    path.write_bytes(data)
    np.testing.assert_array_equal(rows_of(path), DEEP)
    first = struct.unpack_from("<I", data, struct.unpack_from("<I", data, fields(data)[starts] + 8)[0])[0]
    for damaged in (
        *(fewer(data, starts, 3), fewer(data, starts, 5)),
        *(changed(data, 257, 192), changed(data, 257, 40), changed(data, 256, 800)),
        *(changed(data, starts, at, 1) for at in (0, 4, len(data) - 10, first + 6)),
        *(changed(data, starts + (6 if starts == 273 else 1), size, 2) for size in (0, 1, len(data))),
    ):
        refused(path, damaged)


@pytest.mark.parametrize("rows", [GREY, DEEP])
def test_raw_tiff_that_promises_more_rows_than_it_has_is_refused(tmp_path, rows):
    data, path = saved(rows, "TIFF"), tmp_path / "a.tif"
    for height in (97, 192, 9000):
        refused(path, changed(data, 257, height))


def test_tiff_whose_deflate_stream_is_damaged_is_refused(tmp_path):
    data, path = written(DEEP, compression="zlib", rowsperstrip=16), tmp_path / "a.tif"
    first = struct.unpack_from("<I", data, struct.unpack_from("<I", data, fields(data)[273] + 8)[0])[0]
    for at in range(first + 40, first + 14000, 97):
        refused(path, data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :])


@pytest.mark.parametrize("rows", [GREY, COLOUR])
def test_tiff_of_jpeg_is_whole_or_refused(tmp_path, rows):
    data, path = saved(rows, "TIFF", compression="jpeg", strip_size=16 * rows[0].nbytes), tmp_path / "a.tif"
    path.write_bytes(data)
    np.testing.assert_array_equal(rows_of(path), np.asarray(Image.open(path).convert("L")))
    refused(path, changed(data, 256, 88))
    end = data.index(b"\xff\xd9", data.index(b"\xff\xda"))
    cut = bytearray(data)
    cut[end - 60 : end - 58] = b"\xff\xd9"
    refused(path, bytes(cut))


# --- npz ---


def archive(path, body, names=("image.npy",), shape=(6, 7, 8), kind=zipfile.ZIP_DEFLATED):
    header = f"{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", kind) as found:
        warnings.simplefilter("ignore")  # of one name for two files
        for name in names:
            found.writestr(name, npy)
    return path.read_bytes()


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archive_whose_array_is_not_what_its_header_promises_is_refused(tmp_path, kind):
    path, body = tmp_path / "a.npz", VALUES.tobytes()
    data = archive(path, body, kind=kind)
    np.testing.assert_array_equal(read_volume(path).array[0], VALUES)
    for at in range(len(data) // 2, len(data) - 150, 37):
        refused(path, data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :])
    for damaged in (
        archive(path, body, shape=(5, 7, 8), kind=kind),
        archive(path, body + b"xx", kind=kind),
        archive(path, body[:-2], kind=kind),
    ):
        refused(path, damaged)
    refused(path, archive(path, body, ("image.npy", "image.npy"), kind=kind), "2 of its arrays")


def test_archive_in_any_order_and_byte_order_is_whole(tmp_path):
    for name, array in {
        "fortran": np.asfortranarray(VALUES),
        "big": VALUES.astype(">i2"),
        "half": VALUES.astype(np.float16),
        "truth": VALUES > 0,
    }.items():
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / f"{name}.npz", image=array)
            found = read_volume(tmp_path / f"{name}.npz", as_map=True).array[0]
            np.testing.assert_array_equal(found, array.astype(found.dtype))
