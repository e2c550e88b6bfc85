"""Intervals and p values against SciPy and closed forms; their promise, by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

import interval_coverage as simulation
from foveate.core.types import FoveateError
from foveate.scoring import statistics
from foveate.scoring.metrics import auroc


def table(seeds, patients, seed=0, shift=0.0):
    return simulation.draw(np.random.default_rng(seed), (seeds, patients), (0.3, 1.0, 0.5, False)) + shift


def test_oracle_variances_are_the_two_way_anova():
    cells = table(4, 9)
    parts = statistics.split(cells)
    effects = cells - cells.mean()
    of_seeds = 9 * sum(effects[s].mean() ** 2 for s in range(4)) / 3
    of_patients = 4 * sum(effects[:, p].mean() ** 2 for p in range(9)) / 8
    rest = sum(
        (cells[s, p] - cells[s].mean() - cells[:, p].mean() + cells.mean()) ** 2
        for s in range(4)
        for p in range(9)
    ) / (3 * 8)
    assert parts.patient_variance == pytest.approx(of_patients / 36)
    assert parts.seed_variance == pytest.approx((of_seeds - rest) / 36)
    assert of_seeds > rest


def test_oracle_one_seed_is_scipys_permutation_test():
    values = np.random.default_rng(3).normal(0.4, 1, 9)
    ours = statistics.sign_flip_p(statistics.split(values[None]), seed=0, draws=4000)
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert ours == pytest.approx(exact.pvalue)
    drawn = statistics.sign_flip_p(statistics.split(values[None]), seed=0, draws=500)
    assert drawn == pytest.approx(exact.pvalue, abs=4 * math.sqrt(0.25 / 500))


def test_oracle_few_patients_have_the_t_interval():
    values = np.array([0.1, 0.5, -0.2, 0.4, 0.3])
    found = statistics.estimate(values[None])
    t = stats.ttest_1samp(values, 0)
    low, high = t.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert statistics.bootstrap_p(statistics.split(values[None]), np.zeros(0), 1) == pytest.approx(t.pvalue)


def test_oracle_seeds_that_decide_have_the_t_interval_of_seeds():
    seeds = np.array([0.2, 0.5, 0.9])
    cells = np.repeat(seeds[:, None], 12, 1)
    low, high = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
    found = statistics.estimate(cells)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.seed_sd == pytest.approx(seeds.std(ddof=1))


def test_oracle_studentised_bootstrap_has_the_textbook_variance():
    """For many patients its deviates are standard normal."""
    values = np.random.default_rng(0).normal(size=400)
    deviates = statistics.studentised(values - values.mean(), seed=0, draws=4000)
    quantiles = np.quantile(deviates, [0.025, 0.5, 0.975])
    assert quantiles == pytest.approx([-1.96, 0, 1.96], abs=0.15)


def test_oracle_bca_against_scipy():
    values = np.random.default_rng(5).exponential(size=40)
    names = [f"{i:02d}" for i in range(40)]
    ours = statistics.bca_interval(lambda rows: float(values[rows].mean()), names, seed=0, draws=8000)
    theirs = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=8000, rng=np.random.default_rng(0))
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)


def test_contract_cases_of_a_patient_are_drawn_together():
    """Ten copies of every case are no news."""
    values = np.random.default_rng(6).normal(size=12)
    names = [f"{i:02d}" for i in range(12)]
    once = statistics.bca_interval(lambda rows: float(values[rows].mean()), names, seed=0)
    tenfold, owners = np.repeat(values, 10), np.repeat(names, 10).tolist()
    again = statistics.bca_interval(lambda rows: float(tenfold[rows].mean()), owners, seed=0)
    assert again == pytest.approx(once)


def test_contract_an_undefined_statistic_has_no_interval():
    labels, scores = np.ones(10), np.arange(10.0)
    names = [str(i) for i in range(10)]
    found = statistics.bca_interval(lambda r: auroc(scores[r], labels[r]), names, seed=0, draws=50)
    assert all(map(math.isnan, found))


def test_oracle_pseudo_values_of_a_mean_are_the_values():
    values = np.random.default_rng(7).normal(size=15)
    names = [f"{i:02d}" for i in range(15)]
    assert statistics.pseudo_values(lambda rows: float(values[rows].mean()), names) == pytest.approx(values)


def test_contract_pseudo_values_of_any_score_have_that_score_as_their_mean():
    """Also where the score is no mean, such as the largest value, and where it is not defined without one."""
    values = np.array([1.0, 4.0, 9.0, 2.0])
    found = statistics.pseudo_values(lambda rows: float(values[rows].max()), list("abcd"))
    assert found.mean() == pytest.approx(9)
    assert found - found[0] == pytest.approx(
        [0, 0, 15, 0]
    )  # 3 times 9 less 4, what it loses without the third
    alone = statistics.pseudo_values(lambda rows: 0.25 if 2 in rows else math.nan, list("abcd"))
    assert np.isnan(alone).tolist() == [False, False, True, False]
    assert alone[[0, 1, 3]] == pytest.approx(0.25)
    never = statistics.pseudo_values(lambda _: math.nan, list("abcd"))
    assert np.isnan(never).all()


def test_contract_patients_are_averaged_and_those_without_a_score_left_out():
    names, means = statistics.by_patient([1.0, math.nan, 3.0, math.nan], ["b", "b", "a", "c"])
    assert names == ["a", "b", "c"]
    assert means[:2].tolist() == [3.0, 1.0]
    assert math.isnan(means[2])
    cells = table(3, 8)
    cells[1, 4] = math.nan
    assert statistics.estimate(cells).patients == 7


def test_contract_a_verdict_says_with_how_many():
    clear = statistics.difference(table(4, 30, 0, 3.0), table(4, 30, 0))
    assert clear.verdict() == "better (n = 30 patients x 4 seeds)"
    alone = statistics.difference(table(1, 30, 0, 3.0), table(1, 30, 0))
    assert alone.verdict() == "not resolvable with n = 30 patients x 1 seed (training noise unknown)"
    same = statistics.difference(table(3, 10, 1), table(3, 10, 2))
    assert same.verdict().startswith("not resolvable with n = 10 patients x 3 seeds (+-")


@pytest.mark.parametrize(
    ("p", "resolvable"), [(1 - statistics.LEVEL, False), (0.99 * (1 - statistics.LEVEL), True)]
)
def test_contract_a_difference_is_resolvable_below_the_level_and_not_at_it(p, resolvable):
    said = {"mean": 0.1, "seed_sd": 0.0, "low": 0.05, "high": 0.15, "seeds": 3, "patients": 9}
    assert statistics.Estimate(p=p, **said).resolvable is resolvable
    assert statistics.Estimate(p=0.0, p_holm=p, **said).resolvable is resolvable


def test_contract_no_p_is_less_than_one_of_its_draws():
    parts = statistics.split(table(1, 40, shift=1e4))
    assert statistics.sign_flip_p(parts, seed=0, draws=499) == pytest.approx(1 / 500)
    assert statistics.bootstrap_p(parts, np.linspace(-2, 2, 99), 1) == pytest.approx(1 / 100)


def test_contract_a_permutation_does_not_depend_on_the_unit():
    cells = table(3, 5, shift=0.6) + np.array([[-1.0], [0.0], [1.0]])
    assert statistics.split(cells).seed_variance > 0
    found = [
        statistics.sign_flip_p(statistics.split(unit * cells), seed=0, draws=4000) for unit in (0.01, 1, 100)
    ]
    assert found == pytest.approx([found[0]] * 3)
    assert 0.01 < found[0] < 0.9


def test_contract_holm_of_a_family_can_only_raise_p():
    family = [statistics.difference(table(4, 20, i, 0.3 * i), table(4, 20, 50 + i)) for i in range(5)]
    after = statistics.corrected(family)
    assert all(b.p_holm >= a.p for a, b in zip(family, after, strict=True))
    assert statistics.holm([0.001, 0.2, 0.02, 0.8]) == pytest.approx([0.004, 0.4, 0.06, 0.8])


def test_contract_the_same_seed_gives_the_same_answer():
    assert statistics.estimate(table(3, 20), seed=4) == statistics.estimate(table(3, 20), seed=4)


def test_contract_unequal_tables_are_refused():
    with pytest.raises(FoveateError, match="pairs need equal"):
        statistics.difference(table(3, 10), table(2, 10))
    with pytest.raises(FoveateError, match="at least 2"):
        statistics.estimate([[0.3], [0.4]])


@pytest.mark.parametrize("world", ["patients, skewed", "seeds some", "seeds only"])
def test_property_intervals_keep_their_promise(world):
    """A small piece of benchmarks/evidence/interval_coverage.py; the limits allow for 300 tables."""
    covered, wrong, *_ = simulation.of_tables((3, 20), world, 300)
    assert 0.92 <= covered <= 0.99
    assert wrong <= 0.075
