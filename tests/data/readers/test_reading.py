"""What becomes the channels of an image: a fourth axis, colour, and channels that have no file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from foveate.core.types import FoveateError, Reading, Record
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig, as_json, from_json
from foveate.data.decoding.decoder import decode
from foveate.data.readers.channels import read_image
from foveate.data.readers.formats import read_files
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.time_points import by_time_point
from foveate.runtime import images as intake

SHAPE = (4, 5, 6, 3)
FLIPPED = np.array([[0, 2.0, 0, 1], [-1, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])  # x and y change places
made = partial(prepare, on_progress=lambda _done, _total: None)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A file of three volumes, and what nibabel makes of it in the closest canonical order."""
    path = tmp_path_factory.mktemp("4d") / "a.nii.gz"
    values = np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(values, FLIPPED), path)
    return path, np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def test_a_fourth_axis_is_an_error_that_names_the_option(series):
    with pytest.raises(UnreadableImageError, match=r"is 4D .* 3 volumes are: --channels.fourth_axis chan"):
        read_files((series[0],))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("channels", lambda volumes: volumes),
        ("first", lambda volumes: volumes[..., :1]),
        ("mean", lambda volumes: volumes.mean(3, keepdims=True)),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_a_fourth_axis_is_what_was_said(series, tmp_path, said, expected, packed):
    path, volumes = series
    if not packed:
        nib.save(nib.load(path), path := tmp_path / "a.nii")
    volume = read_files((path,), reading=Reading(fourth_axis=said))
    wanted = np.stack([expected(volumes)[..., k] for k in range(expected(volumes).shape[3])])
    np.testing.assert_allclose(volume.array, wanted, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, nib.as_closest_canonical(nib.load(path)).affine)


@pytest.mark.parametrize("packed", [True, False])
def test_every_volume_of_a_series_is_an_image_where_that_was_said(series, tmp_path, packed):
    path, volumes = series
    if not packed:
        nib.save(nib.load(path), path := tmp_path / "a.nii")
    whole = Record(path=path, relative=f"b/{path.name}", patient="P1")
    records, note = by_time_point([whole, replace(whole, path=tmp_path / "none.nii")])
    names = [f"b/a#{point}{'.nii.gz' if packed else '.nii'}" for point in range(3)]
    assert [record.relative for record in records[:3]] == names
    assert {record.patient for record in records} == {"P1"}
    assert len(records) == 4  # what cannot be read is left to its reader
    assert note.endswith("1 files of four axes are read as 3 images")
    for point in range(3):
        read = decode(records[point])
        np.testing.assert_array_equal(read.array, volumes[None, ..., point])
    cache = made(records[:3], tmp_path / "cache", PrepareConfig(fourth_axis="images"))
    assert len({volume.entry.voxel_hash for volume in cache}) == 3
    with pytest.raises(UnreadableImageError, match="and images for pretrain and prepare"):
        decode(whole, Reading(fourth_axis="images"))
    with pytest.raises(UnreadableImageError, match="it has 3 volumes, and had more than 3"):
        decode(replace(whole, point=3))


@pytest.mark.parametrize("said", ["channels", "first", "mean"])
def test_a_stream_that_is_cut_is_refused_whatever_is_taken_of_it(series, tmp_path, said):
    whole = series[0].read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) - 40])
    with pytest.raises(UnreadableImageError, match=r"truncated|end early"):
        read_files((tmp_path / "cut.nii.gz",), reading=Reading(fourth_axis=said))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
def test_colour_kept_and_in_grey(tmp_path, mode):
    rows = np.random.default_rng(1).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    grey = mode in ("L", "I;16")
    image = Image.fromarray(rows[..., 0].astype(np.uint16) * 9) if mode == "I;16" else Image.fromarray(rows)
    image = image if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.png")
    kept = decode(record := Record(path=tmp_path / "a.png", relative="a.png"), Reading(colour="keep"))
    luminance = decode(record)
    assert (kept.array.shape, luminance.array.shape) == ((3, 7, 6), (1, 7, 6))
    assert kept.colour is luminance.colour is not grey
    if grey:
        np.testing.assert_array_equal(kept.array, np.repeat(luminance.array, 3, axis=0))
    else:
        wanted = np.asarray(image.convert("RGB"))
        for channel in range(3):
            np.testing.assert_array_equal(kept.array[channel].T, wanted[..., channel])


def lacking(folder: Path) -> tuple[Record, list[np.ndarray]]:
    arrays = [np.random.default_rng(n).normal(50, 9, (4, 5, 6)).astype(np.float32) for n in range(2)]
    paths = [folder / f"a_{n:04d}.nii" for n in (0, 2)]
    for path, array in zip(paths, arrays, strict=True):
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return Record(path=paths[0], relative=paths[0].name, channels=tuple(paths), absent=(1,)), arrays


def test_a_channel_without_a_file(tmp_path):
    record, (first, third) = lacking(tmp_path)
    filled = {
        how: read_image(record, decode, Reading(missing_channels=how)).array for how in ("zero", "mean")
    }
    for how, second in (("zero", 0 * first), ("mean", (first.astype(float) + third) / 2)):
        np.testing.assert_allclose(filled[how], np.stack([first, second, third]), rtol=1e-6)
    with pytest.raises(UnreadableImageError, match=r"channel 1 .* have 3 channels; --channels.missing zero "):
        read_image(record, decode)
    with pytest.raises(FoveateError, match=r"^a_0000.nii: its channel 1 .*, or move the image away\.$"):
        intake.refuse_missing([record], PrepareConfig())
    intake.refuse_missing([record], PrepareConfig(missing_channels="zero"))


def test_what_is_read_is_part_of_a_cache_and_defaults_leave_old_caches_as_they_are(series, tmp_path):
    config = PrepareConfig(fourth_axis="channels")
    assert from_json(as_json(config), tmp_path) == config
    assert "fourth_axis" not in as_json(PrepareConfig())
    records = [Record(path=series[0], relative=series[0].name)]
    assert made(records, tmp_path / "cache", config).channels == 3
    with pytest.raises(FoveateError, match="holds a cache made otherwise"):
        made(records, tmp_path / "cache", PrepareConfig(fourth_axis="first"))
