"""From results to lines: pairing, correction, what is missing; the three kinds of table."""

import csv
import io
import math
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar, Literal

import numpy as np
import pytest

from foveate.commands.compare.config import CompareConfig, GridConfig, TaskConfig
from foveate.commands.compare.report import foot, result_of, score_of
from foveate.core.config import to_mapping
from foveate.core.types import FoveateError
from foveate.runtime.registries import TASKS
from foveate.scoring import tables
from foveate.scoring.comparison import Result, levels_of, lines_of, resolved_by, scores_of, sets_of
from foveate.scoring.statistics import difference, estimate, holm
from foveate.tasks.classification import Config

PATIENTS = [f"p{i:02d}" for i in range(20)]
REFERENCES = ("scratch", "scratch_long")


def results(arm, gain, seeds=((0, 0), (0, 1), (1, 0)), batch="same", way="full", labels=3):
    """Scores that differ from scratch by a gain."""
    made = []
    for seed in seeds:
        rng = np.random.default_rng(abs(hash(seed)) % 1000)
        noise = np.random.default_rng(len(arm)).normal(0, 0.002, 20)
        scores = 0.7 + rng.normal(0, 0.05, 20) + gain + noise
        made.append(
            Result(
                group=("t", arm, way, labels),
                replicate=(seed[0], 0, seed[1]),
                scores=dict(zip(PATIENTS, scores.tolist(), strict=True)),
                first_batch=f"{batch}{seed}",
            )
        )
    return made


def lines(found, notes=None, more=()):
    groups = list(dict.fromkeys([*(r.group for r in found), *more]))
    return {x.group[1]: x for x in lines_of(found, groups, notes or {}, REFERENCES, draws=500)}


def test_differences_are_paired_within_replicate_and_patient():
    one, two = results("good", 0.05), results("scratch", 0.0)
    line = lines([*reversed(one), *two])["good"]
    arrays = [np.array([list(r.scores.values()) for r in each]) for each in (one, two)]
    expected = difference(*arrays, draws=500)
    assert line.against["scratch"].mean == pytest.approx(expected.mean)
    assert line.against["scratch"].low == pytest.approx(expected.low)
    assert line.against["scratch"].resolvable
    assert line.score.seeds == 3
    means = [np.mean([arrays[0][0], arrays[0][1]]), arrays[0][2].mean()]
    assert line.pretraining_sd == pytest.approx(np.std(means, ddof=1))


def test_only_common_replicates_are_paired():
    line = lines([*results("good", 0.05), *results("scratch", 0.0, seeds=((0, 1), (1, 0)))])["good"]
    assert (line.score.seeds, line.against["scratch"].seeds) == (3, 2)


@pytest.mark.parametrize(("scores", "ends"), [((0.97, 0.3), (0.0, 1.0)), ((9.7, 3.0), None)])
def test_the_interval_of_two_seeds_stays_among_shares_and_others_stay_as_they_are(scores, ends):
    made = [
        Result(
            group=("t", "scratch", "full", 3),
            replicate=(0, 0, seed),
            scores={name: score * (0.98 + 0.001 * k) for k, name in enumerate(PATIENTS)},
            first_batch="same",
        )
        for seed, score in enumerate(scores)
    ]
    found = lines(made)["scratch"].score
    if ends:
        assert (found.low, found.high) == ends
    else:
        assert found.low < 0
        assert found.high > 10


def test_runs_on_other_batches_are_not_compared():
    line = lines([*results("good", 0.05, batch="other"), *results("scratch", 0.0)])["good"]
    assert line.against == {}
    assert line.note == "not compared with scratch: 3 runs saw other batches"


def test_p_is_corrected_over_arms_and_counts_of_a_task():
    found = [
        result
        for labels in (3, 10)
        for arm, gain in (("scratch", 0.0), ("a", 0.001), ("b", -0.002))
        for result in results(arm, gain, labels=labels)
    ]
    groups = list(dict.fromkeys(r.group for r in found))
    made = lines_of(found, groups, {}, REFERENCES, draws=500)
    against = [x.against["scratch"] for x in made if x.against]
    assert len(against) == 4
    assert [x.p_holm for x in against] == pytest.approx(holm([x.p for x in against]))


def test_a_group_without_runs_says_why():
    notes = {("t", "broken", "full", 3): "2 failed: reason"}
    found = lines(results("scratch", 0.0), notes, [("t", "broken", "full", 3), ("t", "later", "full", 3)])
    assert (found["broken"].score, found["broken"].note) == (None, "2 failed: reason")
    assert found["later"].note == "not run yet"


def test_one_seed_is_never_resolved():
    found = lines([*results("good", 0.3, seeds=((0, 0),)), *results("scratch", 0.0, seeds=((0, 0),))])
    assert (
        found["good"].against["scratch"].verdict().startswith("not resolvable with n = 20 patients x 1 seed")
    )


