"""From finished runs of a comparison to its lines: scores, differences to a reference, verdicts.

A replicate is one pre-training seed with one set of labelled images and one fine-tuning seed: its own batches
and initial weights, the same for all arms. Differences are taken within replicate and patient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate.core.direction import is_less_better
from foveate.core.types import Array, FoveateError
from foveate.scoring import metrics
from foveate.scoring.statistics import (
    LEVEL,
    Estimate,
    by_patient,
    corrected,
    difference,
    estimate,
    pseudo_values,
)

Replicate = tuple[int, int, int]  # seed of pre-training, labelled set, seed of fine-tuning
FEWEST_PRETRAININGS = 3  # whose spread is a part of the interval; of fewer it is printed
Score = Callable[[Array, Array], Mapping[str, float]]  # of answers (N, K) and labels (N, targets)
Scorer = Callable[[NDArray[np.int64]], Mapping[str, float]]  # of the cases with these numbers
Group = tuple[str, str, str, int]  # task, arm, way, labels
EXPLORATORY = 0.03  # three points: less would be hidden in too many published comparisons


@dataclass(frozen=True, kw_only=True)
class Result:
    """The test of one run."""

    group: Group
    replicate: Replicate
    scores: Mapping[str, float]  # patient -> score
    first_batch: str  # a hash; empty: it is meant to differ


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is known of an arm at a number of labels."""

    group: Group
    score: Estimate | None
    pretraining_sd: float  # of the means over the runs of a pre-training; NaN with one
    against: Mapping[str, Estimate]  # reference -> arm minus reference, on the replicates of both
    note: str = ""  # why something is missing
    resolves: float = math.nan  # the smallest difference to scratch that its seeds do not hide; NaN: unknown

    @property
    def exploratory(self) -> bool:
        """Whether it could not see a difference of a size that matters."""
        return not self.resolves <= EXPLORATORY


def scores_of(
    cases: Sequence[Mapping[str, object]],
    metric: str,
    score: Score | None = None,
    scorer: Scorer | None = None,
    *,
    less_is_better: Collection[str],
) -> dict[str, float]:
    """A score per patient: the mean over the cases, or a jackknife value of a metric of all cases.

    Args:
        cases: The metrics of every case, or its `answer` and `label`.
        metric: Which one.
        score: Metrics of answers and labels, where the cases have these.
        scorer: Metrics of the cases with some numbers, where they have boxes.
        less_is_better: Metrics that are taken with a minus, so that more is better everywhere.
    """
    patients = [str(case["patient"]) for case in cases]
    sign = -1.0 if is_less_better(metric, less_is_better) else 1.0
    if score is None and scorer is None:
        values = [math.nan if value is None else float(str(value)) for value in column(cases, metric)]
        names, means = by_patient(values, patients)
        return dict(zip(names, (sign * means).tolist(), strict=True))
    of_some = scorer or by_answers(cases, score)
    check_metric(metric, of_some(np.arange(len(cases))))
    jackknife = sign * pseudo_values(lambda picked: of_some(picked)[metric], patients)
    return dict(zip(sorted(set(patients)), jackknife.tolist(), strict=True))


def by_answers(cases: Sequence[Mapping[str, object]], score: Score | None) -> Scorer:
    """Metrics of some cases from their answers and labels."""
    assert score is not None
    answers = np.array([case["answer"] for case in cases], dtype=np.float64)
    labels = np.array([case["label"] for case in cases], dtype=np.float64)
    return lambda picked: score(answers[picked], labels[picked])


def column(cases: Sequence[Mapping[str, object]], metric: str) -> list[object]:
    """A metric of every case."""
    check_metric(metric, [name for name in cases[0] if name not in ("id", "patient")])
    return [case[metric] for case in cases]


def check_metric(metric: str, known: Collection[str]) -> None:
    """Refuse a metric that a task does not have."""
    if metric not in known:
        raise FoveateError(f"metric {metric}: accepted for this task are {', '.join(known)}.")


def lines_of(
    results: Iterable[Result],
    groups: Sequence[Group],
    notes: Mapping[Group, str],
    references: Sequence[str],
    *,
    draws: int,
) -> list[Line]:
    """A line for every group, p values corrected by Holm within task, way and reference."""
    tables: dict[Group, dict[Replicate, Result]] = {group: {} for group in groups}
    for result in results:
        if result.group in tables:
            tables[result.group][result.replicate] = result
    lines = [line_of(group, tables, notes.get(group, ""), references, draws) for group in groups]
    for task, way in dict.fromkeys((g[0], g[2]) for g in groups):
        for reference in references:
            places = [
                i
                for i, x in enumerate(lines)
                if (x.group[0], x.group[2]) == (task, way) and reference in x.against
            ]
            family = corrected([lines[i].against[reference] for i in places])
            for i, mended in zip(places, family, strict=True):
                lines[i] = replace(lines[i], against={**lines[i].against, reference: mended})
    return lines


