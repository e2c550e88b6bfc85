"""The judge, line by line; its table of limits and the page about it."""

from pathlib import Path

import pytest

from foveate.train.verdicts import ADVICE, LIMITS, Judge, judge

PAGE = Path(__file__).parents[2] / "docs" / "health.md"


def health(step, **values):
    named = {"std": "features/stride4/std", "detail": "restoration/restored/detail"}
    return {"step": step, **{named.get(k, k): v for k, v in values.items()}}


def loss(step, value, **values):
    return {"step": step, "loss": value, **values}


def test_since_is_the_first_line_of_the_streak_and_a_recovery_ends_it():
    lines = [health(s, std=v) for s, v in ((10, 0.2), (20, 0.01), (30, 0.01), (40, 0.01))]
    assert judge(lines[:2], 100) == []  # once is not yet
    (verdict,) = judge(lines, 100)
    assert (verdict.kind, verdict.since) == ("collapsing", 20)
    assert "scale 1/4" in verdict.text
    assert judge([*lines, health(50, std=0.2)], 100) == []


def test_two_directions_are_a_collapse_of_projections():
    name = "projections/stride2/uniformity"
    assert judge([{"step": s, name: -0.6} for s in (1, 2)], 9)[0].what.startswith("collapsing at scale 1/2")
    assert judge([{"step": s, name: -0.8} for s in (1, 2)], 9) == []


def test_the_only_measurement_of_a_run_says_what_is_beyond_doubt():
    doubtful, clear = ({"step": 60, "features/stride4/std": v} for v in (0.02, 0.009))
    assert judge([clear], 60)[0].text == "collapsing at scale 1/4 (features: std 0.009) since step 60"
    assert judge([doubtful], 60) == []
    assert judge([clear], 61) == []  # the run goes on: a second will tell
    assert judge([health(30, std=0.1), clear], 60) == []
    name = "projections/stride2/uniformity"
    assert [len(judge([{"step": 9, name: v}], 9)) for v in (-0.05, -0.2)] == [1, 0]
    assert [len(judge([pull(9, a=v, b=1.0)], 9)) for v in (400.0, 200.0)] == [1, 0]


def pull(step, **terms):
    return {"step": step, **{f"pull/{name}": value for name, value in terms.items()}}


def test_drowned_terms_are_named_and_faded_ones_are_not():
    loud = [pull(s, siamese=9.5, local=8.0, pixel=0.1, middle=0.1) for s in (1, 2)]
    assert "siamese drowns pixel and middle" in judge(loud, 9)[0].text
    even = [pull(s, siamese=0.2, local=0.1, pixel=0.1, middle=0.1 / s**3) for s in range(1, 9)]
    assert judge(even, 9) == []  # the middle term fades out by design
    assert judge([pull(s, siamese=9.5, pixel=0.1) for s in (1, 2)], 9)[0].kind == "drowned"
    assert judge([pull(s, pixel=9.5) for s in (1, 2)], 9) == []


def test_low_frequencies_only_matter_late():
    early = [health(s, detail=0.01) for s in (100, 400, 900)]
    assert judge(early, 1000) == []
    late = [health(s, detail=0.01) for s in (1000, 1500)]
    assert judge(late, 2000)[0].kind == "low frequencies"
    assert judge(late, 20000) == []
    assert judge([health(s, detail=0.5) for s in (1000, 1500)], 2000) == []


@pytest.mark.parametrize("first", [-0.5, 0.0, 4.0])
def test_a_loss_far_above_its_start_diverges_and_noise_does_not(first):
    calm = [loss(s, first - 0.1 * s + 0.05 * (s % 3)) for s in range(9)]
    assert judge(calm, 9) == []
    rising = calm + [loss(s, first + s) for s in range(9, 14)]
    assert judge(rising, 14)[0].kind == "diverging"


def test_a_loss_that_a_filling_queue_lifts_does_not_diverge():
    assert judge([loss(s, 4.8 if s else 3.4) for s in range(30)], 300) == []
    assert judge([loss(s, 9.0 if s else 3.4) for s in range(30)], 300)[0].kind == "diverging"


def test_steps_as_large_as_the_weights_stand_to_the_end():
    lines = [loss(s, 1.0, update_ratio=0.5 if s < 3 else 0.001) for s in range(1, 30)]
    assert judge(lines, 30)[0].since == 1
    assert judge(lines[2:], 30) == []


def test_the_first_line_may_wait_for_the_workers():
    assert judge([loss(s, 1.0, data_wait=0.9 if s == 0 else 0.1) for s in range(9)], 9) == []
    assert judge([loss(s, 1.0, data_wait=0.9) for s in range(3)], 9) == []
    assert judge([loss(s, 1.0, data_wait=0.9) for s in range(4)], 9)[0].kind == "starving"


def test_a_diverging_run_is_told_that_alone():
    lines = [loss(s, None) for s in (1, 2)] + [health(s, std=0.0) for s in (3, 4)]
    assert [verdict.kind for verdict in judge(lines, 9)] == ["diverging"]


def test_the_page_holds_every_limit_and_every_advice():
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for name, limit in LIMITS.items():
        assert f"| `{name}` |" in page
        assert limit.reason in page
        assert limit.alone is None or f"| {limit.rows}, or 1 beyond {limit.alone:g} |" in page
    assert all(advice in page for advice in ADVICE.values())


def test_judging_anew_is_the_same():
    lines = [pull(s, a=9.5, b=0.1) for s in (1, 2, 3)]
    one = Judge(9)
    assert [one.see(line) for line in lines][-1] == judge(lines, 9)


def pseudo(step, agreement=0.9, **shares):
    return {
        "step": step,
        "pseudo/agreement": agreement,
        **{f"pseudo/share/{n}": v for n, v in shares.items()},
    }


def test_pseudo_labels_that_vanish_collapse_and_those_that_grow_or_are_not_agreed_upon_drift():
    def kinds(*rows):
        return {(v.kind, v.where) for v in judge([pseudo(1, a=0.1, b=0.02), *rows], 100)}

    assert kinds(*(pseudo(s, a=0.02, b=0.1) for s in (2, 3, 4))) == set()
    assert kinds(*(pseudo(s, a=0.009, b=0.02) for s in (2, 3))) == set()  # twice is not yet
    assert kinds(*(pseudo(s, a=0.009, b=0.0) for s in (2, 3, 4))) == {
        ("pseudo-labels collapse", "a"),
        ("pseudo-labels collapse", "b"),
    }
    assert kinds(*(pseudo(s, a=0.1, b=0.3) for s in (2, 3, 4))) == {("pseudo-labels drift", "b")}
    assert kinds(*(pseudo(s, 0.4, a=0.1, b=0.02) for s in (2, 3, 4))) == {("pseudo-labels drift", "")}
