"""Metrics against slow computations and against SciPy, MONAI and scikit-learn."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn import metrics as sk

from foveate.core.types import FoveateError
from foveate.scoring import metrics

SPACINGS = {2: (0.7, 2.5), 3: (0.7, 1.3, 4.0)}


def random_masks(dimension, seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(6, 14, dimension)
    return [ndimage.gaussian_filter(rng.normal(size=shape), 1) > rng.uniform(0, 0.2) for _ in range(2)]


def surface_points(mask, spacing):
    """Voxels with a face neighbour outside the mask, by a loop over voxels."""
    padded, found = np.pad(mask, 1), []
    for voxel in np.argwhere(padded):
        steps = [s * np.eye(mask.ndim, dtype=int)[a] for a in range(mask.ndim) for s in (-1, 1)]
        if not all(padded[tuple(voxel + step)] for step in steps):
            found.append((voxel - 1) * spacing)
    return np.array(found)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_oracle_masks_against_all_pairs_of_surface_points(dimension, seed):
    predicted, truth = random_masks(dimension, seed)
    spacing = SPACINGS[dimension]
    one, two = (surface_points(mask, spacing) for mask in (predicted, truth))
    gaps = np.sqrt(((one[:, None] - two[None]) ** 2).sum(-1))
    forth, back = gaps.min(1), gaps.min(0)
    for tolerance in (0.5, 1.0, 3.0):
        found = metrics.surface_metrics(predicted, truth, spacing, tolerance)
        nsd = ((forth <= tolerance).sum() + (back <= tolerance).sum()) / (len(forth) + len(back))
        assert found["nsd"] == pytest.approx(nsd)
        assert found["hd95"] == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    inside = {tuple(v) for v in np.argwhere(predicted)}, {tuple(v) for v in np.argwhere(truth)}
    slow = 2 * len(inside[0] & inside[1]) / (len(inside[0]) + len(inside[1]))
    assert metrics.dice(predicted, truth) == pytest.approx(slow)


def test_oracle_masks_agree_with_monai():
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    predicted, truth = random_masks(3, 3)
    tensors = [torch.from_numpy(mask)[None, None] for mask in (predicted, truth)]
    spacing = list(SPACINGS[3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd95 = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=spacing)
        nsd = compute_surface_dice(*tensors, [1.5], include_background=True, spacing=spacing)
        overlap = compute_dice(*tensors, include_background=True)
    found = metrics.surface_metrics(predicted, truth, spacing, 1.5)
    assert found["hd95"] == pytest.approx(hd95.item(), rel=1e-5)
    assert found["nsd"] == pytest.approx(nsd.item(), rel=1e-5)
    assert metrics.dice(predicted, truth) == pytest.approx(overlap.item(), rel=1e-5)


def test_contract_empty_masks_follow_the_documented_rules():
    empty, some = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    some[1, 2] = True
    assert math.isnan(metrics.dice(empty, empty))
    assert metrics.dice(some, empty) == metrics.dice(empty, some) == 0
    assert all(map(math.isnan, metrics.surface_metrics(empty, empty, (1, 1), 1).values()))
    for pair in ((some, empty), (empty, some)):
        found = metrics.surface_metrics(*pair, (2.0, 3.0), 1)
        assert found == {"nsd": 0.0, "hd95": math.hypot(8, 15)}


def test_contract_a_case_averages_the_classes_that_have_something_to_say():
    a, b = random_masks(2, 0)
    empty = np.zeros_like(a)
    rows = metrics.mask_metrics({"x": a, "y": empty}, {"x": b, "y": empty}, (1, 1))
    assert rows["mean_fg_dice"] == rows["dice/x"] == metrics.dice(a, b)
    assert math.isnan(rows["dice/y"])
    with pytest.raises(FoveateError, match="class x"):
        metrics.mask_metrics({"x": a[1:]}, {"x": b}, (1, 1))


@pytest.mark.parametrize("seed", range(8))
def test_oracle_ranks_against_sklearn(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 60))
    labels = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    scores = rng.integers(0, 6, n) / 5 if seed % 2 else rng.random(n)  # with and without ties
    assert metrics.auroc(scores, labels) == pytest.approx(sk.roc_auc_score(labels, scores))
    assert metrics.average_precision(scores, labels) == pytest.approx(
        sk.average_precision_score(labels, scores)
    )


def test_contract_a_lone_class_has_no_auroc():
    scores = np.array([0.1, 0.7])
    assert math.isnan(metrics.auroc(scores, np.array([1, 1])))
    assert math.isnan(metrics.auroc(scores, np.array([0, 0])))
    assert math.isnan(metrics.average_precision(scores, np.array([0, 0])))
    assert metrics.average_precision(scores, np.array([1, 1])) == 1


def test_oracle_multiclass_against_sklearn():
    rng = np.random.default_rng(0)
    labels = np.r_[np.arange(4), rng.integers(0, 4, 60)].astype(float)
    shares = rng.dirichlet(np.ones(4), labels.size)
    missing = np.r_[np.zeros(10), np.full(5, np.nan), -np.ones(2)]
    labels[-17:] = np.where(missing == 0, labels[-17:], missing)
    found = metrics.multiclass_metrics(shares, labels, "abcd")
    known = labels >= 0
    truth, chosen = labels[known], shares[known].argmax(1)
    assert found["n"] == known.sum() == 57
    assert found["balanced_acc"] == pytest.approx(sk.balanced_accuracy_score(truth, chosen))
    assert found["f1"] == pytest.approx(sk.f1_score(truth, chosen, average="macro"))
    macro = sk.roc_auc_score(truth, shares[known], multi_class="ovr", average="macro")
    assert found["auroc"] == pytest.approx(macro)


def test_oracle_multilabel_against_sklearn_with_missing_labels():
    rng = np.random.default_rng(1)
    shares, labels = rng.random((50, 3)), rng.integers(0, 2, (50, 3)).astype(float)
    labels[:7, 1] = np.nan
    labels[:, 2] = 1  # never absent: no AUROC, and the mean goes over the others
    found = metrics.multilabel_metrics(shares, labels, ("a", "b", "c"))
    for k, name in enumerate("ab"):
        known = ~np.isnan(labels[:, k])
        truth, score = labels[known, k], shares[known, k]
        assert found[f"auroc/{name}"] == pytest.approx(sk.roc_auc_score(truth, score))
        assert found[f"balanced_acc/{name}"] == pytest.approx(sk.balanced_accuracy_score(truth, score > 0.5))
        assert found[f"f1/{name}"] == pytest.approx(sk.f1_score(truth, score > 0.5))
    assert found["n/b"] == 43
    assert math.isnan(found["auroc/c"])
    assert math.isnan(found["balanced_acc/c"])
    assert found["auroc"] == pytest.approx((found["auroc/a"] + found["auroc/b"]) / 2)


def test_oracle_regression_against_sklearn():
    rng = np.random.default_rng(2)
    truth, guess = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    truth[3, 0] = np.nan
    truth[:, 1] = 4
    found = metrics.regression_metrics(guess, truth, ("age", "constant"))
    known = ~np.isnan(truth[:, 0])
    assert found["mae/age"] == pytest.approx(sk.mean_absolute_error(truth[known, 0], guess[known, 0]))
    assert found["r2/age"] == found["r2"] == pytest.approx(sk.r2_score(truth[known, 0], guess[known, 0]))
    assert math.isnan(found["r2/constant"])
