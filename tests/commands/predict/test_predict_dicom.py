"""Predictions as DICOM objects: they refer to the image, and other libraries read the same voxels."""

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from scipy import ndimage
from skimage.draw import polygon2mask
from tests.commands.predict.test_predict import given, ideal, write_scan  # noqa: F401 - a fixture
from tests.data.readers.dicom import drawings
from tests.data.readers.dicom.miniatures import enhanced, write_series
from tests.data.readers.dicom.rules import check_segmentation, check_structure_set, dciodvfy

from foveate.core.types import FoveateError

SHAPE = (14, 26, 30)


@pytest.fixture
def scan(tmp_path):
    """Two series in one folder, of a study, with bright shapes: a ring, and a spot."""
    truth = np.zeros(SHAPE, dtype=bool)
    z, y, x = np.ogrid[:14, :26, :30]
    distance = ((z - 6) / 5) ** 2 + ((y - 13) / 10) ** 2 + ((x - 14) / 12) ** 2
    truth[(distance < 1) & (distance > 0.3)] = True
    noise = np.random.default_rng(0).integers(0, 60, SHAPE)
    about = {**drawings.PATIENT, **drawings.NAMED, "StudyInstanceUID": drawings.STUDY, "SeriesNumber": 3}
    about |= {"FrameOfReferenceUID": drawings.FRAME, "SliceThickness": 2.5, "StudyID": "longer than sixteen"}
    uids = [generate_uid(), generate_uid()]
    for k, uid in enumerate(uids):
        stored = (np.where(truth, 500, -500) + noise + k).astype(np.int16)
        names = [f"{k}_{i:03d}" for i in range(14)]
        write_series(tmp_path / "data" / "visit", stored, names, SeriesInstanceUID=uid, **about)
    return tmp_path / "data", uids, truth


def slices_of(folder, uid):
    """The data sets of a series, in the order of its slices."""
    found = [pydicom.dcmread(path) for path in folder.rglob("*") if path.is_file()]
    mine = [data for data in found if data.SeriesInstanceUID == uid]
    return sorted(mine, key=lambda data: float(np.dot(data.ImagePositionPatient, drawings.NORMAL)))


def in_slices(mask):
    """A NIfTI mask (x, y, z) in RAS+ as (slice, row, column) of the miniatures."""
    return np.asarray(mask.dataobj)[::-1, ::-1].T


def filled(data, number, images):
    """Contours of a structure set as masks, by another library, slice by slice as they refer to them."""
    names = [image.SOPInstanceUID for image in images]
    masks = np.zeros((len(images), images[0].Rows, images[0].Columns), dtype=bool)
    for contour in data.ROIContourSequence[number].ContourSequence:
        k = names.index(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3) - images[k].ImagePositionPatient
        row, column = images[k].PixelSpacing
        flat = np.stack([points @ drawings.COLUMN / row, points @ drawings.ROW / column], 1)
        masks[k] |= polygon2mask(masks.shape[1:], flat)
    return masks


def test_results_of_series_are_named_by_them(given, scan):  # noqa: F811
    data, uids, truth = scan
    done, out = given(data)
    assert done
    masks = sorted(path.name for path in out.rglob("*.nii.gz"))
    assert masks == sorted(f"{uid}.nii.gz" for uid in uids)
    assert np.array_equal(in_slices(nib.load(out / "visit" / masks[0])) == 7, truth)


def test_a_segmentation_is_what_another_library_and_the_standard_want(given, scan):  # noqa: F811
    data, uids, truth = scan
    done, out = given(data, format="dicom-seg")
    assert done
    for uid in uids:
        file, images = out / "visit" / f"{uid}.seg.dcm", slices_of(data, uid)
        found = check_segmentation(file)
        assert [found.get(name) for name in ("PatientName", "StudyInstanceUID", "FrameOfReferenceUID")] == [
            images[0].get(name) for name in ("PatientName", "StudyInstanceUID", "FrameOfReferenceUID")
        ]
        assert found.StudyID == ""  # the image's is not valid
        read = hd.seg.segread(file)
        assert [segment.SegmentLabel for segment in read.SegmentSequence] == ["bright"]
        named = [image.SOPInstanceUID for image in images]
        assert {uid for _, _, uid in read.get_source_image_uids()} == set(named)
        voxels = read.get_pixels_by_source_instance(named, ignore_spatial_locations=False)[..., 0]
        assert np.array_equal(voxels == 1, truth)
        where = {image.SOPInstanceUID: image.ImagePositionPatient for image in images}
        for frame in found.PerFrameFunctionalGroupsSequence:
            source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            assert frame.PlanePositionSequence[0].ImagePositionPatient == where[source]
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            assert b"Doe" not in path.read_bytes()


