"""DICOM: series under any name, values that mean something, geometry as ITK has it, what is set aside."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from foveate.data.readers.canonical import source_affine, to_source
from foveate.data.readers.formats import read_files, read_volume
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.sources.folder import FolderSource

from .miniatures import (
    CAPTURE,
    DX,
    NAME,
    NORMAL,
    RTSTRUCT,
    enhanced,
    noise,
    place,
    write,
    write_series,
)

RAMP = np.arange(30, dtype=np.uint16).reshape(6, 5) * 100


def listed(root):
    return list(FolderSource().records(root))


def images(root):
    return [record for record in listed(root) if record.role == "image"]


def only(root):
    (record,) = images(root)
    return record


def itk_reading(paths):
    """SimpleITK's own reading of files in this order: values [x, y, z] and the affine to RAS+."""
    image = sitk.ReadImage([str(path) for path in paths])
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


def test_a_tilted_series_is_what_itk_reads(tmp_path):
    write_series(tmp_path / "a" / "b", noise(9), RescaleSlope=1, RescaleIntercept=-24)
    record = only(tmp_path)
    assert (record.modality, record.patient, record.dimension) == ("CT", NAME, 3)
    assert (len(record.files), record.evidence) == (9, "DICOM CT, slices: 9")
    volume = read_files(record.files)
    values, affine = itk_reading(record.files)
    shape = volume.array.shape[1:]
    np.testing.assert_array_equal(to_source(volume.array[0], volume.orientation), values)
    np.testing.assert_allclose(
        source_affine(volume.affine, volume.orientation, shape), affine, rtol=0, atol=1e-4
    )
    assert (volume.array.dtype, volume.array.min()) == (np.int16, noise(9).min() - 24)
    assert sorted(volume.spacing_mm) == pytest.approx([0.5, 0.75, 2.5])


def test_slope_of_every_slice_is_its_own(tmp_path):
    write_series(tmp_path, noise(5), Modality="PT", RescaleSlope=lambda k: 0.25 + 0.5 * k, RescaleIntercept=0)
    record = only(tmp_path)
    volume = read_files(record.files)
    np.testing.assert_allclose(
        to_source(volume.array[0], volume.orientation), itk_reading(record.files)[0], rtol=1e-6
    )
    assert volume.array.dtype == np.float32


def test_two_series_in_one_folder_and_no_suffix(tmp_path):
    from pydicom.uid import generate_uid

    write_series(tmp_path, noise(5), names=[f"x{k}" for k in range(5)])
    write_series(tmp_path, noise(6), names=[f"1.2.{k}" for k in range(6)], SeriesInstanceUID=generate_uid())
    assert sorted(len(record.files) for record in images(tmp_path)) == [5, 6]


def test_file_without_preamble_is_known_by_its_first_element(tmp_path):
    whole = write(tmp_path / "bare", noise(1)[0]).read_bytes()
    assert whole[:132] == bytes(128) + b"DICM"
    (tmp_path / "bare").write_bytes(whole[132:])
    assert read_volume(tmp_path / "bare").array.shape == (1, 5, 6)


def test_a_gap_ends_one_volume_and_begins_the_next(tmp_path):
    write_series(tmp_path, noise(11), ImagePositionPatient=lambda k: place(k if k < 5 else k + 2))
    records = images(tmp_path)
    assert [len(record.files) for record in records] in ([5, 6], [6, 5])
    assert {record.evidence for record in records} == {
        f"DICOM CT, slices: {n}, one of 2 volumes of its series (gaps)" for n in (5, 6)
    }


def test_a_gap_behind_the_first_slice_costs_only_that_slice(tmp_path):
    write_series(tmp_path, noise(7), ImagePositionPatient=lambda k: place(k if k < 1 else k + 3))
    assert [len(record.files) for record in images(tmp_path)] == [6]


