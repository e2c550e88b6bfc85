"""Localisation: walls against slow sums, boxes through whole views of turned volumes, metrics by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.tasks import Scan
from foveate.core.codes import Codes
from foveate.core.types import LabelFacts, Progress
from foveate.losses.walls import wall_distances, wall_losses, wall_means, walls_found
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.scoring.protocols.organs import organ_errors, organ_metrics
from foveate.tasks.localization import Config, Localization, hull

NAMES = ("liver", "spleen")


def built(dimension, grid, **keys):
    preset = Config.preset(dimension, "small", "none")
    crops = replace(preset.crops, grid=grid)
    config = replace(preset, crops=crops, **keys).settle(
        LabelFacts(values=(3, 5), classes=("liver=3", "spleen=5"))
    )
    net = build_pyramid(UNetConfig(width=2, levels=2), DecoderConfig(skips=True), dimension)
    return Localization(net, config)


def slow_place(i, cells):
    """The place of logit i: evenly from one rim of the axis to the other."""
    return -0.5 + i * cells / (cells - 1)


def test_oracle_walls_are_slow_sums():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(2, 3, 2, 6))
    logits = torch.from_numpy(numbers)
    walls = torch.from_numpy(rng.uniform(-0.5, 5.5, (2, 3, 2)))
    walls[0, 0] = torch.tensor([-0.5, 5.5])  # both rims
    there = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    total, away, means = 0.0, 0.0, np.zeros((2, 3, 2))
    for b, k, side in itertools.product(range(2), range(3), range(2)):
        shares = np.exp(numbers[b, k, side]) / np.exp(numbers[b, k, side]).sum()
        means[b, k, side] = sum(float(shares[i]) * slow_place(i, 6) for i in range(6))
        if there[b, k]:
            at = float(walls[b, k, side])
            gaps = [abs(slow_place(i, 6) - at) / (6 / 5) for i in range(6)]
            total -= sum(max(0.0, 1 - gap) * math.log(shares[i]) for i, gap in enumerate(gaps))
            away += abs(means[b, k, side] - at) / 6
    np.testing.assert_allclose(wall_means(logits), means)
    for row, found in zip(numbers.reshape(-1, 6), walls_found(logits).flatten().tolist(), strict=True):
        peak = max(range(6), key=lambda i: row[i])
        near = [i for i in range(6) if abs(i - peak) <= 2]
        weights = [math.exp(row[i]) for i in near]
        mean = sum(w * slow_place(i, 6) for w, i in zip(weights, near, strict=True)) / sum(weights)
        assert found == pytest.approx(mean)
    count = 2 * float(there.sum())
    assert float(wall_losses(logits, walls, there)) == pytest.approx(total / count)
    assert float(wall_distances(logits, walls, there)) == pytest.approx(away / count)


def test_walls_of_absent_organs_have_no_part():
    logits = torch.randn(1, 1, 2, 5, requires_grad=True)
    for loss in (wall_losses, wall_distances):
        value = loss(logits, torch.zeros(1, 1, 2), torch.zeros(1, 1))
        assert value.item() == 0
        value.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dimension", [2, 3])
def test_oracle_logits_along_an_axis_are_sums_over_the_others(dimension):
    task = built(dimension, (8, 4, 6)[:dimension]).eval()
    images = torch.rand(2, 1, *task.patch)
    seen = task.seen(images)
    logits = task.heads["walls"](task.net(images)[-1]).detach().numpy()
    for k, axis, side in itertools.product(range(2), range(dimension), range(2)):
        channel = np.exp(np.moveaxis(logits[:, (k * dimension + axis) * 2 + side], axis + 1, 1))
        sums = channel.reshape(2, task.patch[axis], -1).sum(-1)
        np.testing.assert_allclose(seen.walls[axis][:, k, side].detach(), np.log(sums), rtol=1e-4)


@pytest.fixture
def batch():
    """Two views of pictures: in the first both organs, in the second the spleen alone, cut by the rim."""
    maps = torch.zeros(2, 1, 8, 8, dtype=torch.int64)
    maps[0, 0, 1:4, 2:8], maps[0, 0, 6, 6], maps[1, 0, 0:3, 5:8] = 3, 5, 5
    return {
        "crops": {"image": torch.rand(2, 1, 1, 8, 8)},
        "affines": {"image": torch.eye(2, 3).expand(2, 1, 2, 3)},
        "regions": {"labels/image": maps},
        "labels": {},
        "index": [0, 1],
    }


def test_losses_are_those_of_the_boxes_in_the_views(batch):
    task = built(2, (8, 8), wall_weight=2.0, distance_weight=3.0, presence_weight=5.0)
    low, high = (
        [[[0.5, 1.5], [5.5, 5.5]], [[0, 0], [-0.5, 4.5]]],
        [[[3.5, 7.5], [6.5, 6.5]], [[0, 0], [2.5, 7.5]]],
    )
    there = torch.tensor([[1.0, 1], [0, 1]])
    truth = torch.stack([torch.tensor(low), torch.tensor(high)], 2)
    known = {}

    def remember(images):
        known["seen"] = Localization.seen(task, images)
        return known["seen"]

    task.seen = remember
    losses = task(batch, Progress(0, 1, 0))
    walls = [wall_losses(x, truth[..., a], there) for a, x in enumerate(known["seen"].walls)]
    away = [wall_distances(x, truth[..., a], there) for a, x in enumerate(known["seen"].walls)]
    said = known["seen"].presence.sigmoid()
    presence = -(there * said.log() + (1 - there) * (1 - said).log()).mean()
    assert losses["wall"].item() == pytest.approx(2 * float(sum(walls)) / 2, rel=1e-5)
    assert losses["distance"].item() == pytest.approx(3 * float(sum(away)) / 2, rel=1e-5)
    assert losses["presence"].item() == pytest.approx(5 * float(presence), rel=1e-5)


class Volume:
    """A volume of which nothing but its shape is looked at."""

    def __init__(self, shape):
        self.shape, self.spacing_mm = shape, (1.0,) * len(shape)
        self.map_names, self.planes, self.focus = (), None, ()

    def codes(self, low, high):
        shape = (1, *(b - a for a, b in zip(low, high, strict=True)))
        return Codes(np.zeros(shape, np.float32), 0.0, 1.0, inside=True)


@pytest.mark.parametrize("shape", [(10, 30, 7), (50, 44)])
@pytest.mark.parametrize("mirrored", [(), (0,), (0, 1)])
def test_property_walls_in_cells_are_boxes_in_voxels(shape, mirrored, monkeypatch):
    """What the network says of each rim of an organ, in cells of its view, lands on that rim in the image."""
    grid = (8, 6, 4)[: len(shape)]
    task = built(len(shape), grid)
    truth = Boxes.between(
        [[1.5] * len(shape), [-0.5] * len(shape)], [[5.5] * len(shape), np.array(shape) - 0.5]
    )
    steps = np.array(shape) / grid
    cells = [(end + 0.5) / steps - 0.5 for end in (truth.low, truth.high)]  # (2, n) each
    for axis in mirrored:
        low, high = cells[0][:, axis].copy(), cells[1][:, axis].copy()
        cells[0][:, axis], cells[1][:, axis] = grid[axis] - 1 - high, grid[axis] - 1 - low
    said = torch.tensor(np.concatenate([*cells, [[-2.0], [3.0]]], 1))[None]
    monkeypatch.setattr(task, "outputs", lambda _images: said)
    found = task.predict(Volume(shape), mirrored=mirrored)
    assert found.label.tolist() == [1, 0]
    np.testing.assert_allclose(found.score, torch.tensor([3.0, -2.0]).sigmoid(), rtol=1e-6)
    for k in (0, 1):
        mine = found.picked(found.label == k)
        np.testing.assert_allclose(mine.low, truth.low[[k]], atol=1e-5)
        np.testing.assert_allclose(mine.high, truth.high[[k]], atol=1e-5)


def test_an_organ_of_several_values_or_rows_has_one_box():
    config = replace(Config.preset(2, "small", "none"), classes=("both=1+2",))
    labels = np.zeros((6, 9), int)
    labels[1, 1], labels[4, 7] = 1, 2
    (box,) = config.boxes_of(labels, [0, 1, 2]).rows()
    assert box == [2.5, 4.0, 4.0, 7.0, 0.0, 1.0]
    assert len(hull(Boxes.of([], [], axes=2))) == 0


def scan(truth, found):
    """Rows (low, high, class[, score]) of boxes with equal sides in three axes."""
    none = Boxes.of([], [], axes=3)
    sides = []
    for rows in (truth, found):
        boxes = [Boxes.between([[a] * 3], [[b] * 3], [k]) for a, b, k, *_ in rows]
        scores = [row[3] if len(row) > 3 else 1.0 for row in rows]
        scored = [[*r[:-1], s] for each, s in zip(boxes, scores, strict=True) for r in each.rows()]
        sides.append(Boxes.from_rows(scored, 3))
    return Scan(sides[0], none, sides[1])


def test_metrics_by_hand():
    scans = [
        scan(
            [(0, 10, 0), (5, 9, 1)], [(2, 10, 0, 0.9), (5, 9, 1, 0.1), (50, 60, 0, 0.2)]
        ),  # the second denied
        scan([(0, 10, 0)], [(20, 30, 0, 0.8), (1, 2, 1, 0.7)]),  # far away; the second is not there
        scan([], []),
    ]
    errors = [organ_errors(each, 2) for each in scans]
    found = organ_metrics(errors, NAMES)
    assert found["wall_mm/liver"] == (1 + 20) / 2
    assert found["centre_mm/liver"] == pytest.approx((math.sqrt(3) + 20 * math.sqrt(3)) / 2)
    assert found["wall_mm/spleen"] == found["centre_mm/spleen"] == 0  # its best guess is right
    assert found["box_iou/liver"] == pytest.approx((8 / 10) ** 3 / 2)
    assert [found[f"rate_1cm/{name}"] for name in NAMES] == [0.5, 0.0]
    assert found["presence_acc/liver"] == 1
    assert found["presence_acc/spleen"] == pytest.approx(1 / 3)
    assert [found[f"n/{name}"] for name in NAMES] == [2, 1]
    assert found["wall_mm"] == pytest.approx((10.5 + 0) / 2)
    config = replace(Config.preset(3, "small", "none"), classes=("liver=1", "spleen=2"))
    again = config.scorer([Scan.from_numbers(each.numbers()) for each in scans])
    assert again(np.array([0, 1, 2])) == found
    assert again(np.array([1, 1]))["wall_mm/liver"] == 20
    assert config.row(scans[0])["wall_mm"] == 0.5
    assert math.isnan(config.mistakes(scans[2]))
    assert math.isnan(again(np.array([2]))["wall_mm"])


def test_the_picture_has_a_column_of_distances_for_each_organ(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("foveate.tasks.localization.figures.draw_scores", lambda *asked: drawn.append(asked))
    scans = [scan([(0, 10, 0)], [(2, 10, 0, 0.9), (5, 9, 1, 0.1)]), scan([(5, 9, 1)], [(0, 5, 0), (6, 9, 1)])]
    config = replace(Config.preset(3, "small", "none"), classes=("liver=1", "spleen=2"))
    assert config.report(scans, tmp_path) == {}
    ((path, columns, _),) = drawn
    assert path == tmp_path / "walls.png"
    np.testing.assert_equal(columns, {"liver": [1.0, math.nan], "spleen": [math.nan, 0.5]})


def test_training_selects_by_the_distance_of_walls():
    task = built(3, (8, 8, 8))
    near, far = (scan([(0, 10, 0)], [(a, a + 10, 0)]).numbers() for a in (1, 4))
    assert task.metrics([near])["score"] > task.metrics([far])["score"]


def test_an_organ_in_two_parts_has_one_box():
    labels = np.zeros((9, 9), int)
    labels[1, 1] = labels[6, 7] = 3
    found = built(2, (8, 8)).config.boxes_of(labels, [0, 3])
    assert found.centre.tolist() == [[3.5, 4.0]]
