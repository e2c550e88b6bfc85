"""Contours go along the edges of pixels, and any reader finds the same pixels in them."""

import numpy as np
import pytest
from skimage.draw import polygon2mask

from foveate.core.types import FoveateError
from foveate.data.readers.dicom.structures.contours import even_odd
from foveate.data.writers.dicom import outlines as writers, structure_set
from foveate.data.writers.dicom.outlines import outlines


def area(points):
    """Of a polygon, by the shoelace formula."""
    x, y = points.T
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


@pytest.mark.parametrize("seed", range(40))
def test_any_mask_comes_back_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 16, 2))
    mask = rng.random(shape) < rng.uniform(
        0.05, 0.95
    )  # holes, pieces in holes, pixels that touch by a corner
    found = outlines(mask)
    assert np.array_equal(even_odd(found, shape), mask)
    filled = [polygon2mask(shape, points) for points in found]  # another library, contour by contour
    assert np.array_equal(np.any([np.zeros(shape, bool), *filled], axis=0), mask)
    assert sum(map(area, found)) == mask.sum()


def test_a_ring_is_one_contour_and_a_piece_in_its_hole_another():
    mask = np.zeros((11, 11), dtype=bool)
    mask[1:10, 1:10], mask[3:8, 3:8], mask[5, 5] = True, False, True
    found = outlines(mask)
    assert [area(points) for points in found] == [81 - 25, 1]
    assert len(found[0]) == 4 + 4 + 2  # corners of both squares, and the two ends of the bridge
    assert found[1].tolist() == [[4.5, 4.5], [5.5, 4.5], [5.5, 5.5], [4.5, 5.5]]


def test_the_work_for_scattered_voxels_grows_with_them(monkeypatch):
    """Counted, not timed: one turn for every edge."""
    turns = []
    right_of = writers._right_of
    monkeypatch.setattr(writers, "_right_of", lambda *ends: turns.append(1) or right_of(*ends))
    mask = np.random.default_rng(0).random((256, 256)) < 0.7
    found = outlines(mask)
    edges = sum(np.count_nonzero(np.diff(np.pad(mask, 1).astype(int), axis=axis)) for axis in (0, 1))
    assert len(turns) == edges
    assert sum(map(area, found)) == mask.sum()
    assert sum(map(len, found)) > 40_000


def test_straight_edges_have_no_points_and_nothing_has_no_contour():
    assert len(outlines(np.ones((30, 20), dtype=bool))[0]) == 4
    assert outlines(np.zeros((30, 20), dtype=bool)) == []


def test_more_points_than_programs_read_are_refused(monkeypatch):
    monkeypatch.setattr(structure_set, "MOST_POINTS", 10)
    room = structure_set.Room()
    room.add(np.zeros((10, 2)))
    with pytest.raises(
        FoveateError, match="more than 10 points, as masks of scattered voxels have; use --form"
    ):
        room.add(np.zeros((1, 2)))
