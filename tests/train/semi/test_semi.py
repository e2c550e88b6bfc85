"""Semi-supervised training: boxes, pseudo-labels, weights, teacher and batch norm, against slow loops."""

import copy
import math
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from tests.tasks.test_segmentation import task as built

from foveate.core.types import FoveateError, Progress
from foveate.data.loader import Mixture, Share
from foveate.train.semi.model import SemiSupervised
from foveate.train.semi.paste import PasteBoxes, box_masks, exchanged, sides
from foveate.train.semi.pseudo import largest_only, pseudo_labels
from foveate.train.semi.settings import SemiConfig
from foveate.views.appearance import Appearance
from foveate.views.drawn import draw_ahead, samples_at

SHAPES = {2: (32, 32), 3: (16, 16, 8)}
EARLY, LATE = Progress(0, 10, 7), Progress(6, 10, 7)


def batch(dimension, rows=4, unlabelled=True):
    shape = SHAPES[dimension]
    torch.manual_seed(1)
    labels = torch.randint(0, 3, (rows, 1, *shape))
    if unlabelled:
        labels[1::2] = -1
    return {
        "crops": {"image": torch.rand(rows, 1, 1, *shape)},
        "affines": {},
        "regions": {"labels/image": labels},
        "labels": {},
        "index": tuple(range(100, 100 + rows)),
    }


def semi(dimension=2, classes=("a=1", "b=2"), apart=0.3, **keys):
    task = built(dimension, classes, appearance=Appearance())
    model = SemiSupervised(task, SemiConfig(**{"supervised_steps": 5, **keys}))
    with torch.no_grad():  # a labeller of its own
        for p in model.teacher.parameters():
            p.add_(apart * torch.randn_like(p))
    return model


@pytest.mark.parametrize("dimension", [2, 3])
def test_boxes_lie_inside_are_drawn_for_a_pair_and_masks_are_those_of_a_loop(dimension):
    draw, made = PasteBoxes(crop="image", share=0.6), batch(dimension, 8)
    lows, shape = draw.draw(made, 3)["low"], SHAPES[dimension]
    masks = box_masks(lows, shape, 0.6)
    for low, mask in zip(lows.tolist(), masks, strict=True):
        high = [a + side for a, side in zip(low, sides(shape, 0.6), strict=True)]
        assert all(a >= 0 and b <= size for a, b, size in zip(low, high, shape, strict=True))
        for place in product(*map(range, shape)):
            inside = all(a <= x < b for a, x, b in zip(low, place, high, strict=True))
            assert bool(mask[place]) == inside
    assert len({tuple(low) for low in lows.tolist()}) > 1
    later = draw.draw(samples_at(made, slice(2)) | {"index": (104, 105)}, 3)["low"]
    assert torch.equal(later[0], lows[2])  # of the pair, wherever it lies in a batch


def test_what_one_window_gives_the_other_takes():
    rows, masks = torch.arange(4 * 30).reshape(4, 5, 6), torch.rand(2, 5, 6) > 0.5
    mixed = exchanged(rows, masks)
    for k, x, y in product(range(2), range(5), range(6)):
        pair = [int(rows[2 * k, x, y]), int(rows[2 * k + 1, x, y])]
        expected = pair[::-1] if masks[k, x, y] else pair
        assert [int(mixed[2 * k, x, y]), int(mixed[2 * k + 1, x, y])] == expected


def test_pseudo_labels_of_a_softmax_and_of_overlapping_classes_are_those_of_a_loop():
    torch.manual_seed(0)
    outputs = torch.randn(2, 3, 4, 5) * 2
    exclusive = {0: (0,), 7: (1,), 2: (2,)}
    nested = {0: (), 1: (0, 1), 2: (0,), 4: (0, 1, 2)}
    for activation, codebook in (("softmax", exclusive), ("sigmoid", nested)):
        labels, sure = pseudo_labels(outputs, activation, codebook)
        for b, x, y in product(range(2), range(4), range(5)):
            row = outputs[b, :, x, y].double()
            if activation == "softmax":
                shares = row.softmax(0).tolist()
                scores = {v: (shares[held[0]],) for v, held in codebook.items()}
            else:
                p = row.sigmoid().tolist()
                scores = {
                    v: [p[k] if k in held else 1 - p[k] for k in range(3)] for v, held in codebook.items()
                }
            best = max(scores, key=lambda v: math.prod(scores[v]))
            assert int(labels[b, x, y]) == best
            assert float(sure[b, x, y]) == pytest.approx(min(scores[best]), abs=1e-6)


