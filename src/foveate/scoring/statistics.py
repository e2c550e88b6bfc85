"""How far a score can be trusted: intervals over patients and seeds, paired differences, corrected p.

Scores are a table (seeds, patients): every seed answered every patient. Both are samples of more patients
and more seeds, and a mean over the table varies with both. Seeds are few: resampling three of them pretends
to know their spread, so their part of an interval is Student's t, while patients are resampled. Trainings
that share something, such as their labelled images, are one draw of it and count by their mean
(docs/statistics.md, which also shows by simulation that 95 % intervals hold 95 % of the time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from foveate.core.rng import stream
from foveate.core.types import FoveateError

Floats = NDArray[np.float64]
Levels = Sequence[tuple[int, ...]]  # of every row: what it shares with others, from the widest on
DRAWS = 4000
LEVEL = 0.95
FEWEST_RESAMPLED = 6  # patients; below, their part of an interval is Student's t as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over seeds and patients with what is known of it."""

    mean: float
    seed_sd: float  # standard deviation of the seeds' means; NaN with one seed
    low: float
    high: float
    p: float  # of "it is 0", two-sided; for differences
    seeds: int
    patients: int
    p_holm: float = math.nan  # set by `corrected`
    sets: int = 0  # of labelled images that the trainings share; 0: every training has its own

    @property
    def resolvable(self) -> bool:
        """Whether this many patients and seeds tell it from 0; one seed never does, nor one labelled set."""
        p = self.p if math.isnan(self.p_holm) else self.p_holm
        return self.seeds > 1 and self.sets != 1 and p < 1 - LEVEL and not self.low <= 0 <= self.high

    def verdict(self) -> str:
        """A sentence for a table of differences."""
        n = f"n = {self.patients} patients x {self.seeds} seed{'s' * (self.seeds > 1)}"
        n += f" on {self.sets} labelled set{'s' * (self.sets > 1)}" if self.sets else ""
        if self.resolvable:
            return f"{'better' if self.mean > 0 else 'worse'} ({n})"
        reach = "training noise unknown" if self.seeds == 1 else f"+-{(self.high - self.low) / 2:.3f}"
        return f"not resolvable with {n} ({reach})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A table split into what varies: seeds and patients, with the variance each brings to the mean."""

    mean: float
    by_seed: Floats  # (S,) deviations of the seeds' means
    by_patient: Floats  # (P,) deviations of the patients' means
    seed_variance: float
    patient_variance: float  # what seeds and patients bring together is in here, once


def table(scores: Sequence[Sequence[float]] | Floats) -> Floats:
    """Scores (seeds, patients) as floats; a patient without a score under some seed is excluded."""
    array = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    array = array[:, ~np.isnan(array).any(0)]
    if array.shape[1] < 2:
        raise FoveateError(f"Scores of {array.shape[1]} patients: an interval needs at least 2.")
    return array


def split(scores: Floats) -> Parts:
    """The two-way analysis of variance of a table without repeats."""
    seeds, patients = scores.shape
    mean = float(scores.mean())
    by_seed, by_patient = scores.mean(1) - mean, scores.mean(0) - mean
    rest = scores - mean - by_seed[:, None] - by_patient
    of_patients = seeds * float((by_patient**2).sum()) / (patients - 1)
    of_seeds = of_rest = 0.0
    if seeds > 1:
        of_seeds = patients * float((by_seed**2).sum()) / (seeds - 1)
        of_rest = float((rest**2).sum()) / ((seeds - 1) * (patients - 1))
    return Parts(
        mean=mean,
        by_seed=by_seed,
        by_patient=by_patient,
        seed_variance=max(0.0, of_seeds - of_rest) / scores.size,
        patient_variance=of_patients / scores.size,
    )


def gathered(scores: Floats, levels: Levels) -> Floats:
    """Rows for `split`: the means of what trainings share on the widest level that has more than one of it.

    Groups of different sizes count equally within what holds them.

    >>> gathered(np.array([[1.0, 1], [3, 3], [5, 5]]), [(1, 1), (1, 2), (2, 1)])
    array([[2., 2.],
           [5., 5.]])
    """
    nodes = {tuple(level): row for level, row in zip(levels, scores, strict=True)}
    for depth in range(len(levels[0]) - 1, 0, -1):
        parents: dict[tuple[int, ...], list[Floats]] = {}
        for node, row in nodes.items():
            parents.setdefault(node[:depth], []).append(row)
        if len(parents) == 1:  # one of it says nothing of others
            break
        nodes = {parent: np.mean(rows, axis=0) for parent, rows in parents.items()}
    return np.array(list(nodes.values()))


