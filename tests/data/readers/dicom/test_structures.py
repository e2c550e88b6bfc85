"""Contours and segmentations become the voxels that a slow loop, or another library, says they are."""

import itertools

import numpy as np
import pydicom
import pytest
from tests.data.readers.dicom import drawings
from tests.data.readers.dicom.drawings import STEP, contour, rtstruct, segmentation, series

from foveate.core.types import Region
from foveate.data.cache.maps import read_map_of
from foveate.data.decoding.decoder import decode
from foveate.data.readers.canonical import to_source
from foveate.data.readers.dicom.structures import segments
from foveate.data.readers.dicom.structures.contents import contents_of, place_of
from foveate.data.readers.dicom.structures.contours import even_odd, rasterised
from foveate.data.readers.refusals import RefusalError
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.sources.folder import FolderSource

SHAPE = (7, 12, 14)
SQUARE = [(2.5, 3.5), (8.5, 3.5), (8.5, 9.5), (2.5, 9.5)]
HOLE = [(4.5, 5.5), (6.5, 5.5), (6.5, 7.5), (4.5, 7.5)]


def image_of(folder):
    """The record of the one volume of a folder, and its decoded image."""
    (record,) = [record for record in FolderSource().records(folder) if record.role == "image"]
    return record, decode(record)


def painted(folder, regions):
    """A label map as the cache gets it, back in (slice, row, column)."""
    record, image = image_of(folder)
    values = read_map_of(record.path, image, None, [Region(*region) for region in regions])
    return to_source(values, image.orientation).T


def slowly(polygons, shape):
    """Even-odd by walking from each centre to the left, edge by edge."""
    inside = np.zeros(shape, dtype=bool)
    for c, r in itertools.product(*map(range, shape)):
        for points in polygons:
            for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
                if (y0 <= r) != (y1 <= r) and x0 + (r - y0) * (x1 - x0) / (y1 - y0) <= c:
                    inside[c, r] ^= True
    return inside


@pytest.mark.parametrize("seed", range(6))
def test_any_polygons_are_filled_as_the_slow_loop_fills_them(seed):
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(-3, 16, (rng.integers(3, 9), 2)) for _ in range(3)]
    polygons += [np.rint(rng.uniform(-1, 13, (6, 2)))]  # vertices and edges through centres
    assert np.array_equal(even_odd(polygons, (14, 12)), slowly(polygons, (14, 12)))
    assert even_odd(polygons, (14, 12)).any()


def test_neighbours_that_share_an_edge_share_no_voxel_and_miss_none():
    left, right = np.array([(1, 1), (5, 2), (4, 9), (1, 8)]), np.array([(5, 2), (9, 1), (9, 8), (4, 9)])
    both = even_odd([left], (12, 12)).astype(int) + even_odd([right], (12, 12))
    whole = even_odd([np.array([(1, 1), (5, 2), (9, 1), (9, 8), (4, 9), (1, 8)])], (12, 12))
    assert both.max() == 1
    assert np.array_equal(both > 0, whole)


def test_structures_lie_on_the_slices_of_their_image(tmp_path):
    scan = series(tmp_path / "scan", SHAPE)
    noisy = [contour(points, k, noise_mm=0.0006) for k in (2, 3) for points in (SQUARE, HOLE)]
    spot = [contour([(4.6, 5.6), (5.4, 5.6), (5.4, 6.4), (4.6, 6.4)], 3), contour([(1, 1)], 5, "POINT")]
    file = rtstruct(
        tmp_path / "rs.dcm", {"GTV": noisy, "spot": spot, "marks": [contour([(1, 1)], 1, "POINT")]}
    )
    found = painted(scan, [(7, file, 1), (300, file, 2)])
    wanted = np.zeros(SHAPE, int)
    wanted[2:4, 4:10, 3:9] = 7
    wanted[2:4, 6:8, 5:7] = 0
    wanted[3, 6, 5] = 300
    assert np.array_equal(found, wanted)
    contents = contents_of(file)
    assert (contents.names, contents.empty) == ({1: "GTV", 2: "spot"}, ("marks",))


def test_the_later_of_two_overlapping_structures_is_on_top(tmp_path):
    scan = series(tmp_path / "scan", SHAPE)
    file = rtstruct(tmp_path / "rs", {"a": [contour(SQUARE, 3)], "b": [contour(HOLE, 3)]})
    assert np.bincount(painted(scan, [(1, file, 1), (2, file, 2)]).ravel())[1:].tolist() == [32, 4]
    assert np.bincount(painted(scan, [(2, file, 2), (1, file, 1)]).ravel())[1:].tolist() == [36]


def test_a_keyhole_counts_for_nothing(tmp_path):
    keyhole = [
        (2.5, 3.5),
        (8.5, 3.5),
        (8.5, 9.5),
        (2.5, 9.5),
        (2.5, 5.5),
        *HOLE[:1],
        *HOLE[:0:-1],
        HOLE[0],
        (2.5, 5.5),
    ]
    apart = even_odd([np.array(SQUARE), np.array(HOLE)], (14, 12))
    assert np.array_equal(even_odd([np.array(keyhole)], (14, 12)), apart)
    assert apart.sum() == 32


