"""Detection between voxels and cells: its losses and its boxes, against maps that a loop over cells makes."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from foveate.core.boxes.geometry import Boxes
from foveate.core.types import LabelFacts, Progress
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.scoring.boxes.peaks import as_cells, as_voxels
from foveate.tasks.detection import Config, Detection

GRID = (24, 16, 16)
LOW, SIDES, KINDS = [(2, 3, 2), (12, 4, 5)], [(6, 5, 7), (7, 8, 6)], (0, 1)  # voxels; odd and even


def built(dimension, stride):
    preset = Config.preset(dimension, "small", "none")
    config = replace(preset, crops=replace(preset.crops, grid=GRID[:dimension]), stride=stride)
    config = config.settle(LabelFacts(values=(0, 1, 2)))
    net = build_pyramid(UNetConfig(width=2, levels=4), DecoderConfig(skips=True), dimension)
    return Detection(net, config)


def ideal_maps(dimension, stride):
    """What every cell of a view should say of the box that is nearest: from the voxels that the cell has."""
    shape = tuple(size // stride for size in GRID[:dimension])
    maps = np.zeros((1, 2 + 2 * dimension, *shape), np.float32)
    maps[:, :2] = -20
    middles = [
        [low + (side - 1) / 2 for low, side in zip(*box, strict=True)] for box in zip(LOW, SIDES, strict=True)
    ]
    for cell in product(*map(range, shape)):
        here = [np.mean(range(c * stride, (c + 1) * stride)) for c in cell]
        away = [[m - h for m, h in zip(middle, here, strict=False)] for middle in middles]
        nearest = min((0, 1), key=lambda i: sum(a**2 for a in away[i]))
        maps[(0, slice(2, 2 + dimension), *cell)] = [a / stride for a in away[nearest]]
        sides = SIDES[nearest][:dimension]
        maps[(0, slice(2 + dimension, None), *cell)] = [math.log(side / stride) for side in sides]
        if all(-stride / 2 < a <= stride / 2 for a in away[nearest]):  # half way: the lower cell
            maps[(0, KINDS[nearest], *cell)] = 20
    return torch.from_numpy(maps)


def label_map(dimension):
    labels = np.zeros(GRID[:dimension], np.int64)
    for low, sides, kind in zip(LOW, SIDES, KINDS, strict=True):
        labels[tuple(slice(a, a + s) for a, s in zip(low, sides, strict=True))[:dimension]] = kind + 1
    return torch.from_numpy(labels)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_ideal_maps_have_no_distance_to_the_boxes_of_a_view(monkeypatch, dimension, stride):
    task, maps = built(dimension, stride), ideal_maps(dimension, stride)
    labels = label_map(dimension)[None, None]
    batch = {
        "crops": {"image": torch.rand(1, 1, 1, *GRID[:dimension])},
        "affines": {"image": torch.eye(dimension, dimension + 1)[None, None]},
        "regions": {"labels/image": labels},
        "labels": {},
        "index": [0],
    }
    monkeypatch.setattr(task, "answered", lambda _images: maps)
    losses = task(batch, Progress(0, 1, 0))
    assert losses["offset"].item() == pytest.approx(0, abs=1e-6)
    assert losses["size"].item() == pytest.approx(0, abs=1e-6)
    assert losses["heat"].item() < 0.1


class Volume:
    """An image of which nothing but its shape is looked at."""

    def __init__(self, shape):
        self.shape = shape

    def read(self, low, high):
        return np.zeros((1, *(b - a for a, b in zip(low, high, strict=True))), np.float32)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_ideal_maps_of_a_window_are_predicted_as_the_boxes_in_it(monkeypatch, dimension, stride):
    task, maps = built(dimension, stride), ideal_maps(dimension, stride)
    monkeypatch.setattr(task, "answered", lambda images: maps.expand(len(images), *maps.shape[1:]))
    found = task.predict(Volume(GRID[:dimension]))
    order = np.argsort(found.label)
    assert found.label[order].tolist() == list(KINDS)
    truth = task.config.boxes_of(label_map(dimension).numpy(), [1, 2])
    np.testing.assert_allclose(found.centre[order], truth.centre, atol=1e-5)
    np.testing.assert_allclose(found.size[order], truth.size, rtol=1e-5)


def test_voxels_as_cells_and_back_are_where_they_were():
    boxes = Boxes.of([[5.0, 7.25]], [[3.0, 4.5]])
    centre, size = as_voxels(*as_cells(boxes.centre, boxes.size, 4), 4)
    np.testing.assert_allclose(centre, boxes.centre)
    np.testing.assert_allclose(size, boxes.size)
