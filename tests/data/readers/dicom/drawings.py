"""A small CT with structures drawn on it: RTSTRUCT written here, SEG by highdicom."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from tests.data.readers.dicom.miniatures import COLUMN, NORMAL, ROW, RTSTRUCT, place, write, write_series

SPACING = (0.5, 0.75)  # between rows, between columns
STEP = 2.5
STUDY, FRAME = generate_uid(), generate_uid()
PATIENT = {"PatientBirthDate": "19700101", "PatientSex": "F", "StudyDate": "20200101", "StudyTime": "120000"}
NAMED = {"AccessionNumber": "", "StudyID": "", "ReferringPhysicianName": "", "Manufacturer": "M"}


def series(folder, shape=(7, 12, 14), uid=None, frame=FRAME, patient="Doe^Jane", value=0, names=None):
    """Slices of a CT (slices, rows, columns) in one study; values differ from voxel to voxel."""
    stored = np.random.default_rng(value).integers(-1000, 2000, shape).astype(np.int16)
    own = {**PATIENT, **NAMED, "StudyInstanceUID": STUDY, "SeriesInstanceUID": uid or generate_uid()}
    space = {"FrameOfReferenceUID": frame, "PixelSpacing": list(SPACING), "SliceThickness": STEP}
    return write_series(folder, stored, names, **own, **space, PatientID=patient, SeriesNumber=1)


def millimetres(points, k):
    """Points (column, row) of slice `k` in LPS millimetres."""
    points = np.asarray(points, dtype=float)
    return np.array(place(k, STEP)) + points[:, :1] * SPACING[1] * ROW + points[:, 1:] * SPACING[0] * COLUMN


def item(**tags):
    data = Dataset()
    for tag, value in tags.items():
        setattr(data, tag, value)
    return data


def contour(points, k, kind="CLOSED_PLANAR", noise_mm=0.0):
    """One contour, `noise_mm` off its plane."""
    placed = millimetres(points, k) + noise_mm * NORMAL
    values = [f"{value:.6f}"[:16] for value in placed.ravel()]
    return item(ContourGeometricType=kind, NumberOfContourPoints=len(placed), ContourData=values)


def rtstruct(path, rois, series_uid="", frame=FRAME):
    """Structures by name; `rois` holds their contours. The images that they refer to do not exist."""
    one = item(SeriesInstanceUID=series_uid or generate_uid())
    study = item(RTReferencedSeriesSequence=[one], ReferencedSOPInstanceUID=generate_uid())
    names = [
        item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=frame) for n, name in enumerate(rois, 1)
    ]
    drawn = [
        item(ReferencedROINumber=n, ContourSequence=list(contours))
        for n, contours in enumerate(rois.values(), 1)
    ]
    return write(
        path,
        None,
        SOPClassUID=RTSTRUCT,
        Modality="RTSTRUCT",
        PixelSpacing=None,
        ImageOrientationPatient=None,
        ImagePositionPatient=None,
        SeriesInstanceUID=generate_uid(),
        ReferencedFrameOfReferenceSequence=[
            item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])
        ],
        StructureSetROISequence=names,
        ROIContourSequence=drawn,
    )


def sources(folder):
    """The data sets of a series in the order of its slices."""
    import pydicom

    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(found, key=lambda data: float(np.dot(data.ImagePositionPatient, NORMAL)))


def segmentation(path, images, masks, kind="BINARY"):
    """A SEG of named masks (slices, rows, columns) as highdicom writes it."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    said = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, 1)
    ]
    values = np.stack(list(masks.values()), -1)
    if kind == "LABELMAP":
        values = sum((number * mask.astype(np.uint8) for number, mask in enumerate(masks.values(), 1)))
    file = hd.seg.Segmentation(
        source_images=images,
        pixel_array=values if kind != "FRACTIONAL" else values.astype(np.float32),
        segmentation_type=kind,
        segment_descriptions=said,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="M",
        manufacturer_model_name="N",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path)
    return path
