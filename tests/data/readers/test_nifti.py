"""NIfTI: voxels never come from inside the header, and values are nibabel's."""

from __future__ import annotations

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from tests.data.readers.containers import VALUES, assert_same

from foveate.data.inventory.headers import Task, facts_of
from foveate.data.readers.canonical import canonical_volume
from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError

KINDS = {1: (nib.Nifti1Image, 108, "f", 352), 2: (nib.Nifti2Image, 168, "q", 544)}
SCALARS = ("u1", "i2", "u4", "i8", "f4", "f8")


def with_offset(version, offset, behind=b""):
    image, at, code, _ = KINDS[version]
    plain = bytearray(image(VALUES, np.eye(4)).to_bytes())
    struct.pack_into("<" + code, plain, at, offset)
    return bytes(plain) + behind


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", KINDS)
def test_voxels_that_would_start_inside_the_header_or_nowhere_are_refused(tmp_path, version, packed):
    least = KINDS[version][3]
    odd = (352.5, np.nan, np.inf, -np.inf, 3e38) if version == 1 else (1 << 62, -(1 << 62))
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    for offset in (0, 4, 100, least - 16, least - 1, -16, *odd):
        data = with_offset(version, offset)
        path.write_bytes(gzip.compress(data) if packed else data)
        with pytest.raises(UnreadableImageError, match="vox_offset"):
            read_volume(path)
        (facts,) = facts_of([Task(1, bytes(path), bytes(path.name, "ascii"), 1, "")], b"salt", "root")
        assert facts.image is not None
        assert facts.image["role"] == "image"
        assert facts.image["shape"] == "4x5x6"
    data = with_offset(version, 1 << 20)
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(UnreadableImageError, match="beyond its end"):
        read_volume(path)


@pytest.mark.parametrize("version", KINDS)
def test_extensions_and_gaps_before_the_voxels_are_passed_over(tmp_path, version):
    image, _, _, least = KINDS[version]
    made = image(VALUES, np.diag([2.0, 1, 1, 1]))
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    for name in ("a.nii", "a.nii.gz"):
        nib.save(made, tmp_path / name)
        assert nib.load(tmp_path / name).dataobj.offset > least + 5000
        np.testing.assert_array_equal(read_volume(tmp_path / name).array[0], VALUES)
    plain = with_offset(version, least + 160)
    (tmp_path / "b.nii").write_bytes(plain[:least] + bytes(160) + plain[least:])
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii").array[0], VALUES)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", KINDS)
def test_every_type_and_byte_order_with_and_without_a_slope(tmp_path, version, order):
    rng = np.random.default_rng([version, ord(order)])
    image = KINDS[version][0]
    for kind in SCALARS:
        values = rng.integers(0, 100, (3, 4, 5)).astype(kind)
        header = image.header_class(endianness=order)
        header.set_data_dtype(np.dtype(order + kind))
        affine = np.eye(4)
        affine[:3] = rng.normal(size=(3, 4))
        for name, slope in ((f"{kind}.nii", (None, None)), (f"{kind}.nii.gz", (0.3, -7.1))):
            made = image(values, affine, header)
            made.header.set_slope_inter(*slope)
            nib.save(made, tmp_path / name)
            theirs = nib.load(tmp_path / name, mmap=False)
            assert theirs.header.endianness == order
            proxy = theirs.dataobj
            array = proxy.get_unscaled() if slope == (None, None) else np.asarray(proxy, dtype=np.float32)
            array = array.astype(array.dtype.newbyteorder("="))
            assert_same(read_volume(tmp_path / name), canonical_volume(array, theirs.affine))


def test_a_header_whose_voxels_are_in_another_file_is_refused(tmp_path):
    plain = with_offset(1, 352)
    (tmp_path / "a.nii").write_bytes(plain.replace(b"n+1\0", b"ni1\0"))
    with pytest.raises(UnreadableImageError, match="in another file"):
        read_volume(tmp_path / "a.nii")


def test_a_megabyte_that_unpacks_to_more_than_a_gigabyte_behind_the_voxels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.data.readers.nifti.MOST_PASSED", 1 << 20)
    whole = with_offset(1, 352)
    for behind, read in ((1 << 20, True), ((1 << 20) + 1, False)):
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole + bytes(behind)))
        if read:
            np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array[0], VALUES)
        else:
            with pytest.raises(UnreadableImageError, match="more than the 240 bytes"):
                read_volume(tmp_path / "a.nii.gz")