def test_scores_per_patient_and_of_a_metric_of_all_cases():
    dense = [{"patient": "a", "x": 0.5}, {"patient": "a", "x": 0.7}, {"patient": "b", "x": None}]
    scores = scores_of(dense, "x", less_is_better=())
    assert scores["a"] == pytest.approx(0.6)
    assert math.isnan(scores["b"])
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 30)
    shares = np.clip(labels * 0.3 + rng.uniform(0, 0.7, 30), 0, 1)
    cases = [
        {"patient": f"p{i:02d}", "answer": [1 - s, s], "label": [float(y)]}
        for i, (s, y) in enumerate(zip(shares, labels, strict=True))
    ]
    earlier = {"cases": cases, "activation": "softmax", "class_names": ["no", "yes"]}
    values = scores_of(cases, "auroc/yes", score_of(earlier), less_is_better=())
    settled = replace(Config.preset(2, "small", "none"), targets=("y",), classes=("no", "yes"))
    now = {**earlier, "learnt": to_mapping(settled), "dimension": 2}
    assert scores_of(cases, "auroc/yes", score_of(now), less_is_better=()) == values
    for wrong in ((dense, "auroc"), (cases, "dice", score_of(now))):
        with pytest.raises(FoveateError, match=r"metric (auroc|dice): accepted for this task are (x|n, )"):
            scores_of(*wrong, less_is_better=())
    from sklearn.metrics import roc_auc_score

    assert np.mean(list(values.values())) == pytest.approx(roc_auc_score(labels, shares), abs=0.02)


def test_where_less_is_better_scores_have_a_minus_case_by_case_and_of_all_cases():
    errors = {"a": 3.0, "b": 0.5, "c": 1.0}
    minus = {patient: -error for patient, error in errors.items()}
    dense = [{"patient": patient, "hd95/x": error} for patient, error in errors.items()]
    assert scores_of(dense, "hd95/x", less_is_better=["hd95"]) == minus
    assert scores_of(dense, "hd95/x", less_is_better=["ece"]) == errors
    numbers = np.array(list(errors.values()))
    answered = [{"patient": p, "answer": [e], "label": [0.0]} for p, e in errors.items()]

    def score(answers, labels):
        return {"mae": float(np.abs(answers - labels).mean())}

    of_all = [
        scores_of(answered, "mae", score, less_is_better=["mae"]),
        scores_of(dense, "mae", None, lambda picked: {"mae": numbers[picked].mean()}, less_is_better=["mae"]),
    ]
    assert of_all == [pytest.approx(minus)] * 2  # of a mean the jackknife gives every case its own value


