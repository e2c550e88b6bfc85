"""Subgroups of cases: which columns make them, and whose statistic and patients they have."""

import math

import numpy as np
import pytest

from foveate.commands.evaluate.groups import MOST, NONE, groups_in, groups_of, subgroups, values_of
from foveate.core.types import FoveateError


def test_cases_are_grouped_by_value_and_those_without_one_are_a_group():
    values = [{"site": "b"}, {"site": 2}, {"site": math.nan}, {}, {"site": "b"}, {"site": ""}]
    assert groups_in("site", values, ["site"]) == {"2": [1], "b": [0, 4], NONE: [2, 3, 5]}


def test_columns_that_make_no_groups_are_refused():
    with pytest.raises(FoveateError, match="there is no such table"):
        groups_in("site", [{}], [])
    for count in (1, MOST + 1):
        with pytest.raises(FoveateError, match=f"has {count} different values"):
            groups_in("age", [{"age": i % count} for i in range(40)], ["age"])
    assert groups_of(" , ", [], []) == {}
    assert values_of(" , ", [], [], None) == []


def test_a_column_with_a_value_for_each_patient_may_hold_names_and_is_refused():
    values = [{"who": "Ann", "sex": "f"}, {"who": "Bo", "sex": "m"}, {"who": "Ann", "sex": "f"}]
    with pytest.raises(FoveateError, match="--by who: each of its values is of one patient") as error:
        groups_of("who", values, ["p", "q", "p"])
    assert "Ann" not in str(error.value)
    assert groups_of("sex", values, ["p", "q", "r"]) == {"sex": {"f": [0, 2], "m": [1]}}


def test_a_group_has_the_statistic_of_its_cases_over_its_own_patients():
    scores, patients = np.array([1.0, 2.0, 4.0, 8.0]), ["p", "q", "p", "q"]
    asked = []

    def intervals(statistic, own):
        asked.append(own)
        picked = np.array([0, 0, 1])  # a draw: numbers of the group's own cases
        return {"mean": statistic(np.arange(len(own)))["mean"], "drawn": statistic(picked)["mean"]}

    found = subgroups(
        {"sex": {"f": [1, 3], "m": [0, 2]}},
        lambda places: {"mean": float(scores[places].mean())},
        patients,
        intervals,
    )
    assert found["sex"]["f"] == {"cases": 2, "patients": 1, "metrics": {"mean": 5.0, "drawn": 4.0}}
    assert found["sex"]["m"]["metrics"] == {"mean": 2.5, "drawn": 2.0}
    assert asked == [["q", "q"], ["p", "p"]]
