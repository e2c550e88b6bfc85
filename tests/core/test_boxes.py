"""Boxes: voxels and millimetres undo each other under any affine, and pairs compare as a slow count does."""

from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from foveate.core.boxes.geometry import (
    Boxes,
    component_boxes,
    depth_within,
    filled,
    in_mm,
    in_voxels,
    inside,
    iou,
    joined,
    value_boxes,
)
from foveate.core.boxes.tasks import IGNORED, BoxConfig, BoxTask, Scan
from foveate.core.boxes.views import NONE, ViewBoxes
from foveate.core.types import FoveateError, LabelFacts

AXES = (2, 3)


def some_boxes(rng, n, count=6):
    return Boxes.of(
        rng.uniform(0, 20, (count, n)),
        rng.uniform(0.5, 9, (count, n)),
        rng.integers(0, 3, count),
        rng.random(count),
    )


def some_affine(rng, n):
    """Oblique, flipped and with unequal sides: an orthogonal matrix of either sign times the sides."""
    turn, _ = np.linalg.qr(rng.normal(size=(n, n)))
    affine = np.eye(4)
    affine[:n, :n] = turn @ np.diag(rng.uniform(0.3, 5, n))
    affine[:n, 3] = rng.normal(0, 100, n)
    return affine


@pytest.mark.parametrize("n", AXES)
@pytest.mark.parametrize("seed", range(4))
def test_voxels_and_millimetres_undo_each_other(n, seed):
    rng = np.random.default_rng(seed)
    boxes, affine = some_boxes(rng, n), some_affine(rng, n)
    moved = in_mm(boxes, affine)
    corner = boxes.low[0]  # the corner in the world, by walking half of each side along its own axis
    walked = moved.centre[0].copy()
    for axis in range(n):
        direction = affine[:n, axis] / np.linalg.norm(affine[:n, axis])
        walked -= direction * moved.size[0, axis] / 2
    np.testing.assert_allclose(affine[:n, :n] @ corner + affine[:n, 3], walked, atol=1e-9)
    back = in_voxels(moved, affine)
    np.testing.assert_allclose(back.rows(), boxes.rows(), atol=1e-9)


def test_a_flipped_axis_moves_centres_and_no_side():
    affine = np.diag([-2.0, 1.0, 3.0, 1.0])
    moved = in_mm(Boxes.of([[1, 2, 3]], [[4, 5, 6]]), affine)
    assert moved.centre.tolist() == [[-2, 2, 9]]
    assert moved.size.tolist() == [[8, 5, 18]]


@pytest.mark.parametrize("n", AXES)
def test_iou_is_that_of_counted_cells(n):
    rng = np.random.default_rng(5)
    low = rng.integers(0, 6, (5, n))
    high = low + rng.integers(1, 6, (5, n))
    boxes = Boxes.between(low, high)
    cells = [
        set(product(*(range(a, b) for a, b in zip(*ends, strict=True))))
        for ends in zip(low, high, strict=True)
    ]
    wanted = [[len(a & b) / len(a | b) for b in cells] for a in cells]
    np.testing.assert_allclose(iou(boxes, boxes), wanted)
    sides = rng.uniform(0.2, 4, n).tolist()
    np.testing.assert_allclose(iou(boxes.scaled(sides), boxes.scaled(sides)), wanted)
    assert iou(boxes, boxes.picked([])).shape == (5, 0)


def test_depth_is_the_distance_in_radii_for_balls():
    ball = Boxes.of([[1.0, 2, 3]], [[8.0, 8, 8]])
    assert depth_within(np.array([[1.0, 2, 3], [5, 2, 3], [1, 2, 5]]), ball)[:, 0].tolist() == [0, 1, 0.5]


def test_inside_counts_half_a_voxel_beyond_the_outer_centres():
    boxes = Boxes.of([[-0.5, 0], [-0.6, 0], [2.4, 3.4], [2.5, 0]], np.ones((4, 2)))
    assert inside(boxes, (3, 4)).tolist() == [True, False, True, False]


@pytest.mark.parametrize("n", AXES)
def test_boxes_of_maps_hold_their_voxels_and_no_more(n):
    rng = np.random.default_rng(7)
    labels = (rng.random((9,) * n) < 0.12).astype(np.int16) * rng.integers(1, 3, (9,) * n)
    by_value = value_boxes(labels, {1: 0, 2: 1})
    for k, value in enumerate((1, 2)):
        places = np.argwhere(labels == value)
        assert by_value.label[k] == k
        assert by_value.low[k].tolist() == (places.min(0) - 0.5).tolist()
        assert by_value.high[k].tolist() == (places.max(0) + 0.5).tolist()
    wanted = sorted(slow_components(labels == 2))
    found = component_boxes(labels, {2: 4})
    assert (
        sorted((*low, *high) for low, high in zip(found.low.tolist(), found.high.tolist(), strict=True))
        == wanted
    )
    assert set(found.label.tolist()) == {4}


def slow_components(mask):
    """Ends of the pieces of a mask whose voxels touch, even at a corner: by flooding."""
    left, ends = {tuple(place) for place in np.argwhere(mask)}, []
    while left:
        todo = [left.pop()]
        piece = set(todo)
        while todo:
            here = todo.pop()
            for step in product((-1, 0, 1), repeat=len(here)):
                there = tuple(a + b for a, b in zip(here, step, strict=True))
                if there in left:
                    left.remove(there)
                    piece.add(there)
                    todo.append(there)
        places = np.array(sorted(piece))
        ends.append((*(places.min(0) - 0.5), *(places.max(0) + 0.5)))
    return ends


