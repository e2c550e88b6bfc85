"""TIFF beside what `test_formats` asks of PNG and JPEG."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError

DEEP = np.random.default_rng(0).integers(0, 65536, (6, 9)).astype(np.uint16)
REAL = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)


@pytest.mark.parametrize("rows", [DEEP, (DEEP >> 8).astype(np.uint8), REAL, DEEP.astype(np.int32) - 40000])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_keeps_its_values(tmp_path, rows, compression):
    Image.fromarray(rows).save(tmp_path / "a.tiff", compression=compression)
    volume = read_volume(tmp_path / "a.tiff")
    np.testing.assert_array_equal(volume.array[0].T, rows)
    assert volume.bits == (8 if rows.dtype == np.uint8 else 16)


def test_sixteen_bit_negative_is_turned_back(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(DEEP).save(tmp_path / "a.tif", tiffinfo=tags)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.tag_v2[262] == 0
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0].T, 65535 - DEEP)


def test_several_pages_are_refused(tmp_path):
    pages = [Image.fromarray(DEEP), Image.fromarray(DEEP[::-1].copy())]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UnreadableImageError, match="2 frames"):
        read_volume(tmp_path / "a.tif")
