"""Classes of pseudo-labels: running figures, thresholds, shares and the ramp, against slow loops."""

import copy
import math
from itertools import product

import pytest
import torch
from tests.tasks.test_segmentation import task as built
from tests.train.semi.test_semi import LATE, batch, semi

from foveate.core.types import FoveateError, Progress
from foveate.train.semi.classes import KEPT, MOST_OFTEN, ClassFigures
from foveate.train.semi.pseudo import pseudo_labels
from foveate.train.semi.settings import SemiConfig

VALUES = (0, 7, 2)


def maps(seed):
    """Labels, one of them of no class, and certainties."""
    torch.manual_seed(seed)
    return torch.tensor([0, 7, 2, -1])[torch.randint(0, 4, (2, 5, 6))], torch.rand(2, 5, 6)


def test_running_figures_are_those_of_a_loop():
    figures, sums = ClassFigures(VALUES), {v: [0.0, 0.0, 0.0] for v in VALUES}
    for seed in range(3):
        (said, sure), (known, _) = maps(seed), maps(seed + 10)
        figures.saw_pseudo_labels(said, sure)
        figures.saw_labels(known)
        before = figures.sums.clone()
        figures.step()
        assert not torch.equal(before, figures.sums)  # counts from the next step on
        for value, row in sums.items():
            now = [float(sure[said == value].sum()), int((said == value).sum()), int((known == value).sum())]
            row[:] = [KEPT * old + new for old, new in zip(row, now, strict=True)]
    for column, value in enumerate(VALUES):
        assert figures.sums[:, column].tolist() == pytest.approx(sums[value], rel=1e-6)
    means = {v: row[0] / row[1] for v, row in sums.items()}
    assert figures.easiness.tolist() == pytest.approx(
        [means[v] / max(means.values()) for v in VALUES], rel=1e-6
    )
    said, known = (sum(sums[v][k] for v in (7, 2)) for k in (1, 2))
    expected = [1.0, *((sums[v][2] / known) / (sums[v][1] / said) for v in (7, 2))]
    assert figures.wanting.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_class_that_is_never_said_has_no_threshold_and_is_wanted_most():
    figures = ClassFigures(VALUES)
    assert figures.wanting.tolist() == [1.0, 1.0, 1.0]  # nothing is known yet
    assert figures.easiness.tolist() == [0.0, 0.0, 0.0]
    figures.saw_labels(torch.tensor([7, 2, 2, 2]))
    figures.saw_pseudo_labels(torch.tensor([0, 0, 7]), torch.tensor([0.9, 0.9, 0.45]))
    figures.step()
    assert figures.easiness.tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert figures.wanting.tolist() == pytest.approx([1.0, 0.25, MOST_OFTEN])


def test_leaning_is_a_factor_of_the_probability_of_every_label_value():
    torch.manual_seed(0)
    outputs, lean = torch.randn(2, 3, 4, 5), torch.tensor([0.0, 1.5, -1.0, 0.4])
    exclusive = {0: (0,), 7: (1,), 2: (2,)}
    nested = {0: (), 1: (0, 1), 2: (0,), 4: (0, 1, 2)}
    for activation, codebook in (("softmax", exclusive), ("sigmoid", nested)):
        leant = lean[: len(codebook)]
        labels, _ = pseudo_labels(outputs, activation, codebook, leant)
        plain, _ = pseudo_labels(outputs, activation, codebook)
        assert not torch.equal(labels, plain)
        for b, x, y in product(range(2), range(4), range(5)):
            row = outputs[b, :, x, y].double()
            shares, p = row.softmax(0).tolist(), row.sigmoid().tolist()
            likely = {
                value: shares[held[0]]
                if activation == "softmax"
                else math.prod(p[k] if k in held else 1 - p[k] for k in range(3))
                for value, held in codebook.items()
            }
            factors = dict(zip(codebook, leant.exp().tolist(), strict=True))
            assert int(labels[b, x, y]) == max(likely, key=lambda v: likely[v] * factors[v])