def line_of(
    group: Group,
    tables: Mapping[Group, Mapping[Replicate, Result]],
    note: str,
    references: Sequence[str],
    draws: int,
) -> Line:
    """One line, as far as there are runs."""
    mine = tables[group]
    if not mine:
        return Line(group=group, score=None, pretraining_sd=math.nan, against={}, note=note or "not run yet")
    task, arm, way, labels = group
    against = {}
    for reference in references:
        theirs = tables.get((task, reference, way, labels), {})
        shared = sorted(set(mine) & set(theirs))
        if reference == arm or not shared:
            continue
        if uneven := [r for r in shared if differ(mine[r].first_batch, theirs[r].first_batch)]:
            note = f"{note}; not compared with {reference}: {len(uneven)} runs saw other batches".lstrip("; ")
            continue
        one, two = ([each[r] for r in shared] for each in (mine, theirs))
        against[reference] = difference(
            *paired(one, two), levels=levels_of(shared), sets=sets_of(shared), draws=draws
        )
    table = matrix(list(mine.values()), patients_of(list(mine.values())))
    score = as_share(table, estimate(table, levels=levels_of(list(mine)), sets=sets_of(mine), draws=draws))
    baseline = tables.get((task, references[0], way, labels), {})
    return Line(
        group=group,
        score=score,
        pretraining_sd=pretraining_sd(mine),
        against=against,
        note=note,
        resolves=resolved_by(baseline, len(set(mine) & set(baseline))),
    )


def as_share(table: NDArray[np.float64], found: Estimate) -> Estimate:
    """The interval cut to [0, 1] where every score is a share: few seeds reach beyond it."""
    if np.nanmin(table) < 0 or np.nanmax(table) > 1:
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def differ(one: str, two: str) -> bool:
    """Whether two runs saw other batches than they should."""
    return bool(one and two) and one != two


def levels_of(replicates: Sequence[Replicate]) -> list[tuple[int, ...]]:
    """What the trainings share: a labelled set, and where there are enough of these a pre-training."""
    many = len({pretraining for pretraining, *_ in replicates}) >= FEWEST_PRETRAININGS
    numbers = {each: place for place, each in enumerate(dict.fromkeys((p, s) for p, s, _ in replicates))}
    found: list[tuple[int, ...]] = []
    for place, (pretraining, drawn, seed) in enumerate(replicates):
        own = (numbers[pretraining, drawn], seed) if drawn else (place,)
        found.append((pretraining, *own) if many else own)
    return found


def sets_of(replicates: Iterable[Replicate]) -> int:
    """How many sets of labelled images they share; 0 where every seed draws its own."""
    return len({(pretraining, drawn) for pretraining, drawn, _ in replicates if drawn})


def resolved_by(baseline: Mapping[Replicate, Result], shared: int) -> float:
    """The reach of a difference between two arms that differ by chance alone; NaN where it is unknown.

    Two means over `shared` trainings differ by less in 95 of 100 cases: t sd sqrt(2 / shared), sd being that
    of the baseline's seeds. Where several seeds have the same labelled images it is the spread within these;
    else every seed has its own images, which pairs share, so it is rather too large.
    """
    from scipy.special import stdtrit

    results = list(baseline.values())
    if len(results) < 2 or not shared:
        return math.nan
    means = np.nanmean(matrix(results, patients_of(results)), axis=1)
    sets: dict[tuple[int, int], list[float]] = {}
    for (pretraining, drawn, _), mean in zip(baseline, means.tolist(), strict=True):
        sets.setdefault((pretraining, drawn) if drawn else (0, 0), []).append(mean)
    degrees = sum(len(each) - 1 for each in sets.values())
    if not degrees:
        return math.nan
    squares = sum(float(np.var(each)) * len(each) for each in sets.values())
    return math.sqrt(squares / degrees * 2 / shared) * float(stdtrit(degrees, (1 + LEVEL) / 2))


def patients_of(results: Sequence[Result]) -> list[str]:
    """Those that every run answered, sorted."""
    return sorted(set.intersection(*(set(result.scores) for result in results)))


def matrix(results: Sequence[Result], patients: Sequence[str]) -> NDArray[np.float64]:
    """Scores (replicates, patients)."""
    return np.array([[result.scores[patient] for patient in patients] for result in results])


def paired(one: Sequence[Result], two: Sequence[Result]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of both on common patients."""
    patients = patients_of([*one, *two])
    return matrix(one, patients), matrix(two, patients)


def pretraining_sd(results: Mapping[Replicate, Result]) -> float:
    """Standard deviation of the means over the runs of every pre-training."""
    means: dict[int, list[float]] = {}
    for (seed, *_), result in results.items():
        means.setdefault(seed, []).append(metrics.mean(list(result.scores.values())))
    values = [float(np.mean(each)) for each in means.values()]
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
