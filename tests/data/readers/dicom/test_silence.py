"""Nothing that pydicom says reaches a log: it may quote a header."""

import logging
from collections import Counter

import pydicom
from tests.data.readers.dicom.drawings import contour, rtstruct, series

from foveate.data.cohort.structures import from_structures
from foveate.data.sources.folder import FolderSource

SPOILT = "1.2.003.5"  # no part of a UID begins with 0: pydicom warns, and quotes it


def test_listing_and_structures_say_nothing_to_the_root_logger(tmp_path, caplog):
    series(tmp_path / "a", uid=SPOILT)
    square = [(2.5, 3.5), (8.5, 3.5), (8.5, 9.5), (2.5, 9.5)]
    rtstruct(tmp_path / "rs", {"GTV": [contour(square, 3)]}, SPOILT)
    caplog.clear()
    level = logging.getLogger("pydicom").level
    found = pydicom.dcmread(next((tmp_path / "a").iterdir()))
    assert found.SeriesInstanceUID == SPOILT
    assert any(SPOILT in record.getMessage() for record in caplog.records)  # so this can fail
    caplog.clear()
    roles = Counter(record.role for record in FolderSource().records(tmp_path))
    assert roles == {"image": 1, "structure": 1}
    assert len(from_structures(tmp_path, "tumour=GTV").records) == 1
    assert caplog.records == []
    assert logging.getLogger("pydicom").level == level
