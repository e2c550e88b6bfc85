"""A 2D network over a volume: the same as a loop over its slices, each answered on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.views.test_places import Stack as Volume

from foveate.core.types import FoveateError
from foveate.data.cache.planes import Cut, Planes
from foveate.scoring.inference import WindowConfig
from foveate.scoring.segment import TidyConfig, segment

SHAPE = (13, 6, 11)


def volume(axis, neighbours):
    made = Volume(np.random.default_rng(3).random(SHAPE, dtype=np.float32))
    made.planes = Planes(made, Cut(axis, neighbours))
    return made


def answer(images):
    """Three classes from all channels and the place in the window, so that windows and neighbours matter."""
    assert images.ndim == 4
    ramp = torch.linspace(0, 1, images.shape[3])
    weights = torch.arange(1, images.shape[1] + 1, dtype=torch.float32)[:, None, None]
    mixed = (images * weights).sum(1) / weights.sum() + 0.3
    return torch.stack([mixed, mixed.flip(1) + ramp - 0.5, 1.2 - images[:, 0]], 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("mirror", ["none", "x", "xy"])
def test_a_volume_is_answered_slice_by_slice(axis, neighbours, mirror):
    seen = volume(axis, neighbours)
    in_volume = mirror if mirror == "none" else "".join(Cut(axis).across("xyz")[: len(mirror)])
    settings = {
        "patch": (6, 5),
        "classes": 3,
        "activation": "softmax",
        "tidy": TidyConfig(),
        "probabilities": True,
    }
    window = WindowConfig(overlap=0.5, batch_size=3)
    whole = segment(seen, answer, window=window, mirror=in_volume, **settings)
    assert whole.labels.shape == SHAPE
    assert len(np.unique(whole.labels)) == 3
    for i in range(SHAPE[axis]):
        alone = segment(seen.planes[i], answer, window=window, mirror=mirror, **settings)
        np.testing.assert_array_equal(whole.labels.take(i, axis), alone.labels)
        apart = whole.probabilities.take(i, axis + 1).astype(int) - alone.probabilities
        assert np.abs(apart).max() <= 1


def test_pieces_are_tidied_in_the_volume():
    array = np.zeros((8, 5, 9), np.float32)
    array[1:4, :4, 1:4] = 1  # one piece of four slices
    array[5:8, 0, 4:8] = 1  # larger in its slice, smaller in the volume
    array[5:8, 1, 4:6] = 1
    seen = Volume(array)
    found = segment(
        seen,
        lambda images: torch.cat([0.5 - images, images - 0.5], 1),
        patch=(8, 8),
        classes=2,
        activation="softmax",
        window=WindowConfig(),
        tidy=TidyConfig(largest_component=True),
    )
    wanted = array > 0.5
    wanted[5:8] = False
    np.testing.assert_array_equal(found.labels == 1, wanted)


def test_a_3d_network_does_not_answer_slices():
    with pytest.raises(FoveateError, match=r"sees 3D windows; this volume has shape \(13, 6\)"):
        segment(
            volume(2, 0),
            answer,
            patch=(4, 4, 4),
            classes=3,
            activation="softmax",
            window=WindowConfig(),
            tidy=TidyConfig(),
        )
