"""Several answers to one image: mirror images and members, averaged."""

from itertools import combinations

import numpy as np
import pytest
import torch
from tests.scoring.test_inference import Held

from foveate.core.types import FoveateError
from foveate.scoring.inference import WindowConfig
from foveate.scoring.members.doubt import Doubt
from foveate.scoring.members.mirrors import averaged, mirror_images, side_by_side
from foveate.scoring.members.shares import LEVELS
from foveate.scoring.segment import TidyConfig, segment

ACTIVATIONS = ["softmax", "sigmoid"]


def uneven(images):
    """Logits (B, 3, *S) that depend on where a voxel is, and on its neighbour to one side."""
    ramp = torch.linspace(-2, 3, images.shape[2]).reshape(-1, *[1] * (images.ndim - 3))
    x = images[:, 0]
    return torch.stack([3 * x - 1, 2 - 4 * x.roll(1, -1) + ramp, ramp * x], 1)


def shares(logits, activation):
    return logits.softmax(1) if activation == "softmax" else logits.sigmoid()


def segmented(array, answer, activation, patch, **keys):
    found = segment(
        Held(array),
        answer,
        patch=patch,
        classes=3,
        activation=activation,
        window=WindowConfig(overlap=0.5),
        tidy=TidyConfig(),
        probabilities=True,
        **keys,
    )
    return found, found.probabilities / LEVELS


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("axes", [(0,), (0, 2), (0, 1, 2)])
def test_oracle_mirror_images_are_answered_and_mirrored_back(activation, axes):
    array = np.random.default_rng(0).random((1, 8, 6, 4)).astype(np.float32)
    found, mean = segmented(array, uneven, activation, (4, 6, 4), mirror="".join("xyz"[a] for a in axes))
    slow = []
    for count in range(len(axes) + 1):
        for some in combinations(axes, count):
            flipped = np.flip(array, [a + 1 for a in some]).copy()
            slow.append(np.flip(segmented(flipped, uneven, activation, (4, 6, 4))[1], [a + 1 for a in some]))
    assert len(slow) == 2 ** len(axes)
    slow = np.mean(slow, axis=0)
    assert np.abs(mean - slow).max() < 2.5 / LEVELS
    if activation == "softmax":
        assert (found.labels == slow.argmax(0)).mean() > 0.99
    else:
        assert (found.masks == (slow > 0.5)).mean() > 0.99
    assert np.abs(mean - segmented(array, uneven, activation, (4, 6, 4))[1]).max() > 0.01


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_oracle_members_are_averaged_and_each_over_its_mirror_images(activation):
    array = np.random.default_rng(1).random((1, 5, 7)).astype(np.float32)

    def both(images):
        return torch.cat([uneven(images), -1.5 * uneven(images)], 1)

    def mean_over(answer, images):
        flips = [[], [2], [3], [2, 3]]
        return torch.stack([shares(answer(images.flip(f)).flip(f), activation) for f in flips]).mean(0)

    image = torch.from_numpy(array)[None]
    slow = [mean_over(uneven, image), mean_over(lambda x: -1.5 * uneven(x), image)]
    _, mean = segmented(array, both, activation, (5, 7), members=2, mirror="all")
    assert np.abs(mean - torch.stack(slow).mean(0)[0].numpy()).max() < 1.5 / LEVELS


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equal_members_are_one(activation):
    array = np.random.default_rng(2).random((1, 9, 7)).astype(np.float32)
    one, alone = segmented(array, uneven, activation, (4, 4))
    same, mean = segmented(array, lambda x: uneven(x).repeat(1, 3, 1, 1), activation, (4, 4), members=3)
    assert np.array_equal(mean, alone)
    for k in range(3):
        assert np.array_equal(one.mask(k), same.mask(k))


def test_logits_of_the_mean_keep_sure_probabilities():
    def sure(images):
        return torch.cat([images * 0 + 60, images * 0 - 60], 1)

    image = torch.zeros(1, 1, 2, 2)
    for exclusive in (True, False):
        logits = averaged(sure, mirror_images("xy", 2), 1, exclusive=exclusive)(image)
        assert torch.isfinite(logits).all()
        assert (logits[:, 0] - logits[:, 1]).min() > 50
    assert side_by_side(sure, mirror_images("xy", 2))(image).shape == (1, 8, 2, 2)


@pytest.mark.parametrize(
    ("mirror", "dimension", "cut", "said"),
    [
        ("z", 2, None, "2D images, which have no axis z"),
        ("xz", 3, 2, "slices across z, which have no axis z"),
    ],
)
def test_an_axis_that_is_not_there_is_refused(mirror, dimension, cut, said):
    with pytest.raises(FoveateError, match=rf"--mirror {mirror}: the network sees {said}"):
        mirror_images(mirror, dimension, cut)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_oracle_entropy_and_disagreement(activation):
    """Against loops over voxels, classes and pairs; in parts the same as at once."""
    exclusive, rng = activation == "softmax", np.random.default_rng(4)
    logits = torch.from_numpy(3 * rng.normal(size=(3, 4, 6, 5)).astype(np.float32))
    logits[:, 3] = -20  # a class that nobody finds
    logits[:, 0] += 2
    probs = (logits.softmax(1) if exclusive else logits.sigmoid()).double().numpy()
    mean = probs.mean(0)
    claims = np.stack([probs.argmax(1) == k for k in range(4)], 1) if exclusive else probs > 0.5
    entropies, scores = [], []
    for i, j in np.ndindex(6, 5):
        if claims[:, int(exclusive) :, i, j].any():
            p = mean[:, i, j]
            other = 0 if exclusive else (1 - p) * np.log(1 - p)
            sums = -(p * np.log(p) + other)
            entropies.append(sums.sum() / np.log(4) if exclusive else sums.mean() / np.log(2))
    for k in range(int(exclusive), 4):
        pairs = [(claims[a, k], claims[b, k]) for a, b in combinations(range(3), 2)]
        dice = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs if a.any() or b.any()]
        scores += [np.mean(dice)] if dice else []
    assert len(scores) == (2 if exclusive else 3)
    shares, found = torch.from_numpy(probs), Doubt((6, 5), exclusive=exclusive, wanted="map")
    for low, high in ((0, 2), (2, 6)):
        found.enter([slice(low, high)], shares[:, :, low:high], shares[:, :, low:high].mean(0))
    assert found.entropy == pytest.approx(np.mean(entropies), rel=1e-6)
    assert found.disagreement == pytest.approx(1 - np.mean(scores), rel=1e-9)
    assert found.map.max() <= LEVELS
    assert (found.map > 0).any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_skipped_windows_are_background_for_every_member(activation):
    array = np.zeros((1, 16, 4), np.float32)
    array[0, :4] = 1

    def bright(images):
        return torch.cat([images * 0, images * 9 + 3, images * 0 - 9], 1).repeat(1, 2, 1, 1)

    found = segment(
        Held(array),
        bright,
        patch=(4, 4),
        classes=3,
        activation=activation,
        window=WindowConfig(overlap=0.0, skip_background=True),
        tidy=TidyConfig(),
        members=2,
        doubt="map",
    )
    assert found.mask(1)[:4].all()
    assert not found.mask(1)[4:].any()
    assert not found.doubt.map[4:].any()
    assert found.doubt.disagreement == 0
