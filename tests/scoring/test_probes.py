"""Probes: they read what is there, no more, and no patient is on both sides."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from foveate.core.types import FoveateError
from foveate.scoring import probes

CASES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=2, max_size=30)


@given(CASES.filter(lambda x: len({patient for patient, _ in x}) > 1), st.integers(0, 5))
def test_no_patient_is_on_both_sides(cases, seed):
    patients, groups = ([str(value) for value in column] for column in zip(*cases, strict=True))
    training = probes.split_patients(patients, groups, seed)
    seen, held = ({p for p, t in zip(patients, training, strict=True) if t == side} for side in (True, False))
    assert not seen & held
    assert seen
    assert held


def test_every_class_of_several_patients_is_on_both_sides():
    training = probes.split_patients(list("abcdef"), list("xyxyxx"), 0)
    assert {("xyxyxx"[i], bool(t)) for i, t in enumerate(training)} == {
        (name, side) for name in "xy" for side in (True, False)
    }


def test_one_patient_is_refused():
    with pytest.raises(FoveateError, match="at least 2 patients"):
        probes.split_patients(["a", "a"], ["x", "y"], 0)


def two_classes(informative):
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 60)
    features = rng.normal(size=(120, 5))
    if informative:
        features[:, 2] += 6 * (labels == "b")
    return features.astype(np.float32), labels, np.arange(120) < 60


def test_case_probe_reads_a_class_that_is_there_and_none_that_is_not():
    found = probes.case_probe(*two_classes(informative=True))
    assert found["linear_balanced_accuracy"] > 0.95
    assert found["knn_balanced_accuracy"] > 0.9
    assert found["chance"] == 0.5
    found = probes.case_probe(*two_classes(informative=False))
    assert abs(found["linear_balanced_accuracy"] - 0.5) < 0.2


def test_voxel_probe_is_the_dice_of_a_logistic_regression():
    features, names, training = two_classes(informative=True)
    labels = (names == "b").astype(int)
    assert probes.voxel_probe(features, labels, training)["voxel_dice"] > 0.95
    blind = np.zeros_like(features)
    wanted = labels[~training]
    dice = probes.voxel_probe(blind, labels, training)["voxel_dice"]
    assert dice in (0.0, pytest.approx(2 * wanted.sum() / (wanted.sum() + wanted.size)))


def test_classes_that_cannot_be_learnt_are_refused():
    with pytest.raises(FoveateError, match="two classes or more"):
        probes.check_classes(np.array(["a", "a", "b"]), np.array([True, True, False]))