@pytest.mark.parametrize(("thickness", "volumes"), [(5.0, 2), (2.5, 1)])
def test_acquisitions_between_each_others_slices_are_apart_where_their_slices_overlap(
    tmp_path, thickness, volumes
):
    """Thick slices half a step apart are two scans; slices as thick as the step, taken in turns, are one."""
    stored = noise(12)
    tags = {"AcquisitionNumber": lambda k: int(k % 2) + 1, "SliceThickness": thickness}
    write_series(tmp_path, stored, **tags)
    records = [record for record in FolderSource().records(tmp_path) if record.role == "image"]
    assert sorted(len(record.files) for record in records) == [12 // volumes] * volumes
    assert all(("between each other's slices" in r.evidence) == (volumes > 1) for r in records)


def test_repeated_places_are_volumes_of_their_own_and_copies_are_dropped(tmp_path):
    write_series(tmp_path / "t0", noise(5), AcquisitionNumber=1)
    write_series(tmp_path / "t1", noise(5)[::-1], AcquisitionNumber=2)
    records = images(tmp_path)
    assert [record.relative.split("/")[0] for record in records] == ["t0", "t1"]
    assert all({path.parent for path in r.files} == {r.path.parent} for r in records)
    assert "repeated slices" in records[0].evidence
    for path in list((tmp_path / "t0").iterdir()):
        (tmp_path / "t0" / f"copy{path.name}").write_bytes(path.read_bytes())
    again = images(tmp_path)
    assert [len(record.files) for record in again] == [5, 5]
    assert "copies dropped" in again[0].evidence


def test_localizer_of_another_orientation_is_set_aside(tmp_path):
    write_series(tmp_path, noise(6))
    write_series(tmp_path / "scout", noise(3), ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    assert [len(record.files) for record in images(tmp_path)] == [6]
    aside = [record for record in listed(tmp_path) if record.role == "other"]
    assert "a localizer or a fragment" in aside[0].evidence
    assert "mixed orientations" in aside[0].evidence


def test_noise_in_headers_does_not_split_a_series(tmp_path):
    def jitter(k):
        return [x + 1e-4 * (-1) ** k for x in place(k)]

    write_series(
        tmp_path, noise(8), ImagePositionPatient=jitter, PixelSpacing=lambda k: [0.5, 0.75 + 1e-8 * k]
    )
    assert [len(record.files) for record in images(tmp_path)] == [8]


def test_gantry_tilt_leans_the_affine(tmp_path):
    lean = np.array([0.4, 0.1, 0.0])
    write_series(
        tmp_path, noise(5), ImagePositionPatient=lambda k: [float(x) for x in np.array(place(k)) + k * lean]
    )
    record = only(tmp_path)
    volume = read_files(record.files)
    source = source_affine(volume.affine, volume.orientation, volume.array.shape[1:])
    np.testing.assert_allclose(source[:3, 2] * [-1, -1, 1], 2.5 * NORMAL + lean, atol=1e-5)


@pytest.mark.parametrize(
    ("tags", "role", "words"),
    [
        ({"SOPClassUID": RTSTRUCT, "Modality": "RTSTRUCT"}, "structure", "RTSTRUCT"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}, "structure", "SEG"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "CT"}, "structure", "segmentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.1", "Modality": "REG"}, "other", "registration"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Modality": "SR"}, "other", "report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1", "Modality": "PR"}, "other", "presentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "Modality": "RTDOSE"}, "other", "dose"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.30", "Modality": "MR"}, "other", "parametric map"),
        ({"SOPClassUID": CAPTURE, "ImageType": ["DERIVED", "SECONDARY"]}, "other", "secondary capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "other", "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, "other", "projection"),
        ({"Modality": "OT"}, "other", "unknown kind"),
        ({"Modality": "JANE DOE"}, "other", "kind that is not read"),
        ({"ImagePositionPatient": None}, "other", "without position"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "other", "without position"),
    ],
)
def test_what_is_no_image_is_set_aside_with_evidence(tmp_path, tags, role, words):
    write_series(tmp_path, noise(5), **tags)
    records = listed(tmp_path)
    assert {record.role for record in records} == {role}
    assert all(words in record.evidence for record in records)
    assert not any(NAME in record.evidence or "JANE" in record.evidence for record in records)


def test_derived_images_of_a_scanner_stay_images(tmp_path):
    write_series(tmp_path, noise(5), Modality="PT", ImageType=["DERIVED", "SECONDARY"])
    assert len(images(tmp_path)) == 1


def test_image_in_a_folder_of_masks_is_a_label(tmp_path):
    write_series(tmp_path / "masks", noise(5))
    assert [(r.role, r.evidence) for r in listed(tmp_path)] == [("label", "folder masks")]


def test_twelve_bits_of_sixteen_are_cut_and_signed(tmp_path):
    words = np.array([[0x0FFF, 0x8001, 3], [0x0800, 0x07FF, 5]], np.uint16)
    bits = {"BitsStored": 12, "HighBit": 11}
    unsigned = read_volume(write(tmp_path / "u", words, **bits)).array[0].T
    np.testing.assert_array_equal(unsigned, [[4095, 1, 3], [2048, 2047, 5]])
    signed = read_volume(write(tmp_path / "s", words, **bits, PixelRepresentation=1)).array[0].T
    np.testing.assert_array_equal(signed, [[-1, 1, 3], [-2048, 2047, 5]])


def radiograph(path, **tags):
    own = {"SOPClassUID": DX, "Modality": "DX", "ImagerPixelSpacing": [0.2, 0.1], "PixelSpacing": None}
    bits = {"BitsStored": 12, "HighBit": 11}
    return write(path, RAMP, **{**own, **bits, "WindowCenter": [1000, 9], "WindowWidth": [400, 9], **tags})


def test_radiograph_keeps_its_values_and_offers_its_window(tmp_path):
    volume = read_volume(radiograph(tmp_path / "a"))
    np.testing.assert_array_equal(volume.array[0].T, RAMP)
    assert (volume.modality, volume.spacing_mm, volume.window) == ("DX", (0.1, 0.2), (800.0, 1200.0))
    assert only(tmp_path).dimension == FolderSource().dimension(tmp_path) == 2


