"""Scores of subgroups: the cases with one value in a column of a table beside the images, such as site."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from foveate.core.types import Array, FoveateError, Json, Record
from foveate.data.cohort.columns import columns_beside
from foveate.train.logging import say

Groups = Mapping[str, Mapping[str, Sequence[int]]]  # column -> value -> cases
MOST = 12  # groups of a column: more are names, dates or measurements
NONE = "(none)"


class Group(TypedDict):
    """One group's scores."""

    cases: int
    patients: int
    metrics: dict[str, dict[str, float]]


Statistic = Callable[[Array], dict[str, float]]  # of the cases with these indices
Intervals = Callable[[Statistic, Sequence[str]], dict[str, dict[str, float]]]


def values_of(
    by: str, kept: Sequence[Record], every: Sequence[Record], data: Path
) -> list[Mapping[str, Json]]:
    """What tables beside the images say of those that were kept; they are matched with every image."""
    if not columns_in(by):
        return []
    found = columns_beside(every, data)
    for note in found.notes:
        say(note)
    return [record.labels for record in found.joined(kept)]


def groups_of(by: str, values: Sequence[Mapping[str, Json]], patients: Sequence[str]) -> Groups:
    """The cases by the columns that `by` names.

    Raises:
        FoveateError: a column is not there, has more values than `MOST`, one only, or one for each patient.
    """
    known = sorted({column for each in values for column in each})
    groups = {name: groups_in(name, values, known) for name in columns_in(by)}
    for name, members in groups.items():
        if all(len({patients[place] for place in places}) == 1 for places in members.values()):
            raise FoveateError(
                f"--by {name}: each of its values is of one patient: it may be a name, and no group has an "
                "interval; accepted are columns with a value that several patients have."
            )
    return groups


def columns_in(by: str) -> list[str]:
    """Names, separated by commas."""
    return [name.strip() for name in by.split(",") if name.strip()]


def groups_in(
    column: str, values: Sequence[Mapping[str, Json]], known: Sequence[str]
) -> dict[str, list[int]]:
    """The cases of every value of a column; those without a value are a group of their own."""
    if column not in known:
        raise FoveateError(
            f"--by {column}: no table beside the images has this column for them; accepted are "
            f"{', '.join(known) or 'none: there is no such table'}."
        )
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(values):
        groups.setdefault(word_of(each.get(column)), []).append(place)
    if not 1 < len(groups) <= MOST:
        raise FoveateError(
            f"--by {column}: it has {len(groups)} different values in these images; accepted are columns "
            f"with 2 to {MOST}. Make a column of ranges where it is a measurement."
        )
    return {name: groups[name] for name in sorted(groups)}


def word_of(value: Json) -> str:
    """A value as a table has it."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return NONE
    return str(value)


def subgroups(
    groups: Groups, statistic: Statistic, patients: Sequence[str], intervals: Intervals
) -> dict[str, dict[str, Group]]:
    """The metrics of every group, with intervals over its own patients."""
    found: dict[str, dict[str, Group]] = {}
    for column, members in groups.items():
        for value, places in members.items():
            own = [patients[place] for place in places]
            found.setdefault(column, {})[value] = {
                "cases": len(own),
                "patients": len(set(own)),
                "metrics": intervals(restricted(statistic, places), own),
            }
    return found


def restricted(statistic: Statistic, places: Sequence[int]) -> Statistic:
    """The same statistic of some of the cases, numbered from 0."""
    members = np.asarray(places)

    def of_group(picked: Array) -> dict[str, float]:
        return statistic(members[picked])

    return of_group


def lines_of(found: Mapping[str, Mapping[str, Group]], shown: Sequence[str]) -> list[str]:
    """A line for every group with the metrics that are shown, for the terminal."""
    lines = []
    for column, groups in found.items():
        lines.append(f"by {column}:")
        for value, group in groups.items():
            numbers = ", ".join(f"{key} {said(group['metrics'][key])}" for key in shown)
            whom = f"{group['cases']} images of {group['patients']} patients"
            lines.append(f"  {value:<16}{whom}: {numbers}")
    return lines


def said(each: Mapping[str, float]) -> str:
    """A value with its interval."""
    interval = f" [{each['low']:.3f}, {each['high']:.3f}]" if "low" in each else ""
    return f"{each['value']:.3f}{interval}"
