"""Uncertain and blank labels, views."""

from __future__ import annotations

import math

import pytest
from tests.data.sources.miniatures import chexpert

from foveate.core.types import FoveateError
from foveate.data.sources.chexpert import COMPETITION, OBSERVATIONS, Config, build, certain

POLICIES = {  # of an uncertain edema and an uncertain consolidation
    "zeros": (0.0, 0.0),
    "ones": (1.0, 1.0),
    "ignore": (math.nan, math.nan),
    "mixed": (1.0, 0.0),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_uncertain_labels_follow_the_policy(policy):
    config = Config(uncertain=policy)
    found = tuple(
        certain(value, name, config) for value, name in (("-1.0", "Edema"), ("-1", "Consolidation"))
    )
    assert str(found) == str(POLICIES[policy])
    assert [certain(value, "Edema", config) for value in ("1.0", "0.0", "1", "0")] == [1, 0, 1, 0]


def test_an_observation_that_is_not_mentioned(tmp_path):
    assert certain("", "Edema", Config()) == 0
    assert math.isnan(certain("", "Edema", Config(blank="ignore")))


@pytest.mark.parametrize("value", ["2", "-2", "yes", "1.0.0", "nan"])
def test_another_value_is_refused(value):
    with pytest.raises(FoveateError, match=rf"Edema is '{value}'"):
        certain(value, "Edema", Config())


@pytest.mark.parametrize(("views", "count"), [("frontal", 3), ("lateral", 1), ("both", 4)])
def test_views(tmp_path, views, count):
    chexpert(tmp_path)
    records = list(build(Config(views=views)).records(tmp_path))
    assert len(records) == count


def test_labels_are_the_five_of_the_competition_or_all(tmp_path):
    chexpert(tmp_path)
    top = tmp_path / "CheXpert-v1.0-small"  # the folder itself will do as well
    five = next(iter(build(Config()).records(top))).labels
    assert tuple(five) == COMPETITION
    assert list(five.values()) == [1.0, 0.0, 0.0, 1.0, 1.0]  # -1, blank, blank, -1, 1
    assert tuple(next(iter(build(Config(observations="all")).records(top))).labels) == OBSERVATIONS