def test_a_slice_takes_the_nearest_plane_and_none_that_is_further_than_half_a_step():
    def planes(*depths):
        wide = [np.array([(x, y, depth) for x, y in SQUARE]) for depth in depths]
        return rasterised(wide, (14, 12, 7), np.eye(4)).any((0, 1)).tolist()

    assert planes(2.3) == [k == 2 for k in range(7)]
    assert planes(1.9, 2.4) == [k == 2 for k in range(7)]  # two planes of one slice do not cancel out
    assert planes(1, 3) == [k in (1, 3) for k in range(7)]
    assert not any(planes(8.0))
    tilted = np.array([(2.5, 3.5, 2), (8.5, 3.5, 2), (8.5, 9.5, 2.5)])
    with pytest.raises(RefusalError, match="not parallel"):
        rasterised([tilted], (14, 12, 7), np.eye(4))


def masks():
    """Two masks that overlap, one of them on a single slice."""
    rng = np.random.default_rng(3)
    one, two = rng.random(SHAPE) < 0.3, np.zeros(SHAPE, dtype=bool)
    one[[0, 5]] = False
    two[3, 4:9, 2:7] = True
    return {"one": one, "two": two}


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_that_another_library_wrote_are_read_voxel_by_voxel(tmp_path, kind):
    scan, wanted = series(tmp_path / "scan", SHAPE), masks()
    if kind == "LABELMAP":
        wanted["one"] &= ~wanted["two"]
    file = segmentation(tmp_path / "seg", drawings.sources(scan), wanted, kind)
    assert contents_of(file).names == {1: "one", 2: "two"}
    both = np.where(wanted["two"], 9, np.where(wanted["one"], 4, 0))
    assert np.array_equal(painted(scan, [(4, file, 1), (9, file, 2)]), both)


def test_segments_of_a_part_of_the_slices_are_laid_where_they_were_drawn(tmp_path):
    scan, wanted = series(tmp_path / "scan", SHAPE), masks()
    part = {name: mask[2:6] for name, mask in wanted.items()}
    file = segmentation(tmp_path / "seg", drawings.sources(scan)[2:6], part)
    expected = np.where(np.isin(np.arange(7), range(2, 6))[:, None, None], wanted["one"], False)
    assert np.array_equal(painted(scan, [(1, file, 1)]) == 1, expected)


def test_structures_of_another_place_or_grid_are_refused(tmp_path):
    scan = series(tmp_path / "scan", SHAPE)
    far = rtstruct(tmp_path / "far", {"a": [contour(SQUARE, 40)]})
    with pytest.raises(UnreadableImageError, match="structure 1 lies outside of the image"):
        painted(scan, [(1, far, 1)])
    images = drawings.sources(scan)
    for image in images:
        image.PixelSpacing = [1.0, 1.5]
    other = segmentation(tmp_path / "other", images, masks())
    with pytest.raises(UnreadableImageError, match="do not lie on the voxels of the image"):
        painted(scan, [(1, other, 1)])
    for image in images:
        image.PixelSpacing = list(drawings.SPACING)
        image.ImagePositionPatient = list(np.add(image.ImagePositionPatient, 40 * STEP * drawings.NORMAL))
    beyond = segmentation(tmp_path / "beyond", images, masks())
    with pytest.raises(UnreadableImageError, match="segment 1 lies outside of the image"):
        painted(scan, [(1, beyond, 1)])


def test_damaged_files_become_reasons_without_a_word_of_theirs(tmp_path):
    scan = series(tmp_path / "scan", SHAPE)
    file = segmentation(tmp_path / "seg", drawings.sources(scan), masks())
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UnreadableImageError) as caught:
        painted(scan, [(1, file, 1)])
    assert "Doe" not in str(caught.value.reason)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_segmentation_with_fewer_bytes_than_its_frames_need_is_refused(tmp_path, kind):
    scan = series(tmp_path / "scan", SHAPE)
    file = segmentation(tmp_path / "seg", drawings.sources(scan), masks(), kind)
    data = pydicom.dcmread(file)
    data.PixelData = data.PixelData[: len(data.PixelData) // 2 // 2 * 2]
    data.save_as(file)
    with pytest.raises(UnreadableImageError, match=r"its data are truncated: \d+ bytes for \d+ frames"):
        painted(scan, [(1, file, 1)])


@pytest.mark.parametrize(("off", "fits"), [(0.099, True), (0.101, False)])
def test_a_frame_may_be_a_little_off_the_voxels_at_its_last_column(off, fits):
    linear = np.vstack([np.eye(2, 3), [0, 0, 1], [0, 0, 1]])
    linear[0, 0] += off / 9
    result = np.zeros((10, 4, 2), bool)
    if fits:
        segments._put(np.ones((10, 4), bool), linear, result)
        assert result[:, :, 1].all()
        assert not result[:, :, 0].any()
        return
    with pytest.raises(RefusalError, match="do not lie on the voxels"):
        segments._put(np.ones((10, 4), bool), linear, result)


def test_the_place_of_an_image_is_its_series_and_its_space(tmp_path):
    scan = series(tmp_path / "scan", SHAPE)
    data = drawings.sources(scan)[0]
    expected = (data.SeriesInstanceUID, data.FrameOfReferenceUID)
    assert place_of(next(scan.iterdir())) == expected
    assert all(expected)


def test_contours_that_a_broken_transfer_cut_off_are_not_taken_for_none(tmp_path):
    drawn = [contour(SQUARE, k) for k in range(4)]
    file = rtstruct(tmp_path / "rs", {"a": drawn, "b": drawn})
    whole, refused = file.read_bytes(), 0
    assert contents_of(file).names == {1: "a", 2: "b"}
    for end in range(len(whole) // 2, len(whole) - 1, 31):
        file.write_bytes(whole[:end])
        with pytest.raises(RefusalError):
            contents_of(file)
        refused += 1
    assert refused > 20
