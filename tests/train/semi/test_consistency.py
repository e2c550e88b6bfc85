"""Classification with unlabelled images: losses, weights, batch norm and health, against slow loops."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from foveate.core.types import FoveateError, LabelFacts, Progress
from foveate.nets.encoders.resnet import ResNetConfig
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.tasks.classification import Classification, Config
from foveate.train.semi.consistency import Consistent
from foveate.train.semi.settings import SemiConfig
from foveate.views.appearance import Appearance
from foveate.views.drawn import samples_at

SHAPES = {2: (32, 32), 3: (16, 16, 16)}
ENCODERS = {2: ResNetConfig(name="resnet18", width=4), 3: UNetConfig(name="unet3d", width=4)}
EARLY, LATE = Progress(0, 10, 7), Progress(6, 10, 7)
FACTS = LabelFacts(columns={"kind": ("a", "b", "c"), "x": (0, 1, 0), "y": (1, 0, 1)})


def built(dimension=2, kind="multiclass", apart=0.3, **keys):
    torch.manual_seed(0)
    targets = ("kind",) if kind == "multiclass" else ("x", "y")
    config = replace(
        Config.preset(dimension, "small", "none"), kind=kind, targets=targets, dropout=0.0
    ).settle(FACTS)
    config = replace(config, appearance=Appearance())
    task = Classification(build_pyramid(ENCODERS[dimension], DecoderConfig(), dimension), config)
    said = {"supervised_steps": 5, "mixing": "none", "weighting": "confidence", **keys}
    model = Consistent(task, SemiConfig(**said))
    with torch.no_grad():  # a labeller of its own
        for p in model.teacher.parameters():
            p.add_(apart * torch.randn_like(p))
    return model


def batch(dimension=2, rows=6, unlabelled=True):
    torch.manual_seed(1)
    labels = {"kind": torch.randint(0, 3, (rows,)).float(), "x": torch.rand(rows).round()}
    labels["y"] = 1 - labels["x"]
    for values in labels.values():
        values[1::2] = math.nan if unlabelled else values[1::2]
    return {
        "crops": {"image": torch.rand(rows, 1, 1, *SHAPES[dimension])},
        "affines": {},
        "regions": {},
        "labels": labels,
        "index": tuple(range(100, 100 + rows)),
    }


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize("weighting", ["equal", "confidence"])
def test_the_difference_is_that_of_a_slow_loop(dimension, kind, weighting):
    model = built(dimension, kind, apart=0.03, weighting=weighting, unlabelled_weight=0.4)
    given = batch(dimension)
    with torch.no_grad():
        raw = copy.deepcopy(model.teacher).eval().outputs(given["crops"]["image"][1::2, 0]).double()
        learnt = copy.deepcopy(model.task).outputs(given["crops"]["image"][:, 0]).double()[1::2]
    taught = raw.softmax(1) if kind == "multiclass" else raw.sigmoid()
    sure = (taught.amax(1) if kind == "multiclass" else torch.maximum(taught, 1 - taught)).flatten().sort()[0]
    limit = float(
        sure[len(sure) // 2 - 1 : len(sure) // 2 + 1].mean()
    )  # at none of them: rounding decides nothing
    model.config = replace(model.config, confidence=limit)
    terms = []
    for p, logits in zip(taught.tolist(), learnt, strict=True):
        if kind == "multiclass":
            q = logits.softmax(0).tolist()
            pairs = [(p, q, 1 / 3)]
        else:
            q = logits.sigmoid().tolist()
            pairs = [((a, 1 - a), (b, 1 - b), 1 / 2) for a, b in zip(p, q, strict=True)]
        for own, other, chance in pairs:
            apart = sum(a * math.log(a / b) for a, b in zip(own, other, strict=True))
            sure = (max(own) - chance) / (1 - chance) if weighting == "confidence" else 1.0
            terms.append(apart * sure if max(own) >= limit - 1e-7 else 0.0)
    assert 0 in terms
    losses = model(given, LATE)
    assert float(losses["consistency"].detach()) == pytest.approx(0.4 * sum(terms) / len(terms), rel=1e-3)
    assert set(losses) == {"label", "consistency"}


def test_at_first_there_are_labels_alone_and_then_those_of_the_labelled_half():
    model = built()
    both = batch(unlabelled=False)
    early = model(both, EARLY)
    assert float(early["consistency"]) == 0
    assert torch.equal(early["label"], copy.deepcopy(model.task)(both, EARLY)["label"])
    alone = copy.deepcopy(model.task)
    torch.testing.assert_close(
        built(batch_norm="apart")(batch(), LATE)["label"],
        alone(samples_at(batch(), slice(0, None, 2)), LATE)["label"],
    )


def test_what_teacher_and_student_agree_on_has_no_gradient():
    model = built(apart=0.0, batch_norm="together", labeller_norm="batch")
    model.task.train()
    given = batch()
    given["crops"]["image"][::2] = given["crops"]["image"][1::2]  # the same statistics
    found = model(given, LATE)["consistency"]
    assert float(found.detach()) == pytest.approx(0, abs=1e-6)


def test_the_teacher_gets_no_gradient_and_the_student_does():
    model = built()
    model(batch(), LATE)["consistency"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.task.parameters())


def test_batch_norm_sees_the_halves_together_apart_or_writes_those_of_the_labelled_half():
    found = {}
    for how in ("together", "apart", "labelled"):
        model = built(batch_norm=how)
        model(batch(), LATE)
        found[how] = {k: v.clone() for k, v in model.task.state_dict().items() if "running" in k}
    alone = built()
    alone.task(samples_at(batch(), slice(0, None, 2)), LATE)
    wanted = {k: v for k, v in alone.task.state_dict().items() if "running" in k}
    assert all(torch.equal(found["labelled"][k], wanted[k]) for k in wanted)
    assert any(not torch.equal(found["apart"][k], wanted[k]) for k in wanted)
    assert any(not torch.equal(found["together"][k], found["apart"][k]) for k in wanted)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_health_says_agreement_and_expected_shares_and_changes_nothing(kind):
    model, given = built(kind=kind), batch()
    before = copy.deepcopy(model.state_dict())
    found = model.measure(given)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    images = given["crops"]["image"][:, 0]
    with torch.no_grad():
        raw = [copy.deepcopy(net).eval().outputs(images) for net in (model.teacher, model.task)]
    answers = [x.softmax(1) if kind == "multiclass" else x.sigmoid() for x in raw]
    said = [x.argmax(1) if kind == "multiclass" else x > 0.5 for x in answers]
    assert found["pseudo/agreement"] == pytest.approx(float((said[0] == said[1]).float().mean()))
    for k, name in enumerate(model.task.class_names):
        assert found[f"pseudo/share/{name}"] == pytest.approx(float(answers[0][:, k].mean()), abs=1e-6)


def test_what_is_for_voxels_only_is_refused():
    for key, value, said in (
        ("mixing", "paste", "none"),
        ("largest_component", True, "false"),
        ("balance", 0.5, "0"),
    ):
        with pytest.raises(FoveateError, match=rf"semi\.{key} {value}: for whole images {said}"):
            built(**{key: value})
