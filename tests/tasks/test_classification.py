"""Classification: labels of every kind, missing ones, the metric against scikit-learn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from foveate.core.tasks import Answered as Judged
from foveate.core.types import FoveateError, LabelFacts, Progress
from foveate.nets.encoders.resnet import ResNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.tasks.classification import Classification, Config

PLAIN = Config.preset(2, "small", "imagenet")
FACTS = LabelFacts(
    columns={
        "kind": ("b", "a", "b", ""),
        "x": ("0", "1", "0", "0"),
        "y": (1, None, 0, float("nan")),
        "age": ("10", "20", "30", ""),
        "one": ("b", "b", "b", "b"),
        "gone": ("", "", "", ""),
    }
)


def settled(kind, *targets, **keys):
    return replace(PLAIN, kind=kind, targets=targets, **keys).settle(FACTS)


def test_multiclass_names_weights_and_numbers():
    config = settled("multiclass", "kind", weighting="balanced")
    assert config.classes == ("a", "b")
    assert config.class_weights == (1.5, 0.75)
    assert config.encode({"kind": "b "}) == {"kind": 1.0}
    assert math.isnan(config.encode({})["kind"])
    assert config.stratum({"kind": "b"}) != config.stratum({"kind": "a"})


def test_numbers_are_classes_however_they_are_written():
    facts = LabelFacts(columns={"c": (0, 1.0, "0", "1.0")})
    config = replace(PLAIN, targets=("c",)).settle(facts)
    assert config.classes == ("0", "1")
    assert config.encode({"c": 1.0}) == {"c": 1.0}


def test_multilabel_weights_and_uncertain_labels():
    config = settled("multilabel", "x", "y", weighting="balanced")
    assert config.class_weights == (3.0, 1.0)
    with pytest.raises(FoveateError, match=r"'x' holds -1; .* task.uncertain"):
        config.encode({"x": -1})
    means = [
        replace(config, uncertain=u).encode({"x": "-1"})["x"] for u in ("positive", "negative", "missing")
    ]
    assert means[:2] == [1.0, 0.0]
    assert math.isnan(means[2])


def test_a_background_is_left_out_of_the_mean_over_planes():
    config = settled("multiclass", "kind", background="a")
    shares = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    found = config.score(shares, np.array([[0.0], [1.0], [0.0]]))
    assert found["f1_planes"] == found["f1/b"] == pytest.approx(2 / 3)
    assert "f1_planes" not in settled("multiclass", "kind").score(shares, np.zeros((3, 1)))
    for kind, targets in (("multiclass", ["kind"]), ("multilabel", ["x"])):
        with pytest.raises(FoveateError, match=r"task.background 'none' is no class"):
            settled(kind, *targets, background="none")


def test_regression_is_standardised_by_the_training_labels():
    config = settled("regression", "age")
    assert config.centres == (20.0,)
    assert config.spreads == pytest.approx((np.std([10, 20, 30]),))


@pytest.mark.parametrize(
    ("kind", "targets", "keys", "message"),
    [
        ("multiclass", (), {}, "exactly one column is accepted; there are: kind, x"),
        ("multiclass", ("kind", "x"), {}, "exactly one column"),
        ("multilabel", ("nobody",), {}, "no column 'nobody'"),
        ("multilabel", ("gone",), {}, "'gone' is missing for every training image"),
        ("multilabel", ("age",), {}, "'age' holds '10'; accepted for multilabel: 0, 1 or nothing"),
        ("regression", ("kind",), {}, "'kind' holds 'b'; accepted for regression: numbers"),
        ("multiclass", ("one",), {}, "holds one class"),
        ("multiclass", ("kind",), {"classes": ("a",)}, r"holds \['b'\]; task.classes declares"),
        ("multiclass", ("kind",), {"classes": ("a", "b", "c")}, "Class 'c' has no training image"),
    ],
)
def test_labels_that_do_not_fit_are_refused(kind, targets, keys, message):
    with pytest.raises(FoveateError, match=message):
        settled(kind, *targets, **keys)


@pytest.mark.parametrize(
    ("kind", "targets"), [("multiclass", ("kind",)), ("multilabel", ("x", "y")), ("regression", ("age",))]
)
@pytest.mark.parametrize("dimension", [2, 3])
def test_losses_are_finite_and_every_weight_gets_a_gradient(kind, targets, dimension):
    config = replace(Config.preset(dimension, "small", "zscore"), kind=kind, targets=targets).settle(FACTS)
    model = Classification(build_pyramid(ResNetConfig(width=4), DecoderConfig(), dimension), config)
    data = {
        "crops": {"image": torch.rand(3, 1, 1, *(32,) * dimension)},
        "labels": {t: torch.tensor([0.0, 1.0, math.nan]) for t in targets},
        "index": torch.arange(3),
    }
    (loss,) = model(data, Progress(0, 1, 0)).values()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert sum(bool(p.grad.abs().sum() > 0) for p in model.parameters()) == len(list(model.parameters()))
    assert len([p for stage in model.stages() for p in stage]) == len(list(model.parameters()))
    assert model.outputs(torch.rand(2, 1, *(32,) * dimension)).shape == (2, len(model.class_names))


class Answered:
    """A case whose answer is known beforehand."""

    def __init__(self, answer, **labels):
        self.answer, self.labels = torch.as_tensor(answer, dtype=torch.float32), labels


def told(kind, /, **columns):
    """A classification whose answers its cases hold."""
    config = replace(PLAIN, kind=kind, targets=tuple(columns)).settle(LabelFacts(columns=columns))
    model = Classification(build_pyramid(ResNetConfig(width=4), DecoderConfig(), 2), config)
    model.predict = lambda case: case.answer
    return model


def test_validation_is_scikit_learns_without_what_is_missing():
    rng = np.random.default_rng(0)
    shares, kinds = rng.integers(1, 6, (40, 3)) / 5, [*rng.integers(0, 3, 38), math.nan, math.nan]
    model = told("multiclass", kind=("a", "b", "c"))
    found = model.validate([Answered(s, kind=float(k)) for s, k in zip(shares, kinds, strict=True)])
    truth = np.array(kinds[:38], int)
    areas = [roc_auc_score(truth == k, shares[:38, k]) for k in range(3)]
    assert list(found)[:3] == ["score", "auroc", "balanced_acc"]
    assert [found[f"auroc/{name}"] for name in model.class_names] == pytest.approx(areas, abs=1e-6)
    assert found["score"] == found["auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    chosen = shares[:38].argmax(1)
    assert found["balanced_acc"] == pytest.approx(balanced_accuracy_score(truth, chosen), abs=1e-6)
    model, some = told("multilabel", x=(0, 1), y=(0, 1)), (0.0, 1.0, math.nan, 1.0)
    found = model.validate([Answered(s[:2], x=k, y=1.0) for s, k in zip(shares[:4], some, strict=True)])
    assert found["auroc/x"] == pytest.approx(roc_auc_score([0, 1, 1], shares[[0, 1, 3], 0]), abs=1e-6)
    assert math.isnan(found["auroc/y"])
    assert set(found) == {"score", "auroc", "auroc/x", "auroc/y"}


def test_numbers_are_scored_by_their_error_in_spreads_of_the_training_labels():
    model = told("regression", age=(0, 20), dose=(0, 2))  # spreads of 10 and 1
    cases = [Answered([10.0, 1.0], age=30.0, dose=math.nan), Answered([5.0, 1.5], age=5.0, dose=1.0)]
    found = model.validate(cases)
    assert (found["mae/age"], found["mae/dose"], found["mae"]) == pytest.approx((10, 0.5, 20.5 / 3))
    assert found["score"] == pytest.approx(-(2 + 0 + 0.5) / 3)


@pytest.mark.parametrize(
    ("kind", "columns", "mistakes", "said"),
    [
        (
            "multiclass",
            {"kind": ("a", "b", "c")},
            [0.8, -1, 0.3],
            ["true: a\nanswered c (0.70)", "true: unknown\nanswered a (0.50)", "true: c\nanswered c (0.70)"],
        ),
        (
            "multilabel",
            {"x": (0, 1), "y": (0, 1), "z": (0, 1)},
            [0.7, 0.5, 0.9],
            [
                "x: 0.20 for 0\ny: 0.10 for 0\nz: 0.70 for 0",
                None,
                "x: 0.20 for 0\ny: 0.10 for 1\nz: 0.70 for 1",
            ],
        ),
        ("regression", {"x": (0, 1), "y": (0, 1), "z": (0, 1)}, None, ["0.20 for 0\n0.10 for 0\n0.70 for 0"]),
    ],
)
def test_the_worst_answers_and_what_stands_below_their_pictures(kind, columns, mistakes, said):
    model = told(kind, **columns)
    answers = np.array([[0.2, 0.1, 0.7], [0.5, 0.4, 0.1], [0.2, 0.1, 0.7]])
    several = np.array([[0.0, 0, 0], [0, math.nan, math.nan], [0, 1, 1]])
    labels = np.array([[0.0], [math.nan], [2.0]]) if kind == "multiclass" else several
    if mistakes:
        assert model.mistakes(Judged(answers, labels)).tolist() == pytest.approx(mistakes)
    for answer, label, words in zip(answers, labels, said, strict=False):
        assert words is None or model.caption(answer, label) == words


def test_none_is_a_class_and_blanks_are_not():
    column = ("none", "mild", "", "N/A", "null", None, float("nan"))
    found = replace(PLAIN, targets=("grade",)).settle(LabelFacts(columns={"grade": column}))
    assert found.classes == ("mild", "none")