def test_only_the_largest_component_of_a_class_stays():
    row = torch.tensor([[1, 1, 0, 2, 0, 1, 2, 2]])
    assert largest_only(row).tolist() == [[1, 1, 0, 0, 0, 0, 2, 2]]


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("mixing", ["paste", "none"])
def test_losses_are_those_of_a_slow_loop_over_the_pasted_windows(dimension, unlabelled, mixing):
    model = semi(dimension, apart=0.05, unlabelled_weight=0.3, mixing=mixing)
    given, progress = batch(dimension, unlabelled=unlabelled), LATE if unlabelled else EARLY
    images, labels = given["crops"]["image"][:, 0], given["regions"]["labels/image"][:, 0].clone()
    weights = torch.ones(labels.shape)
    if unlabelled:
        with torch.no_grad():
            shares = copy.deepcopy(model.teacher).eval().outputs(images[1::2]).softmax(1)
        labels[1::2], sure = shares.argmax(1), shares.amax(1)
        limit = float(sure.median())
        model.config = replace(model.config, confidence=limit)
        weights[1::2] = torch.where(sure >= limit, 0.3, 0.0)
    shape, expected = SHAPES[dimension], (images.clone(), labels.clone(), weights.clone())
    lows = PasteBoxes(crop="image", share=2 / 3).draw(given, 7)["low"].tolist()
    for k, place in product(range(2), product(*map(range, shape))):
        inside = all(a <= x < a + s for a, x, s in zip(lows[k], place, sides(shape, 2 / 3), strict=True))
        if inside and mixing == "paste":
            for here, there in ((2 * k, 2 * k + 1), (2 * k + 1, 2 * k)):
                expected[0][(here, 0, *place)] = images[(there, 0, *place)]
                expected[1][(here, *place)] = labels[(there, *place)]
                expected[2][(here, *place)] = weights[(there, *place)]
    losses = model(draw_ahead(given, model.draws, 7), progress)
    logits = copy.deepcopy(model.task).outputs(expected[0])
    p, y, w = logits.softmax(1).detach().double().numpy(), expected[1].numpy(), expected[2].double().numpy()
    losses = {name: value.detach() for name, value in losses.items()}
    assert float(losses["voxel"]) == pytest.approx(cross_entropy(p, y, w), abs=1e-5)
    assert float(losses["region"]) == pytest.approx(1 - dice(p, y, w), abs=1e-5)


def cross_entropy(p, y, w):
    places = list(np.ndindex(y.shape))
    sums = [-math.log(p[(at[0], y[at], *at[1:])]) * w[at] for at in places]
    return sum(sums) / w.sum()


def dice(p, y, w):
    found = []
    for k in (1, 2):
        hit = both = 0.0
        for at in np.ndindex(y.shape):
            q = p[(at[0], k, *at[1:])]
            hit += q * (y[at] == k) * w[at]
            both += (q + (y[at] == k)) * w[at]
        found.append((2 * hit + 1) / (both + 1))
    return sum(found) / 2


def test_the_teacher_follows_as_an_explicit_average_does_and_takes_no_gradient():
    model = SemiSupervised(built(2), SemiConfig(momentum=0.8))
    start, step = dict(copy.deepcopy(model.task).named_parameters()), torch.Generator().manual_seed(1)
    expected = {name: value.detach().double() for name, value in start.items()}
    for done in range(1, 41):
        with torch.no_grad():
            for value in model.task.parameters():
                value.add_(torch.randn(value.shape, generator=step))
        model.after_step(Progress(done - 1, 40))
        kept = min(0.8, done / (done + 9))
        for name, value in model.task.named_parameters():
            expected[name] = kept * expected[name] + (1 - kept) * value.detach().double()
    for name, value in model.teacher.named_parameters():
        assert not value.requires_grad
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("labeller", ["teacher", "self"])
@pytest.mark.parametrize("norm", ["running", "batch"])
def test_labelling_writes_no_statistics_and_either_network_labels(labeller, norm):
    model = semi(labeller=labeller, labeller_norm=norm, batch_norm="together")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    made = model.mixed(batch(2), 7, 0.5)
    after = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    assert all(torch.equal(before[k], v) for k, v in after.items())
    assert model.task.training
    assert model.teacher.training
    other = semi(labeller="self" if labeller == "teacher" else "teacher", labeller_norm=norm)
    theirs = other.mixed(batch(2), 7, 0.5)["regions"]["labels/image"]
    assert not torch.equal(made["regions"]["labels/image"], theirs)
    assert set(made["regions"]["labels/image"].unique().tolist()) <= {0, 1, 2}


