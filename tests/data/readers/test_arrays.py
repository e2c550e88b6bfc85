"""NumPy archives: which array is the image, and archives that promise too much."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError

NOISE = np.random.default_rng(0).integers(0, 255, (4, 5, 6)).astype(np.uint8)


@pytest.mark.parametrize("key", ["image", "voxel", "arr_0", "scan_of_the_day"])
def test_the_image_is_found_and_kept_in_its_order(tmp_path, key):
    others = {} if key == "scan_of_the_day" else {"seg": NOISE > 99}
    np.savez_compressed(tmp_path / "a.npz", **{key: NOISE, **others})
    volume = read_volume(tmp_path / "a.npz")
    np.testing.assert_array_equal(volume.array[0], NOISE)
    assert (volume.bits, volume.spacing_mm) == (8, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"a": NOISE, "b": NOISE}, "none of its 2 arrays is called image"),
        ({"image": NOISE[0]}, "single slice"),
        ({"image": NOISE[None].repeat(2, 0)}, "4D"),
        ({"image": NOISE.astype(object)}, r"colours or records"),
        ({"image": NOISE.astype(np.complex64)}, "complex"),
    ],
)
def test_archive_without_a_volume_is_refused(tmp_path, arrays, reason):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UnreadableImageError, match=reason):
        read_volume(tmp_path / "a.npz")


def test_header_that_promises_more_than_is_there_is_refused_before_it_is_read(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4096, 4096, 64), }"
    header += b" " * (64 - (10 + len(header)) % 64 - 1) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UnreadableImageError, match="claims 1073741824 voxels, more than its"):
        read_volume(tmp_path / "a.npz")