def test_the_weight_rises_and_thresholds_are_those_of_the_classes():
    config = {"confidence": 0.6, "threshold": "class", "weighting": "confidence", "ramp_steps": 4}
    model = semi(apart=0.05, mixing="none", **config)
    model.classes.saw_pseudo_labels(torch.tensor([0, 1, 2]), torch.tensor([0.8, 0.4, 0.6]))
    model.classes.step()
    given = batch(2)
    made = model.mixed(given, 7, model.config.weight_at(6))
    labels, weights = made["regions"]["labels/image"], made["weights"]["labels/image"]
    with torch.no_grad():
        shares = copy.deepcopy(model.teacher).eval().outputs(given["crops"]["image"][1::2, 0]).softmax(1)
    limits = {0: 0.6, 1: 0.3, 2: 0.45}
    below = 0
    for k, x, y in product(range(2), range(32), range(32)):
        probabilities = shares[k, :, x, y].tolist()
        value = max(range(3), key=probabilities.__getitem__)
        sure = probabilities[value]
        assert int(labels[2 * k + 1, 0, x, y]) == value
        expected = 0.25 * sure if sure >= limits[value] else 0.0  # half of 0.5: step 2 of 4
        assert float(weights[2 * k + 1, 0, x, y]) == pytest.approx(expected, abs=1e-6)
        below += sure < 0.6 and expected > 0
    assert below > 0  # of what a fixed threshold leaves out
    assert bool((weights[::2] == 1).all())
    found = model.measure(given)
    assert 0 < found["pseudo/counted"] <= 1


def test_classes_that_the_labeller_forgets_come_back():
    """Their share among what is marked is moved towards that of the labels, and by no more than asked."""
    shares = []
    torch.manual_seed(5)
    answers = torch.randn(2, 3, 32, 32) + torch.tensor([0.0, 2.0, -0.5])[:, None, None]
    for balance in (0.0, 0.5, 1.0):
        model, given = semi(mixing="none", balance=balance), batch(2)
        model.teacher.outputs = lambda _: answers  # class 2 is hardly ever said
        for _ in range(30):
            made = model.mixed(given, 7, 0.5)["regions"]["labels/image"][1::2]
            if model.classes is not None:
                model.classes.step()
        shares.append(int((made == 2).sum()) / int((made > 0).sum()))
    assert shares[0] < shares[1] < shares[2]
    assert shares[0] < 0.1
    assert shares[2] > 0.2


def test_labels_count_as_the_class_that_they_belong_to():
    model = semi(classes=("core=1+4", "edema=2"), balance=1.0)
    labels = torch.tensor([[0, 1, 4, 2, -1, 4]])
    assert model.task.canonical(labels).tolist() == [[0, 1, 1, 2, -1, 1]]
    nested = built(2, ("whole=1+2+4", "core=1+4"))
    assert nested.canonical(labels).tolist() == labels.tolist()


def test_figures_are_kept_only_where_classes_are_told_apart():
    assert semi().classes is None
    assert not any(name.startswith("classes") for name in semi().state_dict())
    model = semi(balance=0.3)
    model(batch(2), LATE)
    model.after_step(LATE)
    assert "classes.sums" in model.state_dict()
    assert float(model.classes.sums.sum()) > 0
    early = semi(balance=0.3)
    early(batch(2, unlabelled=False), Progress(0, 10, 7))
    early.after_step(Progress(0, 10, 7))
    assert (
        early.classes.sums[:2].sum() == 0 < early.classes.sums[2].sum()
    )  # labels are counted from the start


def test_what_makes_no_sense_is_refused():
    with pytest.raises(FoveateError, match=r"semi\.threshold is class without semi\.confidence"):
        SemiConfig(threshold="class")
    for key, value in (("ramp_steps", -1), ("balance", 1.5)):
        with pytest.raises(FoveateError, match=rf"semi.{key} is {value}; accepted"):
            SemiConfig(**{key: value})
