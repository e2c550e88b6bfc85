"""Which slice of a volume a sample shows: uniform, with something to see, and with labels where asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from foveate.core.codes import Codes
from foveate.core.types import CropSpec, Tissue
from foveate.data.cache.planes import Cut, Planes
from foveate.views.pipeline import make_views, missed_tissue
from foveate.views.places import FOREGROUND, LEAST, seen_by

SPEC = CropSpec(count=1, grid=(8, 8), source_sizes=((8, 8),))


class Stack:
    """A volume in memory whose slices across y are seen."""

    map_names = ("labels",)
    focus = ()

    def __init__(self, array, labels=None, neighbours=0):
        self.array, self.shape, self.spacing_mm = array[None], array.shape, (1.0, 3.0, 2.0)
        self.labels = np.zeros(array.shape, np.uint8) if labels is None else labels
        self.planes = Planes(self, Cut(1, neighbours))

    def codes(self, low, high):
        return Codes(self.array, 0, 1, inside=True).part(low, high)

    def read_map(self, _name, low, high):
        return self.labels[tuple(map(slice, low, high))]

    def places(self, _name):
        voxels = np.argwhere(self.labels)
        return np.concatenate([self.labels[tuple(voxels.T)][:, None].astype(int), voxels], 1)


def drawn(volume, spec=SPEC, count=400):
    return [seen_by(volume, i, specs={"c": spec}, seed=0).image.position for i in range(count)]


def numbered(depth=10):
    """Every slice has a value of its own."""
    values = np.linspace(0.2, 1, depth, dtype=np.float32)[None, :, None]
    return np.array(np.broadcast_to(values, (16, depth, 12)))


def test_views_are_those_of_one_slice_and_the_same_for_an_index():
    volume = Stack(numbered())
    levels = np.linspace(0.2, 1, 10)
    found = []
    for index in range(40):
        views = make_views(volume, index, specs={"c": SPEC}, seed=3)["c"]
        assert views.images.shape == (1, 1, 8, 8)
        assert views.affines.shape == (1, 2, 3)
        value = views.images.unique().tolist()
        assert len(value) == 1
        found.append(int(np.abs(levels - value[0]).argmin()))
        again = make_views(volume, index, specs={"c": SPEC}, seed=3)["c"]
        assert (again.images == views.images).all()
    assert len(set(found)) > 7
    assert found != [seen_by(volume, i, specs={"c": SPEC}, seed=4).image.position for i in range(40)]


def test_slices_are_drawn_uniformly():
    counts = Counter(drawn(Stack(numbered()), count=2000))
    expected = 2000 / 10
    assert sum((counts[i] - expected) ** 2 / expected for i in range(10)) < 27.9  # chi-squared, p = 0.001


def test_a_slice_with_nothing_to_see_is_drawn_again():
    array = np.zeros((16, 10, 12), np.float32)
    few = 1  # voxel is too little
    array[:, 7:] = 0.9 * FOREGROUND
    array[:few, :, 0] = np.where(np.arange(10) < 7, 2 * FOREGROUND, 0)[None]
    array[:few, 3:7, 1] = 2 * FOREGROUND
    assert few / (16 * 12) < LEAST <= 2 * few / (16 * 12)
    counts = Counter(drawn(Stack(array)))
    missed = (6 / 10) ** 10  # all attempts in vain: then the fullest is taken, one of the first seven
    assert sum(counts[i] for i in range(3, 7)) >= 400 * (1 - missed) - 12
    assert not any(counts[i] for i in range(7, 10))
    blank = Stack(np.zeros((16, 10, 12), np.float32))
    assert len(drawn(blank, count=5)) == 5  # an image without anything yields views all the same


def test_a_slice_must_have_room_for_the_tissue_rule():
    array = np.zeros((16, 10, 12), np.float32)
    array[:8, 2, :8] = 1  # one whole view of it
    array[:8, 5, :3] = 1  # less than half a view
    rule = CropSpec(count=1, grid=(8, 8), source_sizes=((8, 8),), tissue=Tissue(threshold=0.5, at_least=0.5))
    counts = Counter(drawn(Stack(array), rule))
    empty = 400 * (8 / 10) ** 10
    assert counts[2] > counts[5]
    assert sum(counts[i] for i in range(10) if i not in (2, 5)) <= 3 * empty + 5
    assert counts[5] < 400 * (9 / 10) ** 10 + 60  # only where the other was never met
    missed, rules = map(
        sum, zip(*(missed_tissue(Stack(array), i, specs={"c": rule}, seed=0) for i in range(30)), strict=True)
    )
    assert rules == 30
    assert missed < 30


@pytest.mark.parametrize("probability", [1.0, 0.4])
def test_labels_are_met_as_often_as_asked_and_every_value_alike(probability):
    array, labels = numbered(), np.zeros((16, 10, 12), np.uint8)
    labels[2:14, 1:4, 2:10] = 1
    labels[15, 8, 11] = 2  # one voxel
    spec = CropSpec(
        count=1, grid=(4, 4), source_sizes=((4, 4),), around="labels", around_probability=probability
    )
    volume, found = Stack(array, labels), Counter()
    for index in range(300):
        seen = seen_by(volume, index, specs={"c": spec}, seed=0)
        view = make_views(volume, index, specs={"c": spec}, seed=0)["c"].maps["labels"]
        found["rare"] += bool((view == 2).any())
        found["common"] += bool((view == 1).any()) and seen.image.position in (1, 2, 3)
    for name in ("rare", "common"):
        assert found[name] / 300 > probability / 2 - 0.09, found
    assert found["rare"] / 300 < probability / 2 + 0.09 + (1 - probability) * 0.1
