"""How well position says what is seen, against a slow loop and on images of which the answer is known."""

import numpy as np
import pytest

from foveate.data import position
from foveate.data.cache.volumes import Cache
from foveate.data.position import FEWEST, MOST, THRESHOLD, Position, explained, grid_of, measure, one_of_each


class Image:
    """What is read of a cached volume."""

    def __init__(self, values, number, patient=""):
        self.values, self.patient, self.shape = values, patient, values.shape[1:]
        self.entry = type("Entry", (), {"patient": "", "id": f"{number:032x}"})

    def codes(self, low, high):
        from foveate.core.codes import Codes

        assert tuple(low) == (0,) * len(self.shape)
        assert tuple(high) == self.shape
        return Codes(self.values, 0.0, 1.0, inside=True)


def images(kind, count=12, shape=(24, 26, 9)):
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, shape[0])[:, None, None] * np.linspace(1, 0, shape[-1])
    for i in range(count):
        noise = rng.random((1, *shape))
        found = ramp * rng.uniform(0.5, 1) + 0.3 * noise + rng.random()
        if kind == "shuffled":
            found = rng.permutation(found.ravel()).reshape(found.shape)
        if kind == "turned":
            found = np.flip(np.roll(found, rng.integers(24), 1), [1, 3][: i % 3])
        yield Image(found.astype(np.float32), i)


def measured(kind, monkeypatch, **keys):
    monkeypatch.setattr(position, "one_of_each", lambda cache: (list(cache), True))
    return measure(list(images(kind, **keys)))


def test_aligned_images_are_told_from_shuffled_and_from_moved_ones(monkeypatch):
    aligned = measured("aligned", monkeypatch)
    assert aligned.aligned
    assert aligned.explained > 0.9
    assert aligned.sentence == f"position explains {aligned.explained:.2f} of appearance across 12 patients"
    for kind in ("shuffled", "turned"):
        found = measured(kind, monkeypatch)
        assert not found.aligned
        assert found.explained < 0.1


def test_noise_reads_0_on_average(monkeypatch):
    def noise(seed):
        rng = np.random.default_rng(seed)
        return [Image(rng.random((1, 18, 18), np.float32), i) for i in range(10)]

    monkeypatch.setattr(position, "one_of_each", lambda cache: (cache, False))
    monkeypatch.setattr(position, "max", lambda _zero, found: found, raising=False)  # not cut off at 0
    found = [measure(noise(seed)).explained for seed in range(12)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(12) + 0.005


def test_the_share_is_that_of_a_slow_loop():
    grids = np.random.default_rng(1).normal(size=(5, 2, 3, 3)) + np.arange(9).reshape(3, 3)
    wrong = total = 0.0
    for i in range(5):
        for place in np.ndindex(grids.shape[1:]):
            others = [grids[j][place] for j in range(5) if j != i]
            wrong += (grids[i][place] - sum(others) / 4) ** 2
            total += grids[i][place] ** 2
    assert explained(grids) == pytest.approx(1 - wrong / total)
    assert explained(np.zeros((4, 1, 2))) == 0


@pytest.mark.parametrize("shape", [(48, 48), (24, 24, 24), (7, 31, 3)])
def test_a_grid_is_the_z_scored_means_of_its_cells(shape):
    values = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    grid = grid_of(Image(values, 0))
    assert grid.shape == (2, *[position.GRID] * len(shape))
    assert np.allclose(grid.reshape(2, -1).mean(1), 0)
    assert np.allclose(grid.reshape(2, -1).std(1), 1)
    if len(shape) == 2:  # every voxel is looked at
        means = values.reshape(2, 6, 8, 6, 8).mean((2, 4))
        spread = means.reshape(2, -1).std(1)[:, None, None]
        assert np.allclose(grid, (means - means.mean((1, 2), keepdims=True)) / spread, atol=1e-4)
    flat = grid_of(Image(np.ones((1, *shape), np.float32), 0))
    assert not flat.any()


def test_one_image_of_each_patient_is_taken_from_all_over_the_cache(monkeypatch):
    monkeypatch.setattr("foveate.data.cache.volumes._check_alike", lambda _volumes: None)
    empty = np.zeros((1, 2, 2), np.float32)
    every = [Image(empty, i, patient=f"p{i // 2}") for i in range(6 * MOST)]
    chosen, known = one_of_each(Cache(every))
    assert known
    assert len({image.patient for image in chosen}) == len(chosen) == MOST
    assert max(int(image.patient[1:]) for image in chosen) > 2.9 * MOST  # of 3 * MOST patients
    chosen, known = one_of_each(Cache([*every[:4], Image(empty, 999)]))
    assert [len(chosen), known] == [3, False]


def test_few_patients_are_no_evidence():
    few = Position(explained=0.9, chance=0.0, patients=FEWEST - 1, known=True)
    assert not few.aligned
    assert "it takes 4" in few.sentence
    assert not Position(explained=THRESHOLD + 0.01, chance=0.5, patients=9, known=False).aligned
    assert "9 images, patients unknown" in Position(explained=0.2, chance=0, patients=9, known=False).sentence