def test_dciodvfy_finds_no_error_in_a_segmentation(given, scan):  # noqa: F811
    data, uids, _ = scan
    _, out = given(data, format="dicom-seg")
    assert dciodvfy(out / "visit" / f"{uids[0]}.seg.dcm") == []


def test_a_structure_set_is_what_another_library_fills(given, scan):  # noqa: F811
    data, uids, truth = scan
    done, out = given(data, format="rtstruct")
    assert done
    file, images = out / "visit" / f"{uids[0]}.rtstruct.dcm", slices_of(data, uids[0])
    found = check_structure_set(file)
    assert [roi.ROIName for roi in found.StructureSetROISequence] == ["bright"]
    masks = filled(found, 0, images)
    assert truth.sum() > 1000
    assert 2 * (masks & truth).sum() / (masks.sum() + truth.sum()) >= 0.98
    centres = [np.array(ndimage.center_of_mass(mask)) for mask in (masks, truth)]
    assert np.abs(centres[0] - centres[1]).max() <= 0.5


@pytest.mark.parametrize(("form", "end"), [("dicom-seg", ".seg.dcm"), ("rtstruct", ".rtstruct.dcm")])
def test_classes_that_overlap_and_classes_that_are_not_there_lie_side_by_side(given, scan, form, end):  # noqa: F811
    data, uids, truth = scan
    model = ideal(activation="sigmoid", classes=("bright=7", "all=7+1"))
    done, out = given(data, model=model, format=form)
    assert done
    file, images = out / "visit" / f"{uids[0]}{end}", slices_of(data, uids[0])
    if form == "rtstruct":
        masks = [filled(check_structure_set(file), k, images) for k in range(2)]
    else:
        check_segmentation(file)
        named = [image.SOPInstanceUID for image in images]
        read = hd.seg.segread(file).get_pixels_by_source_instance(named, assert_missing_frames_are_empty=True)
        masks = [read[..., k] == 1 for k in range(2)]
    assert np.array_equal(masks[0], truth)
    assert (masks[1] & truth).sum() == truth.sum() < masks[1].sum()


@pytest.mark.parametrize(("form", "end"), [("dicom-seg", ".seg.dcm"), ("rtstruct", ".rtstruct.dcm")])
def test_frames_of_an_enhanced_image_are_referred_to_one_by_one(given, tmp_path, form, end):  # noqa: F811
    truth = np.zeros((9, 12, 10), dtype=bool)
    truth[3:6, 4:8, 2:9] = True
    values = np.where(truth, 8000, 1000) + np.random.default_rng(0).integers(0, 900, truth.shape)
    stored = values // np.arange(1, 10)[:, None, None]
    order = [4, 0, 8, 2, 6, 1, 5, 3, 7]
    about = {**drawings.PATIENT, "FrameOfReferenceUID": drawings.FRAME}
    enhanced(tmp_path / "data" / "mr", stored.astype(np.uint16), order, **about)
    done, out = given(tmp_path / "data", format=form)
    assert done
    found = pydicom.dcmread(out / f"mr{end}")
    if form == "dicom-seg":
        frames = found.PerFrameFunctionalGroupsSequence
        sources = [each.DerivationImageSequence[0].SourceImageSequence[0] for each in frames]
    else:
        sources = [c.ContourImageSequence[0] for c in found.ROIContourSequence[0].ContourSequence]
    assert [order[source.ReferencedFrameNumber - 1] for source in sources] == [3, 4, 5]


def test_what_has_no_dicom_is_refused_before_anything_is_computed(given, scan, tmp_path):  # noqa: F811
    data, _, _ = scan
    write_scan(data / "other.nii.gz")
    with pytest.raises(FoveateError, match=r"1 of 3 images are no volumes in DICOM, such as other\.nii\.gz"):
        given(data, format="dicom-seg")
    given(tmp_path / "data" / "visit", out="one")
    with pytest.raises(FoveateError, match="made otherwise"):
        given(tmp_path / "data" / "visit", out="one", format="rtstruct")


@pytest.mark.parametrize("form", ["dicom-seg", "rtstruct"])
def test_no_warning_quotes_a_header(given, tmp_path, recwarn, form):  # noqa: F811
    spoilt = "1.2.003.4"  # no part of a UID begins with 0: pydicom warns, and quotes it
    about = {**drawings.PATIENT, "StudyInstanceUID": spoilt, "SeriesInstanceUID": "1.2.003.5"}
    stored = np.random.default_rng(0).integers(-500, 600, SHAPE).astype(np.int16)
    names = [f"{i:03d}" for i in range(14)]
    write_series(tmp_path / "data", stored, names, FrameOfReferenceUID=drawings.FRAME, **about)
    assert any(spoilt in str(warning.message) for warning in recwarn)  # as the file is made
    recwarn.clear()
    assert given(tmp_path / "data", format=form)[0]
    assert not [warning for warning in recwarn if "1.2.003" in str(warning.message)]
