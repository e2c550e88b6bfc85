"""What the tags of DICOM files say of them, one by one."""

from pathlib import Path

import numpy as np
import pytest

from foveate.data.readers.dicom import volume as dicom_volume
from foveate.data.readers.dicom.header import Header, is_volume_by_itself, role_of
from foveate.data.readers.dicom.stacks import FEWEST_SLICES
from foveate.data.sources.folder import FolderSource

from .miniatures import noise, write_series

ENHANCED_CT, ULTRASOUND = "2.1", "3.1"


def header(**said):
    """Of a file that says little."""
    words = {"modality": "CT", "storage": ENHANCED_CT, "rows": 4, "columns": 4, "frames": 1, **said}
    return Header(
        path=Path("file.dcm"),
        image_type=(),
        instance="",
        series="",
        patient="",
        spacing=(),
        orientation=(),
        position=(),
        order=(0, 0),
        **words,
    )


@pytest.mark.parametrize(
    ("storage", "frames", "volume"), [(ENHANCED_CT, 3, True), (ENHANCED_CT, 1, False), (ULTRASOUND, 3, False)]
)
def test_a_volume_by_itself_has_frames_and_is_of_a_class_of_volumes(storage, frames, volume):
    assert is_volume_by_itself(header(storage=storage, frames=frames)) is volume


@pytest.mark.parametrize(("rows", "columns", "role"), [(4, 4, "image"), (0, 4, "other"), (4, 0, "other")])
def test_an_image_has_rows_and_columns(rows, columns, role):
    found, why = role_of(header(rows=rows, columns=columns))
    assert found == role
    assert ("without an image" in why) == (role == "other")


def test_a_volume_has_so_many_slices_and_no_fewer(tmp_path):
    for count in (FEWEST_SLICES, FEWEST_SLICES - 1):
        write_series(tmp_path / str(count), noise(count), SeriesInstanceUID=f"1.2.{count}")
    found = {record.relative.split("/")[0]: record.role for record in FolderSource().records(tmp_path)}
    assert found == {str(FEWEST_SLICES): "image", str(FEWEST_SLICES - 1): "other"}


def test_white_as_zero_of_a_table_is_turned_between_its_least_and_its_most():
    data, values = {"ModalityLUTSequence": []}, np.array([[10.0, 30.0], [20.0, 50.0]])
    assert dicom_volume._ends_total(data, values.astype(int), values) == 60
    assert dicom_volume._ends_total({}, values, values) == 60