def statistics(model):
    return {k: v.clone() for k, v in model.task.state_dict().items() if "running" in k}


def test_batch_norm_sees_the_halves_together_apart_or_writes_those_of_the_labelled_half():
    found, losses = {}, {}
    for how in ("together", "apart", "labelled"):
        model = semi(batch_norm=how)
        start = copy.deepcopy(model)
        losses[how] = model(batch(2), LATE)
        found[how] = statistics(model)
    half = samples_at(start.mixed(batch(2), 7, 0.5), slice(0, None, 2))
    alone = start.task(half, LATE)
    wanted = statistics(start)
    assert all(torch.equal(found["labelled"][k], wanted[k]) for k in wanted)
    assert any(not torch.equal(found["apart"][k], wanted[k]) for k in wanted)
    assert any(not torch.equal(found["together"][k], found["apart"][k]) for k in wanted)
    assert torch.equal(losses["apart"]["voxel"], losses["labelled"]["voxel"])
    second = start.task(samples_at(start.mixed(batch(2), 7, 0.5), slice(1, None, 2)), LATE)
    torch.testing.assert_close(losses["apart"]["voxel"], (alone["voxel"] + second["voxel"]) / 2)


def test_a_mixture_pairs_labelled_with_unlabelled_images_whatever_the_processes():
    mixture = Mixture(labelled=list("abc"), unlabelled=list("vwxyz"), first=12)
    drawn = [mixture.volume(3, i) for i in range(12 + 30)]
    assert set(drawn[:12]) == set("abc")
    assert set(drawn[12::2]) == set("abc")
    assert Counter(drawn[13::2]) == dict.fromkeys("vwxyz", 3)  # once an epoch
    assert all(set(drawn[13 + 10 * e : 23 + 10 * e : 2]) == set("vwxyz") for e in range(3))
    one, two = Share(batch_size=4, accumulate=3), [Share(batch_size=2, rank=r, world=6) for r in range(6)]
    assert sorted(i for m in range(3) for i in one.indices(2, m)) == sorted(
        i for s in two for i in s.indices(2, 0)
    )
    for share in (one, *two):
        indices = share.indices(2, 0)
        kinds = [mixture.volume(3, i) in "abc" for i in indices]
        assert kinds == [True, False] * (len(indices) // 2)


def test_health_measures_fixed_windows_and_changes_nothing():
    model = semi(3)
    before, given = copy.deepcopy(model.state_dict()), batch(3)
    found = model.measure(given)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    images = given["crops"]["image"][:, 0]
    with torch.no_grad():
        maps = [
            copy.deepcopy(net).eval().outputs(images).argmax(1).numpy() for net in (model.teacher, model.task)
        ]
    overlaps = [
        2 * ((maps[0] == k) & (maps[1] == k)).sum() / ((maps[0] == k).sum() + (maps[1] == k).sum())
        for k in (1, 2)
    ]
    assert found["pseudo/agreement"] == pytest.approx(np.mean(overlaps))
    assert found["pseudo/share/b"] == pytest.approx((maps[0] == 2).mean())
    assert set(found) == {
        "pseudo/agreement",
        "pseudo/confidence",
        "pseudo/counted",
        "pseudo/share/a",
        "pseudo/share/b",
    }


def test_settings_that_make_no_sense_are_refused():
    for key, value in (("box", 1.0), ("momentum", 1.0), ("confidence", -0.1), ("unlabelled_weight", 0.0)):
        with pytest.raises(FoveateError, match=rf"semi.{key} is {value}; accepted"):
            SemiConfig(**{key: value})
