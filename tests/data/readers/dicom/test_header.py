"""What the tags of one DICOM file say of it."""

from pathlib import Path

import pytest

from foveate.data.readers.dicom.header import Header, is_volume_by_itself

ENHANCED_CT, ULTRASOUND = "2.1", "3.1"


@pytest.mark.parametrize(
    ("storage", "frames", "volume"), [(ENHANCED_CT, 3, True), (ENHANCED_CT, 1, False), (ULTRASOUND, 3, False)]
)
def test_a_volume_by_itself_has_frames_and_is_of_a_class_of_volumes(storage, frames, volume):
    header = Header(
        path=Path("file.dcm"),
        modality="CT",
        storage=storage,
        image_type=(),
        instance="",
        series="",
        patient="",
        rows=4,
        columns=4,
        frames=frames,
        spacing=(),
        orientation=(),
        position=(),
        order=(0, 0),
    )
    assert is_volume_by_itself(header) is volume
