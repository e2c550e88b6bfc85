"""The sliding window against the answer to the whole volume."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from foveate.core.types import FoveateError
from foveate.evaluate import inference
from foveate.evaluate.inference import WindowConfig, sliding_window, starts, sweep_axis


class Held:
    """A volume in memory that remembers the largest window it was asked for."""

    def __init__(self, array):
        self.array, self.largest = array, 0

    @property
    def shape(self):
        return self.array.shape[1:]

    def read(self, low, high):
        window = self.array[(slice(None), *map(slice, low, high))]
        self.largest = max(self.largest, window.size)
        return window


def whole(volume, answer, patch, classes, config):
    slabs = list(sliding_window(volume, answer, patch, classes, config))
    axis = sweep_axis(volume.shape, patch)
    ends = [slab.start + slab.logits.shape[axis + 1] for slab in slabs]
    assert [slab.start for slab in slabs] == [0, *ends[:-1]]
    return np.concatenate([slab.logits for slab in slabs], axis + 1)


CASES = st.integers(2, 3).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 17), min_size=n, max_size=n),
        st.lists(st.integers(1, 8), min_size=n, max_size=n),
        st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]),
        st.integers(1, 3),
        st.lists(st.integers(0, n - 1), max_size=n, unique=True),
    )
)


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_property_pointwise_networks_are_exact_at_every_overlap_patch_and_flip(case):
    shape, patch, overlap, batch, flips = case
    config = WindowConfig(overlap=overlap, batch_size=batch, flip_axes=tuple(flips))
    array = np.random.default_rng(0).random((1, *shape)).astype(np.float32)

    def constant(images):
        return torch.tensor([0.3, -1.7]).reshape(1, 2, *[1] * len(shape)).expand(-1, -1, *images.shape[2:])

    def linear(images):
        return torch.cat([2 * images - 1, 0.5 - 3 * images], 1)

    flat = whole(Held(array), lambda x: constant(x).repeat(len(x), *[1] * (x.ndim - 1)), patch, 2, config)
    assert np.array_equal(flat, np.broadcast_to(constant(torch.zeros(1, 1, *shape)).numpy()[0], flat.shape))
    answers = whole(Held(array), linear, patch, 2, config)
    assert np.array_equal(answers, linear(torch.from_numpy(array)[None])[0].numpy())


def test_oracle_weights_of_overlapping_windows():
    """Answers that differ from window to window, against a loop over voxels."""
    shape, patch, config = (11, 7), (4, 5), WindowConfig(overlap=0.5)
    rng = np.random.default_rng(1)
    array, given = rng.random((1, *shape)).astype(np.float32), []

    def answer(images):
        given.append(rng.normal(size=(len(images), 1, *patch)).astype(np.float32))
        return torch.from_numpy(given[-1])

    found = whole(Held(array), answer, patch, 1, config)[0]
    weights = inference.gaussian_window(patch)
    top, below = np.zeros(shape), np.zeros(shape)
    corners = [(i, j) for i in starts(11, 4, 0.5) for j in starts(7, 5, 0.5)]
    for (i, j), logits in zip(corners, given, strict=True):
        top[i : i + 4, j : j + 5] += weights * logits[0, 0]
        below[i : i + 4, j : j + 5] += weights
    assert found == pytest.approx(top / below, abs=1e-5)


def test_contract_small_volumes_lie_in_the_middle_of_zeros():
    seen = []
    array = np.ones((1, 3, 9), np.float32)
    list(sliding_window(Held(array), lambda x: seen.append(x) or x, (6, 4), 1, WindowConfig()))
    assert seen[0].shape == (1, 1, 6, 4)
    assert seen[0][0, 0, :, 0].tolist() == [0, 1, 1, 1, 0, 0]


def test_contract_reads_windows_and_holds_a_slab(monkeypatch):
    monkeypatch.setattr(inference, "MEMORY_LIMIT", 100)  # the sums go to a file
    volume = Held(np.random.default_rng(0).random((1, 40, 9, 8)).astype(np.float32))
    slabs = list(sliding_window(volume, lambda x: x * 2, (8, 8, 8), 1, WindowConfig()))
    assert volume.largest == 8**3
    assert max(slab.logits.shape[1] for slab in slabs) <= 8
    assert np.array_equal(np.concatenate([s.logits for s in slabs], 1), volume.array * 2)


def test_contract_flips_are_undone():
    """A network that answers where it stands: its mean over a flip is symmetric."""
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1).expand(1, 1, 4, 4)
    found = inference.averaged_over_flips(lambda _: ramp, torch.zeros(1, 1, 4, 4), (0,))
    assert torch.equal(found, torch.full_like(ramp, 1.5))


@pytest.mark.parametrize(
    "keys",
    [{"overlap": 1.0}, {"overlap": -0.1}, {"batch_size": 0}, {"flip_axes": (0, 0)}, {"flip_axes": (-1,)}],
)
def test_contract_impossible_windows_are_refused(keys):
    with pytest.raises(FoveateError, match=next(iter(keys))):
        WindowConfig(**keys)


def test_contract_a_network_of_another_dimension_is_refused():
    with pytest.raises(FoveateError, match="2D windows"):
        next(sliding_window(Held(np.zeros((1, 4, 4, 4))), lambda x: x, (4, 4), 1, WindowConfig()))
