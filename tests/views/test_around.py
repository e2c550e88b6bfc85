"""Boxes drawn around the voxels of a map: as often as asked, every value alike, inside the volume."""

from collections import Counter

import numpy as np

from foveate.core.types import CropSpec
from foveate.views.boxes import draw_boxes

SHAPE = (40, 30, 6)
SPEC = CropSpec(count=1, grid=(8, 8, 8), source_sizes=((8, 8, 8),), around="labels", around_probability=0.7)
RARE, COMMON = (39, 0, 3), (10, 20, 2)
PLACES = {"labels": np.array([(1, *COMMON)] * 99 + [(2, *RARE)])}


def boxes(spec=SPEC, places=PLACES, count=600):
    return [draw_boxes(SHAPE, {"c": spec}, seed=0, index=i, places=places)["c"][0] for i in range(count)]


def centred_on(box, voxel):
    low = [min(max(v - 4, 0), n - 8) if n > 8 else b for v, n, b in zip(voxel, SHAPE, box.low, strict=True)]
    return list(box.low) == low


def test_values_are_drawn_before_voxels_and_as_often_as_asked():
    found = Counter(
        "rare" if centred_on(box, RARE) else "common" if centred_on(box, COMMON) else "elsewhere"
        for box in boxes()
    )
    for name, share in (("rare", 0.35), ("common", 0.35), ("elsewhere", 0.3)):
        assert abs(found[name] / 600 - share) < 4 * (share * (1 - share) / 600) ** 0.5 + 0.01, found


def test_boxes_stay_in_the_volume_and_keep_their_size():
    for box in boxes():
        assert box.size == (8, 8, 8)
        assert box.low[2] == -1  # shorter than the view: centred, as without a map
        assert all(0 <= low <= n - 8 for low, n in zip(box.low[:2], SHAPE[:2], strict=True))


def test_without_foreground_or_chance_the_box_is_the_plain_one():
    plain = CropSpec(count=1, grid=(8, 8, 8), source_sizes=((8, 8, 8),))
    empty = {"labels": np.zeros((0, 4), int)}
    never = CropSpec(count=1, grid=(8, 8, 8), source_sizes=((8, 8, 8),), around="labels")
    assert boxes(plain, {}, 20) == boxes(SPEC, empty, 20) == boxes(never, PLACES, 20)
