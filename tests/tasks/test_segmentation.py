"""Segmentation: classes, targets, tiles, the metric, gradients in 2D and 3D."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from foveate.core.types import FoveateError, LabelFacts, Progress
from foveate.nets.encoders.resnet import ResNetConfig
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.scoring.metrics import dice
from foveate.tasks import segmentation
from foveate.tasks.segmentation import Config, Segmentation


def task(dimension=3, classes=("a=1", "b=2"), **keys):
    config = replace(Config.preset(dimension, "small", "zscore"), classes=classes, **keys)
    encoder = UNetConfig(width=2, levels=3) if dimension == 3 else ResNetConfig(width=4)
    torch.manual_seed(0)
    net = build_pyramid(encoder, DecoderConfig(skips=True), dimension)
    return Segmentation(net, config)


def batch(dimension, values=3):
    shape = {2: (64, 64), 3: (16, 16, 16)}[dimension]
    torch.manual_seed(1)
    return {
        "crops": {"image": torch.rand(2, 1, 1, *shape)},
        "affines": {},
        "regions": {"labels/image": torch.randint(0, values, (2, 1, *shape))},
        "labels": {},
        "index": torch.arange(2),
    }


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"classes": ("whole=1+2", "core=2")},
        {"region_loss": "tversky", "focus": 2.0},
        {"deep_supervision": 1},
    ],
    ids=["softmax", "overlapping", "tversky focal", "deep"],
)
def test_losses_are_finite_and_every_weight_gets_a_gradient(dimension, keys):
    model = task(dimension, **keys)
    losses = model(batch(dimension), Progress(0, 10, 0))
    assert set(losses) == {"region", "voxel"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert len([p for stage in model.stages() for p in stage]) == len(list(model.parameters()))


def test_disjoint_classes_share_a_softmax_and_overlapping_ones_do_not():
    plain, nested = task(), task(classes=("whole=1+2+4", "core=1+4"))
    assert (plain.activation, plain.class_names) == ("softmax", ("background", "a", "b"))
    assert (nested.activation, nested.class_names) == ("sigmoid", ("whole", "core"))
    labels = torch.tensor([[[[0, 1, 2, 4]]]])
    target, known = nested.targets(labels)
    assert target[0, :, 0, 0].tolist() == [[0, 1, 1, 1], [0, 1, 0, 1]]
    assert known.all()
    target, known = task(classes=("a=1",), ignore=(2, 4)).targets(labels)
    assert known[0, 0, 0, 0].tolist() == [True, True, False, False]
    assert target[0, :, 0, 0, :2].tolist() == [[1, 0], [0, 1]]


def test_labels_are_learnt_where_they_are():
    """One image, many steps: the prediction becomes the truth, flipped truth is not the same."""
    model = task(classes=("a=1",))
    data = batch(3)
    inside = data["crops"]["image"][:, 0, 0] * 0
    inside[:, 2:9, 4:12, 3:8] = 1
    data["crops"]["image"] = (inside * 0.5 + 0.2)[:, None, None]
    data["regions"]["labels/image"] = inside[:, None].long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(30):
        optimizer.zero_grad()
        torch.stack(list(model(data, Progress(step, 30, 0)).values())).sum().backward()
        optimizer.step()
    model.train()
    found = model.outputs(data["crops"]["image"][:, 0]).argmax(1).bool()
    found, truth = found[0].numpy(), inside[0].bool().numpy()
    assert dice(found, truth) > 0.9
    assert dice(found[::-1], truth) < 0.9


def test_settle_finds_classes_and_refuses_what_does_not_fit():
    config = Config.preset(3, "small", "zscore")
    assert config.settle(LabelFacts(values=(0, 1, 7))).classes == ("class1=1", "class7=7")
    assert config.settle(LabelFacts(values=(0, 1), classes=("liver=1",))).classes == ("liver=1",)
    with_ignore = config.settle(LabelFacts(values=(0, 1, 9), ignore=(9,)))
    assert (with_ignore.classes, with_ignore.ignore) == (("class1=1",), (9,))
    named = replace(config, classes=("a=1",))
    for facts in (LabelFacts(values=(0, 1, 3)), LabelFacts(values=(0, 1), others=(3,))):
        with pytest.raises(
            FoveateError, match=r"labels hold the values \[3\], which no class of a=1 declares"
        ):
            named.settle(facts)
    with pytest.raises(FoveateError, match=r"Class b \(2\) is in none of the training labels"):
        replace(config, classes=("a=1", "b=2")).settle(LabelFacts(values=(0, 1)))
    with pytest.raises(FoveateError, match="nothing but background"):
        config.settle(LabelFacts(values=(0,)))


@pytest.mark.parametrize("wrong", ["a", "a=", "=1", "a=x", "a=1+", "a=-1"])
def test_classes_are_written_in_one_way(wrong):
    with pytest.raises(FoveateError, match="write name=value"):
        segmentation.unions((wrong,))
    with pytest.raises(FoveateError, match="each name once"):
        segmentation.unions(("a=1", "a=2"))


def test_deep_supervision_beyond_the_decoder_is_refused():
    with pytest.raises(FoveateError, match=r"deep_supervision 2: accepted are 0 to 1"):
        task(deep_supervision=2)


class Case:
    """An image with its labels in memory."""

    planes = None
    focus = ()

    def __init__(self, image, labels):
        self.image, self.labels, self.shape = image, labels, labels.shape

    def read(self, low, high):
        return self.image[(slice(None), *map(slice, low, high))]

    def read_map(self, _name, low, high):
        return self.labels[tuple(map(slice, low, high))]


def averaged_over_tiles(model, image):
    """Oracle: windows of an image that is padded as a whole; plain means of logits where they overlap."""
    patch, shape = model.patch, image.shape[1:]
    before = [max(0, p - n) // 2 for p, n in zip(patch, shape, strict=True)]
    padded = np.zeros((1, 1, *map(max, patch, shape)), np.float32)
    inner = (..., *(slice(b, b + n) for b, n in zip(before, shape, strict=True)))
    padded[inner] = image
    total, count = 0, np.zeros(padded.shape[2:])
    lines = [
        np.linspace(0, n - p, 1 + int(np.ceil((n - p) / (p / 2)))).round().astype(int)
        for n, p in zip(padded.shape[2:], patch, strict=True)
    ]
    for corner in product(*lines):
        where = (..., *(slice(c, c + p) for c, p in zip(corner, patch, strict=True)))
        logits = model.outputs(torch.from_numpy(padded[where]))[0].detach().numpy()
        total = total if count.any() else np.zeros((len(logits), *count.shape))
        total[where] += logits
        count[where] += 1
    return (total / count)[inner]


@pytest.mark.parametrize("classes", [("a=1", "b=2"), ("whole=1+2", "core=2")])
@pytest.mark.parametrize("shapes", [[(30, 97), (300, 551)], [(20, 47, 33), (60, 40, 45)]], ids=["2D", "3D"])
def test_validation_is_the_dice_of_plainly_averaged_tiles(shapes, classes):
    model = task(len(shapes[0]), classes, ignore=(3,)).eval()
    with torch.no_grad():  # answers of every class
        head = model.heads[str(model.scales[0])]
        head.bias -= model.outputs(torch.rand(1, 1, *model.patch)).transpose(0, 1).flatten(1).mean(1)
    rng = np.random.default_rng(0)
    cases = [
        Case(rng.random((1, *s)).astype(np.float32), rng.integers(0, 4, s).astype(np.uint8)) for s in shapes
    ]
    first = 1 if model.exclusive else 0
    rows = []
    for case in cases:
        logits = averaged_over_tiles(model, case.image)
        masks = [logits.argmax(0) == k for k in range(len(logits))] if first else logits > 0
        truths = [np.isin(case.labels, v) for v in segmentation.unions(classes).values()]
        known = case.labels < 3
        pairs = [(mask & known, truth & known) for mask, truth in zip(masks[first:], truths, strict=True)]
        rows.append([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs])
    found = model.validate(cases)
    means = np.mean(rows, 0)
    for name, mean in zip(model.names[first:], means, strict=True):
        assert found[f"dice/{name}"] == pytest.approx(mean, abs=1e-6)
    assert found["score"] == found["mean_fg_dice"] == pytest.approx(means.mean(), abs=1e-6)
    assert min(means) > 0.1


def test_a_frozen_encoder_keeps_weights_and_statistics():
    model = task()
    model.freeze()
    before = {name: value.clone() for name, value in model.net.encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.eval()
    model.train()
    torch.stack(list(model(batch(3), Progress(0, 1, 0)).values())).sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.net.encoder.state_dict().items())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.net.decoder.parameters())


def test_ignored_values_below_zero_count_nowhere():
    model = task(classes=("a=1", "b=2"), ignore=(-1,))
    target, known = model.targets(torch.tensor([[[[-1, 0, 1, 2]]]]))
    assert known[0, 0, 0, 0].tolist() == [False, True, True, True]
    assert target[0, :, 0, 0].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    labels = np.random.default_rng(0).integers(0, 3, (24, 24, 16))
    labels[:3] = -1
    truth = model.eval().outlines(Case(np.zeros((1, *labels.shape), np.float32), labels))["truth"]
    assert not truth[:, :3].any()
    assert truth[:, 3:].sum() == (labels > 0).sum()


def test_voxels_of_weight_0_count_nowhere_and_of_weight_1_as_without_weights():
    model, labels = task(classes=("a=1", "b=2")), batch(2)["regions"]["labels/image"][:, 0]
    logits = torch.randn(2, 3, 64, 64)
    plain = model.losses(logits, labels)
    assert torch.equal(torch.stack(model.losses(logits, labels, torch.ones(2, 64, 64))), torch.stack(plain))
    weight = torch.ones(2, 64, 64)
    weight[:, 20:] = 0
    found = torch.stack(model.losses(logits, labels, weight))
    logits[:, :, 20:] = -logits[:, :, 20:]
    assert torch.allclose(torch.stack(model.losses(logits, labels, weight)), found)
    assert not torch.allclose(found, torch.stack(plain))