def estimate(
    scores: Sequence[Sequence[float]] | Floats,
    *,
    levels: Levels = (),
    sets: int = 0,
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate:
    """Mean of a table (seeds, patients) with its 95 % interval, and p of "the mean is 0".

    Args:
        scores: The table.
        levels: What each row shares with others, such as (labelled set, seed); empty: nothing.
        sets: How many labelled sets that is, to be said with the result.
        seed: Of the draws.
        draws: Resamples.
    """
    cells = table(scores)
    rows = gathered(cells, levels) if levels else cells
    parts = split(rows)
    deviates = studentised(parts.by_patient, seed=seed, draws=draws)
    low, high = bounds(parts, deviates, len(rows), 1 - LEVEL)
    sd = float(cells.mean(1).std(ddof=1)) if len(cells) > 1 else math.nan
    p = max(sign_flip_p(parts, seed=seed, draws=draws), bootstrap_p(parts, deviates, len(rows)))
    return Estimate(
        mean=parts.mean,
        seed_sd=sd,
        low=low,
        high=high,
        p=p,
        seeds=len(cells),
        patients=cells.shape[1],
        sets=sets,
    )


def difference(
    arm: Sequence[Sequence[float]] | Floats,
    reference: Sequence[Sequence[float]] | Floats,
    *,
    levels: Levels = (),
    sets: int = 0,
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate:
    """Arm minus reference, paired by seed and patient."""
    one, two = np.atleast_2d(np.asarray(arm)), np.atleast_2d(np.asarray(reference))
    if one.shape != two.shape:
        raise FoveateError(
            f"Arm and reference have scores {one.shape} and {two.shape} (seeds, patients); "
            "pairs need equal shapes."
        )
    return estimate(one - two, levels=levels, sets=sets, seed=seed, draws=draws)


def studentised(by_patient: Floats, *, seed: int, draws: int) -> Floats:
    """Sorted bootstrap deviates of the patients' mean in units of its own standard error, per draw."""
    n = by_patient.size
    if n < FEWEST_RESAMPLED or not by_patient.any():
        return np.zeros(0)
    counts = resamples(n, seed=seed, draws=draws)
    means = counts @ by_patient / n
    variances = (counts @ by_patient**2 / n - means**2) / (n - 1)
    kept = variances > 1e-6 * by_patient.var() / n  # a draw of one patient n times has none
    return np.sort(means[kept] / np.sqrt(variances[kept]))


@lru_cache(maxsize=8)
def resamples(n: int, *, seed: int, draws: int) -> Floats:
    """How often each of n patients is in a bootstrap sample, rows of draws; the same for every table."""
    counts = stream(seed, "bootstrap/patients").multinomial(n, np.full(n, 1 / n), size=draws)
    return np.asarray(counts, dtype=np.float64)


def bounds(parts: Parts, deviates: Floats, seeds: int, alpha: float) -> tuple[float, float]:
    """The interval of level 1 - alpha: the reaches of seeds and patients, added as squares."""
    from scipy.special import stdtrit

    limit = float(stdtrit(parts.by_patient.size - 1, 1 - alpha / 2))
    ends = (-limit, limit)
    if deviates.size:
        at = np.array([alpha / 2, 1 - alpha / 2]) * (deviates.size - 1)  # linear, as np.quantile
        ends = tuple(np.interp(at, np.arange(deviates.size), deviates).tolist())
    of_seeds = parts.seed_variance * float(stdtrit(seeds - 1, 1 - alpha / 2)) ** 2 if seeds > 1 else 0.0
    down, up = (math.sqrt(of_seeds + parts.patient_variance * end**2) for end in (ends[1], ends[0]))
    return parts.mean - down, parts.mean + up


def bootstrap_p(parts: Parts, deviates: Floats, seeds: int) -> float:
    """The largest alpha whose interval still holds 0, by bisection."""
    if parts.mean == 0:
        return 1.0
    outside, inside = 1.0, 0.0
    for _ in range(40):
        alpha = (outside + inside) / 2
        low, high = bounds(parts, deviates, seeds, alpha)
        outside, inside = (outside, alpha) if low <= 0 <= high else (alpha, inside)
    least = 1 / (deviates.size + 1) if deviates.size else 0.0
    return max(outside, least)


def sign_flip_p(parts: Parts, *, seed: int, draws: int) -> float:
    """Permutation p of "the mean is 0": signs of patients and of seeds are exchanged.

    The mean is dealt to seeds and patients by their share of the variance: with seeds that agree this is the
    paired permutation test over patients. All sign patterns where they are fewer than `draws`.
    """
    variance = parts.seed_variance + parts.patient_variance
    share = parts.seed_variance / variance if variance else 0.0
    of_seeds = parts.by_seed + share * parts.mean if share else np.zeros(0)
    of_patients = parts.by_patient + (1 - share) * parts.mean
    terms = np.concatenate([of_seeds / max(1, of_seeds.size), of_patients / of_patients.size])
    observed = abs(float(terms.sum()))
    exact = 2.0**terms.size <= draws
    flipped = np.abs(signs(terms.size, exact=exact, seed=seed, draws=draws) @ terms)
    extreme = int((flipped >= observed * (1 - 1e-9) - 1e-15).sum())
    return float(extreme / flipped.size if exact else (extreme + 1) / (flipped.size + 1))


@lru_cache(maxsize=8)
def signs(n: int, *, exact: bool, seed: int, draws: int) -> Floats:
    """Rows of n signs: all of them, or as many draws."""
    if exact:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        bits = stream(seed, "permutation/signs").integers(0, 2, size=(draws, n))
    return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction of a family of p values, in their order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    answer, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        answer[i] = running
    return answer


def corrected(family: Sequence[Estimate]) -> list[Estimate]:
    """The same differences with their Holm-corrected p."""
    return [replace(one, p_holm=p) for one, p in zip(family, holm([each.p for each in family]), strict=True)]


def by_patient(values: Sequence[float], patients: Sequence[str]) -> tuple[list[str], Floats]:
    """Means over the cases of every patient, patients sorted; a patient whose cases are all NaN has NaN."""
    names = sorted(set(patients))
    array, owner = np.asarray(values, dtype=np.float64), np.asarray(patients)
    groups = [array[(owner == name) & ~np.isnan(array)] for name in names]
    return names, np.array([group.mean() if group.size else math.nan for group in groups])


def pseudo_values(statistic: Callable[[NDArray[np.int64]], float], patients: Sequence[str]) -> Floats:
    """One value per patient (sorted) for a statistic of all cases, such as AUROC, so that `estimate` applies.

    Jackknife: they spread as n times the statistic minus (n - 1) times that without the patient does, but
    their mean is the statistic itself. That of the plain jackknife is another one for CPM or AP, beyond 1 at
    times.
    """
    owner = np.asarray(patients)
    names = sorted(set(patients))
    whole = statistic(np.arange(owner.size))
    left = np.array([statistic(np.flatnonzero(owner != name)) for name in names])
    defined = left[~np.isnan(left)]
    return whole + (len(names) - 1) * ((defined.mean() if defined.size else math.nan) - left)


def bca_interval(
    statistic: Callable[[NDArray[np.int64]], float], patients: Sequence[str], *, seed: int, draws: int = 2000
) -> tuple[float, float]:
    """95 % bootstrap interval over patients of a statistic of cases, bias-corrected and accelerated.

    The cases of a patient are drawn together. Draws for which the statistic is not defined are excluded; NaN
    where fewer than half of them, or fewer than 3 patients, remain.
    """
    from scipy.stats import norm

    owner = np.asarray(patients)
    cases = [np.flatnonzero(owner == name) for name in sorted(set(patients))]
    whole, n = statistic(np.arange(owner.size)), len(cases)
    rng = stream(seed, "bootstrap/cases")
    picks = (np.concatenate([cases[i] for i in rng.integers(0, n, n)]) for _ in range(draws))
    values = np.array([statistic(pick) for pick in picks])
    values = values[~np.isnan(values)]
    if n < 3 or values.size < draws / 2 or math.isnan(whole):
        return math.nan, math.nan
    below = (np.sum(values < whole) + 0.5 * np.sum(values == whole)) / values.size
    bias = float(norm.ppf(np.clip(below, 1 / values.size, 1 - 1 / values.size)))
    left = np.array([statistic(np.concatenate(cases[:i] + cases[i + 1 :])) for i in range(n)])
    gaps = np.nanmean(left) - left[~np.isnan(left)]
    spread = float((gaps**2).sum()) ** 1.5
    bend = float((gaps**3).sum()) / (6 * spread) if spread else 0.0
    z = bias + norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.quantile(values, norm.cdf(bias + z / (1 - bend * z)))
    return float(low), float(high)
