"""The sliding window against the answer to the whole volume."""

import os
import tempfile
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from foveate.core.types import FoveateError
from foveate.scoring import inference
from foveate.scoring.inference import Pace, WindowConfig, sliding_window, starts, sweep_axis
from foveate.scoring.members.shares import LEVELS
from foveate.scoring.segment import TidyConfig, segment


class Held:
    """A volume in memory that remembers the largest window it was asked for."""

    planes = None
    focus = ()

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
    )
)


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_property_pointwise_networks_are_exact_at_every_overlap_and_patch(case):
    shape, patch, overlap, batch = case
    config = WindowConfig(overlap=overlap, batch_size=batch)
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


def slow_logits(array, answer, patch, config):
    """Running weighted means, a window at a time, in NumPy's float32."""
    shape, weights = array.shape[1:], inference.gaussian_window(patch)
    means, below = np.zeros((2, *shape), np.float32), np.zeros(shape, np.float32)
    lines = [starts(size, p, config.overlap) for size, p in zip(shape, patch, strict=True)]
    axis = sweep_axis(shape, patch)
    for corner in sorted(product(*lines), key=lambda c: c[axis]):
        there = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        logits = answer(torch.from_numpy(array[(slice(None), *there)][None]))[0].numpy()
        below[there] += weights
        part = means[(slice(None), *there)]
        part += (logits - part) * (weights / below[there])
    return means


@pytest.mark.parametrize("patch", [(4, 4, 4), (4, 8, 6)])
def test_oracle_a_network_one_window_at_a_time_to_the_bit_and_in_batches_to_a_tolerance(patch):
    torch.manual_seed(0)
    array = np.random.default_rng(0).random((1, 11, 9, 13)).astype(np.float32)
    with torch.no_grad():
        net = torch.nn.Conv3d(1, 2, 3, padding=1).requires_grad_(requires_grad=False)
        one = whole(Held(array), net, patch, 2, WindowConfig(batch_size=1))
        assert np.array_equal(one, slow_logits(array, net, patch, WindowConfig()))
        seen = []
        many = whole(
            Held(array), lambda x: seen.append(len(x)) or net(x), patch, 2, WindowConfig(batch_size=7)
        )
    assert many == pytest.approx(one, abs=1e-5)
    assert seen[:-1] == [7] * (len(seen) - 1)  # full batches, also where a slab ends


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_contract_windows_of_background_are_skipped_and_answered_as_background(activation):
    """Against the same without them: where a computed window reaches, computed windows alone decide."""
    array = np.random.default_rng(0).random((1, 30, 12)).astype(np.float32)
    array[:, :15] = 0
    seen = []

    def answer(images):  # what is dark is doubtful, and differs from window to window
        seen.append(len(images))
        return torch.cat([0.1 - images, images - 0.4], 1) * (1 + images.mean((1, 2, 3), keepdim=True))

    config = {"overlap": 0.5, "batch_size": 3}
    keys = {
        "patch": (6, 6),
        "classes": 2,
        "activation": activation,
        "tidy": TidyConfig(),
        "probabilities": True,
    }
    pace = Pace()
    volume = Held(array)
    found = segment(volume, answer, window=WindowConfig(skip_background=True, **config), pace=pace, **keys)
    assert (pace.windows, pace.skipped) == (9 * 3, 4 * 3)  # starts 0, 3, 6, 9 of 0 to 24
    assert seen == [3] * 5
    plain = segment(volume, answer, window=WindowConfig(**config), **keys)
    computed = slice(18, 30)  # 12 to 18 saw skipped windows too
    assert np.array_equal(found.probabilities[:, computed], plain.probabilities[:, computed])
    assert (found.probabilities[1, :12] == 0).all()
    assert (found.probabilities[0, :12] == (LEVELS if activation == "softmax" else 0)).all()
    assert not found.mask(1)[:12].any()
    assert found.mask(1)[15:].any()
    assert (plain.probabilities[1, :12] > 0).all()


class Small:
    """A device on which so many windows fit."""

    def __init__(self, fit):
        self.fit, self.seen = fit, []

    def answer(self, images):
        self.seen.append(len(images))
        if len(images) > self.fit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return images * 2


def test_contract_where_memory_runs_out_fewer_windows_are_computed_and_it_is_said_once():
    array, said = np.random.default_rng(0).random((1, 20, 9, 8)).astype(np.float32), []
    device, pace = Small(2), Pace(tell=said.append)
    config = WindowConfig(batch_size=8)
    for _ in range(2):
        slabs = list(sliding_window(Held(array), device.answer, (4, 9, 8), 1, config, pace))
        assert np.array_equal(np.concatenate([slab.logits for slab in slabs], 1), array * 2)
    assert device.seen == [8, 4, 2, 2, 2, 2, 1, *[2, 2, 2, 2, 1]]
    (text,) = said
    assert "out of memory" in text
    assert "--window.batch_size" in text


def test_contract_where_not_one_window_fits_the_error_says_what_to_set():
    array = np.zeros((1, 8, 8), np.float32)
    with pytest.raises(FoveateError, match=r"one window of 4 x 4 at a time: end other programs"):
        list(sliding_window(Held(array), Small(0).answer, (4, 4), 1, WindowConfig()))
    assert "--precision bf16-mixed" in inference.out_of_memory((4, 4), torch.device("cuda"))


def test_contract_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(_images):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(sliding_window(Held(np.zeros((1, 8, 8), np.float32)), broken, (4, 4), 1, WindowConfig()))


def test_contract_sums_go_to_the_host_when_one_window_does_not_fit_beside_them():
    said = []
    pace = Pace(torch.device("cuda"), tell=said.append)
    assert (pace.batch(WindowConfig()), Pace().batch(WindowConfig())) == (4, 1)
    assert (pace.ease(4), pace.batch(WindowConfig())) == (True, 2)
    assert (pace.ease(2), pace.ease(1), pace.sums.type) == (True, True, "cpu")
    assert not pace.ease(1)
    assert len(said) == 2
    assert "kept on the host" in said[1]


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


def test_the_room_of_sums_in_a_file_is_taken_before_they_are_made(monkeypatch):
    opened, made = [], tempfile.TemporaryFile

    def kept():
        stream = made()
        opened.append(os.dup(stream.fileno()))
        return stream

    monkeypatch.setattr(tempfile, "TemporaryFile", kept)
    monkeypatch.setattr(inference, "MEMORY_LIMIT", 100)
    assert not inference.zeros((100, 1000), np.float32).any()
    assert os.fstat(opened[0]).st_blocks * 512 >= 400_000  # a hole would end the process on a full disk
    os.close(opened[0])


@pytest.mark.parametrize("keys", [{"overlap": 1.0}, {"overlap": -0.1}, {"batch_size": -1}])
def test_contract_impossible_windows_are_refused(keys):
    with pytest.raises(FoveateError, match=next(iter(keys))):
        WindowConfig(**keys)


def test_contract_a_network_of_another_dimension_is_refused():
    with pytest.raises(FoveateError, match="2D windows"):
        next(sliding_window(Held(np.zeros((1, 4, 4, 4))), lambda x: x, (4, 4), 1, WindowConfig()))
