"""The DICOM image that a prediction is of: patient, study, slices, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.core.types import Array, FoveateError, Record
from foveate.data.readers.canonical import LPS_TO_RAS, orientation_of, to_source
from foveate.data.readers.dicom.deflated import readable
from foveate.data.readers.dicom.frames import frame_headers
from foveate.data.readers.dicom.header import STORAGE, Header, is_volume_by_itself
from foveate.data.readers.dicom.reading import read_header
from foveate.data.readers.dicom.stacks import affine_of, stacks

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Where a slice lies, and the object that holds it."""

    storage: str
    instance: str
    frame: int  # from 1; 0: the slice is the whole object
    position: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """An image of several slices, in their order."""

    about: Dataset  # the header of its first file
    slices: Sequence[Slice]
    shape: tuple[int, int, int]  # columns, rows, slices
    spacing: tuple[float, ...]  # between rows, between columns
    orientation: tuple[float, ...]
    affine: Floats  # from (column, row, slice) to LPS millimetres

    @property
    def step_mm(self) -> float:
        """From one slice to the next."""
        return float(np.linalg.norm(self.affine[:3, 2]))

    def in_file_order(self, array: Array) -> Array:
        """An array in canonical order (x, y, z) as (column, row, slice)."""
        return to_source(array, orientation_of(LPS_TO_RAS @ self.affine))

    def corners(self, points: Floats, k: int) -> Floats:
        """Points (column, row) of slice `k` in LPS millimetres."""
        flat: Floats = points @ self.affine[:3, :2].T + np.array(self.slices[k].position)
        return flat


def origin_of(record: Record) -> Origin:
    """The image of a record.

    Raises:
        FoveateError: it is not in DICOM, or lacks what another object needs to refer to it.
    """
    import pydicom

    headers = [read_header(path) for path in record.files or (record.path,)]
    about = pydicom.dcmread(readable(record.path), force=True, stop_before_pixels=True)
    if is_volume_by_itself(headers[0]):
        headers = list(stacks(frame_headers(about, headers[0]))[0].headers)
        slices = [_slice(header, str(about.SOPInstanceUID), header.order[1] + 1) for header in headers]
    else:
        slices = [_slice(header, header.instance, 0) for header in headers]
    needed = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    absent = [name for name in needed if not about.get(name)]
    absent += ["SOPInstanceUID"] * (not all(each.instance for each in slices))
    if absent:
        raise FoveateError(f"its header has no {absent[0]}, which a DICOM result must refer to")
    first = headers[0]
    return Origin(
        about=about,
        slices=slices,
        shape=(first.columns, first.rows, len(headers)),
        spacing=first.spacing,
        orientation=first.orientation,
        affine=affine_of(first.orientation, first.spacing, [header.position for header in headers]),
    )


def _slice(header: Header, instance: str, frame: int) -> Slice:
    return Slice(storage=STORAGE + header.storage, instance=instance, frame=frame, position=header.position)