def test_filled_boxes_are_those_that_maps_give_back():
    boxes = Boxes.between([[0.5, 1.5], [-0.5, -0.5]], [[2.5, 2.5], [0.5, 3.5]], [0, 1])
    masks = filled(boxes, (4, 4), 2)
    back = [component_boxes(mask.astype(np.uint8), {1: k}) for k, mask in enumerate(masks)]
    assert joined(back, 2).rows() == boxes.rows()
    tiny = filled(Boxes.of([[1.2, 2.9]], [[0.1, 0.1]]), (4, 4), 1)
    assert np.argwhere(tiny[0]).tolist() == [[1, 3]]


@dataclass(frozen=True, kw_only=True)
class Config(BoxConfig):
    chosen_by = "score"
    name: str = "boxes"

    @classmethod
    def preset(cls, _dimension, _size, _normalisation):
        return cls()

    @property
    def normalisation(self):
        return "none"

    def scorer(self, _scans):
        return lambda picked: {"n": float(len(picked)), "score": 1.0}

    def row(self, _scan):
        return {}


@dataclass
class Case:
    """A labelled image of a map and, maybe, of listed boxes."""

    labels_map: np.ndarray
    listed: np.ndarray | None = None
    affine: np.ndarray | None = None

    @property
    def shape(self):
        return self.labels_map.shape

    @property
    def spacing_mm(self):
        return (1.0, 2.0)

    def read_map(self, _name, _low, _high):
        return self.labels_map

    def listed_boxes(self, _name):
        return self.listed


def test_labels_settle_the_classes():
    facts = LabelFacts(values=(0, 1, 7))
    assert Config().settle(facts).classes == ("class1=1", "class7=7")
    assert Config().settle(LabelFacts(values=(0, 2, 9), classes=("a=2",), ignore=(9,))).names == ("a",)
    table = LabelFacts(values=(0, 1, 3, 4), classes=("a=1", "b=2"), ignore=(3,), instances=3)
    with pytest.raises(FoveateError, match="Class b has no box in the training images"):
        Config().settle(table)
    both = LabelFacts(values=(0, 1, 5, 9), classes=("a=1", "b=2"), ignore=(3,), instances=3)
    config = Config().settle(both)
    assert config.classes_of((1, 2, 3, 4, 5, 6)) == {1: 0, 2: 1, 3: IGNORED, 4: 0, 5: 1, 6: IGNORED}
    with pytest.raises(FoveateError, match="drop the key"):
        Config(classes=("c=1",)).settle(both)
    with pytest.raises(FoveateError, match="hold no box"):
        Config().settle(LabelFacts(values=(0,)))
    with pytest.raises(FoveateError, match=r"values \[5\], which no class"):
        Config(classes=("a=1",)).settle(LabelFacts(values=(0, 1), others=(5,)))


def test_known_boxes_are_the_pieces_of_a_map_or_what_a_table_says():
    labels = np.zeros((8, 8), np.uint8)
    labels[1:3, 1:2] = labels[5:6, 4:8] = 1
    labels[0, 7] = 9
    config = Config(ignore=(9,)).settle(LabelFacts(values=(0, 1, 9)))
    known = config.known(Case(labels))
    assert sorted(known.truth.low.tolist()) == [[0.5, 0.5], [4.5, 3.5]]
    assert known.ignored.centre.tolist() == [[0, 7]]
    affine = np.diag([1.0, 2.0, 1.0, 1.0])
    listed = np.array([[1.0, 3, 4, 2, 6], [4.0, 1, 1, 1, 1]])
    told = Config(classes=("a=1", "b=2", "c=3"), instances=3)
    boxes = told.known(Case(labels, listed, affine)).truth
    assert boxes.rows() == [[3, 2, 2, 3, 0, 1], [1, 0.5, 1, 0.5, 0, 1]]
    scan = told.scan(Case(labels, listed, affine), boxes)
    assert scan.truth.size.tolist() == [[2, 6], [1, 1]]
    again = Scan.from_numbers(scan.numbers())
    assert [part.rows() for part in again] == [part.rows() for part in scan]


def test_views_know_their_boxes_and_which_go_on_beyond_the_rim():
    labels = torch.zeros(1, 2, 6, 6, dtype=torch.int64)
    labels[0, 0, 1:3, 2:4] = 1
    labels[0, 0, 5, 0] = 9
    config = Config(ignore=(9,)).settle(LabelFacts(values=(0, 1, 9)))
    rows = ViewBoxes("image", config).draw({"regions": {"labels/image": labels}}, 0)
    assert rows["label"].tolist() == [[IGNORED, 0], [NONE, NONE]]
    assert rows["centre"][0, 1].tolist() == [1.5, 2.5]
    assert rows["size"][0, 1].tolist() == [2, 2]
    assert rows["whole"].tolist() == [[0, 1], [0, 0]]


def test_a_task_says_which_metric_selects_and_of_which_less_is_better():
    class Undecided(Config):
        chosen_by = BoxConfig.chosen_by

    with pytest.raises(TypeError, match=r"abstract.*chosen_by"):
        Undecided()

    class Errors(Config):
        chosen_by = "error_mm"
        less_is_better = ("error_mm",)

        def scorer(self, _scans):
            return lambda _picked: {"error_mm": 2.0, "rate": 0.5}

    class More(Errors):
        less_is_better = ("another",)

    class Rates(More):
        chosen_by = "rate"

    found = {each: BoxTask.metrics(SimpleNamespace(config=each()), [])["score"] for each in (More, Rates)}
    assert found == {More: -2.0, Rates: 0.5}
    assert More.falling() == ("another", "error_mm")
