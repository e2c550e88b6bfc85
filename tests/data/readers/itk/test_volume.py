"""MetaImage and NRRD against what was written, and headers that point elsewhere or promise too much."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import apply_affine

from foveate.data.readers.canonical import source_affine
from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError

RAMP = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 50  # x, y, z


def image():
    found = sitk.GetImageFromArray(RAMP.T)
    angle = np.deg2rad(20)
    turn = [np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, -1]
    found.SetDirection(turn)
    found.SetSpacing((0.7, 1.5, 3.0))
    found.SetOrigin((-30.0, 12.5, 7.0))
    return found


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
def test_values_and_place_are_kept(tmp_path, suffix, compressed):
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(image(), str(path), useCompression=compressed)
    volume = read_volume(path)
    assert volume.array.dtype == np.int16
    for index in np.ndindex(volume.array.shape[1:]):
        source = np.argwhere(volume.array[(0, *index)] == RAMP)[0]
        lps = image().TransformIndexToPhysicalPoint(source.tolist())
        np.testing.assert_allclose(
            apply_affine(volume.affine, index), np.multiply(lps, (-1, -1, 1)), atol=1e-5
        )
    back = source_affine(volume.affine, volume.orientation, volume.array.shape[1:])
    np.testing.assert_allclose(back[:3, 3], (30.0, -12.5, 7.0), atol=1e-5)


def rewritten(path, old, new):
    sitk.WriteImage(image(), str(path))
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("a.mha", b"DimSize = 4 5 6", b"DimSize = 999999 999999 9", "claims 9.00e.12 voxels"),
        ("a.mha", b"DimSize = 4 5 6", b"DimSize = 40 50 60", "more than its"),
        ("a.nrrd", b"sizes: 4 5 6", b"sizes: 400 500 600", "more than its"),
        ("a.mhd", b"a.raw", b"/etc/passwd", "not in one file beside it"),
        ("a.mhd", b"a.raw", b"../a.raw", "not in one file beside it"),
        ("a.mhd", b"a.raw", b"LIST", "not in one file beside it"),
        ("a.mhd", b"a.raw", b"a%02d.raw 1 6 1", "not in one file beside it"),
        ("a.mhd", b"a.raw", b"b.raw", "not beside it"),
        ("a.nhdr", b"a.raw", b"/etc/passwd", "not in one file beside it"),
    ],
)
def test_header_that_lies_is_refused(tmp_path, name, old, new, reason):
    path = rewritten(tmp_path / name, old, new)
    with pytest.raises(UnreadableImageError, match=reason):
        read_volume(path)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (sitk.Image([4, 5], sitk.sitkInt16), "single slice"),
        (sitk.Image([4, 5, 6, 2], sitk.sitkInt16), "4D"),
        (sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3), "colours or vectors"),
        (sitk.Image([4, 5, 6], sitk.sitkComplexFloat32), "vectors|complex"),
    ],
)
def test_what_is_no_volume_of_numbers_is_refused(tmp_path, pixels, reason):
    sitk.WriteImage(pixels, str(tmp_path / "a.mha"))
    with pytest.raises(UnreadableImageError, match=reason):
        read_volume(tmp_path / "a.mha")
