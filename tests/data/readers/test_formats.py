"""Every file that can be read, and every reason why one cannot."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from PIL import Image

from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError

RAMP = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def oblique(flips: tuple[int, int, int], order: tuple[int, int, int], degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.diag(np.multiply(flips, (0.7, 1.5, 3.0))))[:, order]
    affine[:3, 3] = (-30.0, 12.5, 7.0)
    return affine


@pytest.mark.parametrize(
    ("flips", "order", "degrees"),
    [
        ((1, 1, 1), (0, 1, 2), 0),
        ((-1, -1, 1), (0, 1, 2), 0),
        ((1, -1, -1), (2, 0, 1), 0),
        ((-1, 1, 1), (1, 2, 0), 20),
    ],
)
def test_nifti_voxels_keep_their_place_in_millimetres(tmp_path, flips, order, degrees):
    affine = oblique(flips, order, degrees)
    nib.save(nib.Nifti1Image(RAMP, affine), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    source = nib.load(tmp_path / "a.nii.gz")
    raw = np.asarray(source.dataobj)
    assert volume.array.shape[0] == 1
    assert volume.array.dtype == np.int16
    for index in np.ndindex(*volume.array.shape[1:]):
        theirs = np.argwhere(raw == volume.array[(0, *index)])[0]  # the ramp's values are unique
        there = apply_affine(source.affine, theirs)
        np.testing.assert_allclose(apply_affine(volume.affine, index), there, atol=1e-4)
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert sorted(volume.spacing_mm) == pytest.approx([0.7, 1.5, 3.0], abs=1e-4)


def test_nifti_slope_and_units_are_applied(tmp_path):
    image = nib.Nifti1Image(RAMP, np.diag([200.0, 200.0, 500.0, 1.0]))
    image.header.set_slope_inter(2.0, -1024.0)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.array[0], stored.get_fdata())
    assert volume.array.min() == -1024
    assert volume.spacing_mm == pytest.approx((0.2, 0.2, 0.5))


def test_trailing_axis_of_one_is_dropped_and_bits_are_the_sources(tmp_path):
    nib.save(nib.Nifti1Image(RAMP.astype(np.uint8)[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert (volume.array.shape, volume.bits) == ((1, 4, 5, 6), 8)


def test_pictures_have_x_to_the_right_and_y_down(tmp_path):
    rows = np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8)  # 2 rows of 3 columns
    Image.fromarray(rows).save(tmp_path / "a.PNG")
    volume = read_volume(tmp_path / "a.PNG")
    assert volume.array.shape == (1, 3, 2)
    assert volume.array[0, 2, 0] == 30
    assert volume.array[0, 0, 1] == 40
    assert (volume.bits, volume.spacing_mm) == (8, (1.0, 1.0))


def test_sixteen_bit_picture_keeps_its_values(tmp_path):
    rows = np.array([[0, 1000], [40000, 65535]], dtype=np.uint16)
    Image.fromarray(rows).save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.array[0].T, rows)
    assert volume.bits == 16


def test_colour_becomes_luminance_with_or_without_alpha(tmp_path):
    colours = np.zeros((2, 2, 3), dtype=np.uint8)
    colours[0, 0], colours[0, 1], colours[1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    Image.fromarray(colours).convert("RGBA").save(tmp_path / "rgba.png")
    for name in ("rgb.png", "rgba.png"):
        array = read_volume(tmp_path / name).array[0]
        assert [int(array[0, 0]), int(array[1, 0]), int(array[0, 1])] == [76, 150, 29]  # ITU-R 601


def test_camera_orientation_is_applied(tmp_path):
    rows = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (8, 1))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(rows).save(tmp_path / "a.jpg", exif=exif, quality=95)
    array = read_volume(tmp_path / "a.jpg").array[0]
    assert array[0, 4] > 200
    assert array[15, 4] < 50


def nifti(array: np.ndarray, affine: np.ndarray | None = None):
    def write(path: Path) -> None:
        nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)

    return write


def cut(write, share: float):
    def write_a_part(path: Path) -> None:
        write(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

    return write_a_part


def picture(array: np.ndarray):
    return lambda path: Image.fromarray(array).save(path)


def animation(path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 99)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def deep_colour(path: Path) -> None:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + bytes(range(12)))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def singular(path: Path) -> None:
    image = nib.Nifti1Image(RAMP, np.eye(4))
    image.header.set_sform(np.eye(4), code=1)
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<4f", raw, 312, 0.0, 0.0, 0.0, 0.0)  # srow_z
    path.write_bytes(raw)


def odd_header(path: Path) -> None:
    """A constant image whose header makes nibabel complain."""
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 7, np.int16), np.eye(4)), path)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<f", raw, 76, 5.0)  # pixdim[0] must be 1 or -1
    struct.pack_into("<h", raw, 254, 99)  # no such sform code
    path.write_bytes(raw)


NOISE = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
NOT_FINITE = NOISE.copy()
NOT_FINITE[0, 0, :3] = np.nan, np.inf, -np.inf
RGB = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])

BAD = {
    "4d.nii.gz": (nifti(np.zeros((4, 4, 4, 3), np.int16)), "4D"),
    "slice.nii.gz": (nifti(RAMP[:, :, :1]), "single slice"),
    "flat.nii": (nifti(RAMP[0]), "single slice"),
    "complex.nii.gz": (nifti(RAMP.astype(np.complex64)), "complex"),
    "rgb.nii.gz": (nifti(RGB), "colours"),
    "chatty.nii": (odd_header, "constant"),
    "singular.nii": (singular, "affine"),
    "no_bytes.nii.gz": (lambda path: path.write_bytes(b""), "empty"),
    "no_bytes.png": (lambda path: path.write_bytes(b""), "empty"),
    "cut.nii.gz": (cut(nifti(NOISE), 0.6), "truncated"),
    "cut.nii": (cut(nifti(NOISE), 0.6), "claims 8000 voxels, more than its 19411 bytes can hold"),
    "header_only.nii": (cut(nifti(NOISE), 0.005), "truncated"),
    "text.nii.gz": (lambda path: path.write_bytes(gzip.compress(b"hello " * 99)), "damaged"),
    "not_gzip.nii.gz": (lambda path: path.write_bytes(b"plain text, not gzip" * 40), "damaged"),
    "nan.nii.gz": (nifti(NOT_FINITE), "3 of 8000 voxels are NaN or infinite"),
    "constant.nii.gz": (nifti(np.full((4, 4, 4), 7, np.int16)), "constant"),
    "constant.png": (picture(np.full((4, 4), 7, np.uint8)), "constant"),
    "cut.png": (cut(picture((np.abs(NOISE[0]) * 60).astype(np.uint8)), 0.6), "truncated"),
    "cut.jpg": (cut(picture((np.abs(NOISE[0]) * 60).astype(np.uint8)), 0.6), "truncated"),
    "text.jpg": (lambda path: path.write_text("hello"), "damaged"),
    "moving.png": (animation, "2 frames"),
    "deep.png": (deep_colour, "16-bit colour"),
    "scan.dcm": (lambda path: path.write_bytes(b"DICM"), r"not DICOM.*accepted: \.nii\.gz"),
    "mask.nii": (
        nifti(np.repeat(np.arange(3, dtype=np.int16), 64).reshape(3, 8, 8)),
        "look like labels: 3 whole",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_with_a_reason_that_names_nothing(tmp_path, name, capfd, recwarn, caplog):
    write, reason = BAD[name]
    path = tmp_path / name
    write(path)
    capfd.readouterr()
    recwarn.clear()
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)
    assert path.name not in caught.value.reason
    assert str(tmp_path) not in caught.value.reason
    assert (caught.value.reason.count("\n"), len(recwarn)) == (0, 0)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_header_claiming_more_than_memory_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(RAMP, np.eye(4)), tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<4h", raw, 40, 3, 30000, 30000, 30000)
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(UnreadableImageError, match=r"claims 2\.70e\+13 voxels"):
        read_volume(tmp_path / "a.nii")