def test_a_task_of_another_package_says_of_which_metrics_less_is_better(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Mine(Config):
        less_is_better: ClassVar[tuple[str, ...]] = ("my_error_mm",)
        name: Literal["mine"] = "mine"

    monkeypatch.setitem(sys.modules, "mine_of_theirs", SimpleNamespace(Config=Mine))
    monkeypatch.setitem(TASKS.own, "mine", "mine_of_theirs")
    cell = {"task": "t", "arm": "a", "way": "full", "labels": 1, "pretrain_seed": 0, "finetune_seed": 0}
    cases = [{"patient": "p", "my_error_mm/x": 2.0, "mae": 3.0, "auroc": 0.5}]
    cell |= {"kind": "test", "cases": cases, "first_batch": ""}
    found = {}
    for metric in ("my_error_mm/x", "mae", "auroc"):
        task = TaskConfig(metric=metric, finetune={"task.name": "mine"})
        config = CompareConfig(grid=GridConfig(out="out"), arms={}, tasks={"t": task})
        found[metric] = result_of(config, cell).scores["p"]
        assert (f"t: minus {metric}" in foot(config, [], [])) == (found[metric] < 0)
    assert found == {"my_error_mm/x": -2, "mae": -3, "auroc": 0.5}


def test_tables_hold_the_same_numbers():
    found = [*results("good_arm", 0.05), *results("scratch", 0.0), *results("good_arm", 0.0, way="probe")]
    groups = list(dict.fromkeys(r.group for r in found))
    made = lines_of(found, groups, {}, REFERENCES, draws=500)
    rows = tables.cells_of(made, REFERENCES, {("t", "good_arm"): 1.5})["t"]
    markdown, latex = tables.as_markdown(rows), tables.as_latex(rows)
    line = next(x for x in made if x.group[1:3] == ("good_arm", "full"))
    for text in (f"{line.score.mean:.3f}", f"{line.against['scratch'].mean:+.3f}", "1.50"):
        assert text in markdown
        assert text in latex
    assert r"good\_arm" in latex
    assert len({row.count("|") for row in markdown.splitlines()}) == 1
    parsed = list(csv.DictReader(io.StringIO(tables.as_csv(made, REFERENCES))))
    row = next(r for r in parsed if (r["arm"], r["way"]) == ("good_arm", "full"))
    assert float(row["score_mean"]) == pytest.approx(line.score.mean, rel=1e-5)
    assert row["minus_scratch_verdict"] == line.against["scratch"].verdict()
    assert row["minus_scratch_long_mean"] == ""


def test_two_arms_that_differ_by_chance_alone_stay_within_what_a_row_resolves():
    rng, beyond, draws = np.random.default_rng(0), 0, 400
    for _ in range(draws):
        one, two = (0.7 + rng.normal(0, 0.02, (3, 1)) + rng.normal(0, 0.05, (3, 10)) for _ in range(2))
        made = baseline(one, [(0, 0, seed) for seed in range(3)])
        beyond += abs(one.mean() - two.mean()) > resolved_by(made, 3)
    assert beyond / draws == pytest.approx(0.05, abs=0.035)  # 3 standard errors of 400 draws
    assert math.isnan(resolved_by(baseline(one[:1], [(0, 0, 0)]), 1))
    assert math.isnan(resolved_by(made, 0))


def baseline(rows, replicates):
    """Results of scratch."""
    return {
        replicate: Result(
            group=("t", "scratch", "full", 1),
            replicate=replicate,
            scores=dict(zip(PATIENTS, row.tolist(), strict=False)),
            first_batch="",
        )
        for replicate, row in zip(replicates, rows, strict=True)
    }


def test_where_seeds_share_their_labelled_sets_these_do_not_widen_what_a_row_resolves():
    rng, beyond, draws = np.random.default_rng(1), 0, 400
    replicates = [(0, drawn, seed) for drawn in (1, 2, 3) for seed in (0, 1)]
    for _ in range(draws):
        sets = np.repeat(rng.normal(0, 0.2, (3, 1)), 2, axis=0)  # the same for both arms
        one, two = (0.7 + sets + rng.normal(0, 0.02, (6, 1)) + rng.normal(0, 0.05, (6, 10)) for _ in range(2))
        beyond += abs(one.mean() - two.mean()) > resolved_by(baseline(one, replicates), 6)
    assert beyond / draws == pytest.approx(0.05, abs=0.035)
    single = baseline(one[::2], replicates[::2])
    assert math.isnan(resolved_by(single, 3))  # a seed a set says nothing of the spread of seeds


def test_trainings_on_one_labelled_set_are_one_draw_of_it():
    rng, wrong, forgotten, draws = np.random.default_rng(2), 0, 0, 200
    replicates = [(0, drawn, seed) for drawn in (1, 2, 3) for seed in (0, 1)]
    for _ in range(draws):
        sets = np.repeat(rng.normal(0, 0.5, (3, 1)), 2, axis=0)
        table = sets + rng.normal(0, 0.1, (6, 1)) + rng.normal(0, 0.3, (6, 20))
        found = estimate(table, levels=levels_of(replicates), sets=sets_of(replicates), draws=300)
        wrong += not found.low <= 0 <= found.high
        plain = estimate(table, draws=300)
        forgotten += not plain.low <= 0 <= plain.high
    assert found.verdict().endswith(")")
    assert "20 patients x 6 seeds on 3 labelled sets" in found.verdict()
    assert wrong / draws < 0.1 < forgotten / draws  # 2.5 % + 3 standard errors; forgotten: about a fifth


def test_levels_are_sets_and_where_there_are_three_of_them_pre_trainings():
    assert levels_of([(0, 0, 0), (0, 0, 1), (1, 0, 0)]) == [(0,), (1,), (2,)]
    assert levels_of([(0, 1, 5), (0, 1, 6), (0, 2, 5)]) == [(0, 5), (0, 6), (1, 5)]
    assert levels_of([(p, 1, 0) for p in range(3)]) == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]
    assert (sets_of([(0, 0, 0)]), sets_of([(0, 1, 0), (1, 1, 0), (1, 1, 1)])) == (0, 2)
    one = estimate(np.array([[0.5, 0.6, 0.5], [0.5, 0.55, 0.6]]), levels=[(0, 0), (0, 1)], sets=1)
    assert not one.resolvable
    assert one.low > 0  # an interval about that set


def test_a_row_that_cannot_see_three_points_is_exploratory():
    steady = [*results("good", 0.05), *results("scratch", 0.0)]
    for result in steady:  # equal means under every seed
        lift = 0.7 - np.mean(list(result.scores.values()))
        object.__setattr__(result, "scores", {k: v + lift for k, v in result.scores.items()})
    found = lines(steady)
    assert found["good"].resolves == pytest.approx(0, abs=1e-9)
    assert not found["good"].exploratory
    loose = [replace(r, scores={k: v + 0.1 * r.replicate[2] for k, v in r.scores.items()}) for r in steady]
    found = lines(loose)
    sd = np.std([0.0, 0.1, 0.0], ddof=1)
    assert found["good"].resolves == pytest.approx(4.302653 * sd * math.sqrt(2 / 3))
    assert found["good"].exploratory
    assert lines(results("good", 0.05))["good"].exploratory  # without a reference nothing is known
    rows = tables.cells_of([found["good"]], REFERENCES, {})["t"]
    assert rows[1][rows[0].index("resolves")] == f"{found['good'].resolves:.3f}, exploratory"