def test_radiograph_that_says_its_pixels_have_no_size_has_pixels_of_one(tmp_path):
    zero, silent = (
        radiograph(tmp_path / "a", ImagerPixelSpacing=[0, 0]),
        radiograph(tmp_path / "b", ImagerPixelSpacing=None),
    )
    assert read_volume(zero).spacing_mm == read_volume(silent).spacing_mm == (1.0, 1.0)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -50), (0.5, 3)])
def test_white_as_zero_is_turned_back_with_its_window(tmp_path, slope, intercept):
    tags = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    plain = read_volume(radiograph(tmp_path / "a", **tags))
    turned = read_volume(radiograph(tmp_path / "b", PhotometricInterpretation="MONOCHROME1", **tags))
    total = slope * 4095 + 2 * intercept
    np.testing.assert_allclose(turned.array, total - plain.array.astype(float), atol=1e-3)
    assert turned.window == (total - 1200, total - 800)


def test_white_as_zero_means_nothing_to_a_ct(tmp_path):
    write_series(tmp_path, noise(5), PhotometricInterpretation="MONOCHROME1")
    volume = read_files(only(tmp_path).files)
    assert volume.array.min() == noise(5).min()


def test_frames_of_an_enhanced_file_are_sorted_and_scaled_each(tmp_path):
    stored = noise(6)
    enhanced(tmp_path / "e", stored, [3, 0, 5, 1, 4, 2])
    record = only(tmp_path)
    assert (record.dimension, record.files, record.modality) == (3, (), "MR")
    volume = read_volume(record.path)
    source = to_source(volume.array[0], volume.orientation)
    wanted = stored.astype(int) * np.arange(1, 7)[:, None, None]
    if np.array_equal(source[0, 0], wanted[::-1, 0, 0]):
        wanted = wanted[::-1]
    np.testing.assert_array_equal(source, wanted.transpose(2, 1, 0))
    assert sorted(volume.spacing_mm) == pytest.approx([0.5, 0.75, 2.5])


def test_enhanced_file_of_two_volumes_is_refused(tmp_path):
    enhanced(tmp_path / "e", noise(5), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    with pytest.raises(UnreadableImageError, match="10 frames form 2 stacks"):
        read_volume(tmp_path / "e")


def test_film_is_set_aside(tmp_path):
    write(
        tmp_path / "us", noise(4), Modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1", NumberOfFrames=4
    )
    assert [(r.role, r.evidence) for r in listed(tmp_path)] == [
        ("other", "DICOM US: 4 frames that are not slices of a volume")
    ]


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_lossless_compression_is_undone(tmp_path, compressor):
    values = np.random.default_rng(0).integers(0, 4096, (40, 50)).astype(np.uint16)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    image = sitk.GetImageFromArray(values[None])
    image.SetMetaData("0008|0060", "DX")
    image.SetMetaData("0008|0016", DX)
    writer.Execute(image)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[0].T, values)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PixelData": b"12"}, "truncated"),
        ({"HighBit": 14, "BitsStored": 12}, "lowest bit"),
        ({"Rows": 65535, "Columns": 65535}, "claims 4.29e.09 voxels"),
        ({"RescaleSlope": "1e999"}, "slope or intercept"),
    ],
)
def test_damaged_file_is_refused_without_its_text(tmp_path, tags, reason):
    write(tmp_path / "a", RAMP, **tags)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_volume(tmp_path / "a")
    assert NAME not in caught.value.reason
    assert "\n" not in caught.value.reason


def test_series_that_changed_after_listing_is_refused(tmp_path):
    write_series(tmp_path, noise(6))
    record = only(tmp_path)
    write(record.files[2], noise(1)[0], ImagePositionPatient=[0, 0, 0])
    with pytest.raises(UnreadableImageError, match="constant step"):
        read_files(record.files)


def test_listing_reads_no_pixel(tmp_path, monkeypatch):
    import pydicom

    write_series(tmp_path, noise(5))
    asked = []
    original = pydicom.dcmread
    monkeypatch.setattr(
        pydicom, "dcmread", lambda *args, **keys: asked.append(keys) or original(*args, **keys)
    )
    assert len(images(tmp_path)) == 1
    assert len(asked) == 5
    assert all(keys["stop_before_pixels"] and keys["specific_tags"] for keys in asked)


def test_of_a_study_that_was_sent_again_the_whole_files_are_read(tmp_path):
    write_series(tmp_path / "first", noise(6), SOPInstanceUID=lambda k: f"1.2.3.{k + 1}")
    write_series(tmp_path / "second", noise(6), SOPInstanceUID=lambda k: f"1.2.3.{k + 1}")
    cut = sorted((tmp_path / "first").iterdir())[2]
    cut.write_bytes(cut.read_bytes()[:-20])  # within the pixels
    record = only(tmp_path)
    assert [path.parent.name for path in record.files].count("second") == 1
    np.testing.assert_array_equal(
        read_files(record.files).array, read_files(only(tmp_path / "second").files).array
    )


def test_slices_that_an_anonymiser_gave_one_name_are_no_copies(tmp_path):
    write_series(tmp_path, noise(6), SOPInstanceUID="1.2.3")
    assert [len(record.files) for record in images(tmp_path)] == [6]
