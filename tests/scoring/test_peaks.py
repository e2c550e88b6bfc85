"""Peaks: the boxes that ideal maps say, however the image is cut into windows and slabs."""

import itertools

import numpy as np
import pytest
import torch
from tests.scoring.ideal import Ideal, found_in, ideal_answer

from foveate.core.boxes.geometry import Boxes
from foveate.scoring.boxes import peaks
from foveate.scoring.boxes.peaks import PeakRule, blocks, boxes_in, folded, peaks_of, unfolded

SHAPES = [((41, 30), (16, 16)), ((13, 11, 30), (8, 8, 8)), ((5, 40, 9), (8, 8, 8))]


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
@pytest.mark.parametrize("stride", [1, 2])
def test_ideal_maps_give_their_boxes_back(shape, patch, stride):
    places = [np.linspace(2, size - 3, 1 + size // 12) for size in shape]
    centre = np.array(list(itertools.product(*places))) + 0.3
    size = np.random.default_rng(0).uniform(2, 5, centre.shape)
    boxes = Boxes.of(centre, size, np.arange(len(centre)) % 2)
    found = found_in(shape, boxes, patch, stride)
    assert len(found) == len(boxes)
    order = np.lexsort(found.centre.round(2).T[::-1])
    np.testing.assert_allclose(found.centre[order], centre, atol=1e-3)
    np.testing.assert_allclose(found.size[order], size, rtol=1e-3)
    assert found.label[order].tolist() == boxes.label.tolist()


def test_mirrored_images_give_the_boxes_of_the_image_as_it_is():
    boxes = Boxes.of([[10.0, 20]], [[5.0, 4]], [1])
    shape, stride = (32, 40), 2
    turned = Boxes.of([[31 - 10.0, 39 - 20]], [[5.0, 4]], [1])  # an ideal network sees the mirror image

    class Flipped(Ideal):
        def read(self, low, high):
            first = [n - b for n, b in zip(self.shape, high, strict=True)]
            last = [n - a for n, a in zip(self.shape, low, strict=True)]
            return np.flip(super().read(first, last), (1, 2))

    rule = PeakRule(classes=2, stride=stride, least_score=0.5, most_iou=0.1, most_boxes=50)
    volume, answer = Flipped(shape, turned, stride, 2), ideal_answer(stride)
    found = boxes_in(volume, answer, (16, 16), rule, overlap=0.5, device=torch.device("cpu"), mirrored=(0, 1))
    np.testing.assert_allclose(found.centre, boxes.centre, atol=1e-3)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 5), (8,), (3, 5), (1, 7), (7, 1)])
def test_slabs_give_the_peaks_of_the_whole(sizes):
    maps = torch.randn(2 + 4, sum(sizes), 6, generator=torch.Generator().manual_seed(0))
    rule = PeakRule(classes=2, stride=1, least_score=0.0, most_iou=0.1, most_boxes=50)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    slabs = ((a, maps[:, a : a + n]) for a, n in zip(starts, sizes, strict=True))
    found = [row for block in blocks(slabs, 0) for row in peaks_of(block, 0, rule).rows()]
    whole = peaks_of(peaks.Block(maps, 0, 0, sum(sizes)), 0, rule)
    np.testing.assert_allclose(sorted(found), sorted(whole.rows()))
    heat = maps[:2].sigmoid().numpy()
    for k, x, y in itertools.product(*map(range, heat.shape)):
        around = heat[k, max(0, x - 1) : x + 2, max(0, y - 1) : y + 2].max()
        assert (heat[k, x, y] == around) == (
            heat[k, x, y] in whole.score[whole.label == k].astype(np.float32)
        )


def test_cells_are_folded_and_unfolded():
    values = np.random.default_rng(0).normal(size=(3, 4, 6, 8)).astype(np.float32)
    cells = torch.from_numpy(folded(values, 2))[None]
    assert cells.shape == (1, 24, 2, 3, 4)
    assert torch.equal(unfolded(cells, 2)[0], torch.from_numpy(values))
