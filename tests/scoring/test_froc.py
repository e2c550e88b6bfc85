"""FROC, CPM and average precision against the rule written down as loops, on a thousand random cases."""

import math

import numpy as np
import pytest

from foveate.core.boxes.geometry import Boxes, joined
from foveate.core.boxes.tasks import IGNORED, Scan
from foveate.scoring.boxes import froc
from foveate.scoring.boxes.froc import RATES, curve_of, events_of, froc_metrics, sensitivity_at
from foveate.scoring.boxes.precision import average_precision, precision_metrics, taken_of

CASES = 1000


def random_scans(rng):
    """Scans on a small grid: equal scores, marks on the rim, two on one finding, one on two, no finding."""
    scans = []
    for _ in range(rng.integers(1, 5)):

        def some(most, label, rng=rng):
            count = int(rng.integers(0, most))
            size = np.repeat(rng.integers(2, 6, (count, 1)), 2, 1).astype(float)
            centre = rng.integers(0, 9, (count, 2)) / 2
            return Boxes.of(centre, size, label(count), rng.integers(0, 7, count) / 7, axes=2)

        truth, ignored = some(4, lambda n: rng.integers(0, 2, n)), some(3, lambda n: np.full(n, IGNORED))
        scans.append(Scan(truth, ignored, some(9, lambda n: rng.integers(0, 2, n))))
    return scans


def ends(box):
    centre, size = box[:2], box[2:4]
    return [c - s / 2 for c, s in zip(centre, size, strict=True)], [
        c + s / 2 for c, s in zip(centre, size, strict=True)
    ]


def slow_froc(scans, most):
    """(score, found) for every finding and false alarm, mark by mark; the curve, threshold by threshold."""
    events, findings = [], 0
    for truth, ignored, found in scans:
        marks = sorted(found, key=lambda row: -row[-1])[:most]
        used = set()
        for finding in truth:
            findings += 1
            scores = []
            for i, mark in enumerate(marks):
                radius = finding[2] / 2
                if mark[4] == finding[4] and math.dist(mark[:2], finding[:2]) < radius:
                    scores.append(mark[-1])
                    used.add(i)
            if scores:
                events.append((max(scores), True))
        for i, mark in enumerate(marks):
            if i in used:
                continue
            if any(math.dist(mark[:2], box[:2]) < box[2] / 2 for box in ignored):
                continue
            events.append((mark[-1], False))
    points = [(0.0, 0.0 if findings else math.nan)]
    for threshold in sorted({score for score, _ in events}, reverse=True):
        hits = sum(found for score, found in events if score >= threshold)
        false = sum(not found for score, found in events if score >= threshold)
        points.append((false / len(scans), hits / findings if findings else math.nan))
    return points, findings


def slow_sensitivity(points, rate):
    """The curve read at a rate: its highest point there, or the line between its neighbours."""
    here = [s for f, s in points if f == rate]
    if here:
        return here[-1]
    below = [p for p in points if p[0] < rate]
    above = [p for p in points if p[0] > rate]
    if not above:
        return below[-1][1]
    (f0, s0), (f1, s1) = below[-1], above[0]
    return s0 + (s1 - s0) * (rate - f0) / (f1 - f0)


def slow_precision(scans, label, least):
    """Average precision, box by box."""
    rows, total = [], 0
    for known, ignored, found in scans:
        truth = [box for box in known if box[4] == label]
        total += len(truth)
        free = list(range(len(truth)))
        for mark in sorted((m for m in found if m[4] == label), key=lambda row: -row[-1]):
            shares = [(overlap(mark, truth[i]), -i) for i in free]
            if shares and max(shares)[0] >= least:
                free.remove(-max(shares)[1])
                rows.append((mark[-1], True))
            elif not any(overlap(mark, box) >= least for box in ignored):
                rows.append((mark[-1], False))
    if not total:
        return math.nan
    points = []
    for threshold in sorted({score for score, _ in rows}, reverse=True):
        kept = [right for score, right in rows if score >= threshold]
        points.append((sum(kept) / total, sum(kept) / len(kept)))
    area, before = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[i:])
        before = recall
    return area


def overlap(one, other):
    (low, high), (low2, high2) = ends(one), ends(other)
    shared = math.prod(
        max(0, min(a, b) - max(c, d)) for a, b, c, d in zip(high, high2, low, low2, strict=True)
    )
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def test_froc_cpm_and_precision_are_the_rule_written_as_loops(monkeypatch):
    monkeypatch.setattr(froc, "MOST_MARKS", 6)
    got, wanted, seen = [], [], set()
    for case in range(CASES):
        scans = random_scans(np.random.default_rng(case))
        plain = [[part.rows() for part in scan] for scan in scans]
        points, findings = slow_froc(plain, most=6)
        slow = [slow_sensitivity(points, rate) for rate in RATES]
        wanted += [*slow, sum(slow) / len(RATES), *(number for point in points for number in point)]
        wanted += [slow_precision(plain, label, 0.25) for label in (0, 1)]
        events, taken = [events_of(scan) for scan in scans], [taken_of(scan, 0.25) for scan in scans]
        curve = curve_of(events)
        got += [*sensitivity_at(curve), froc_metrics(events)["cpm"], *np.column_stack(curve).ravel()]
        got += [average_precision(taken, label) for label in (0, 1)]
        assert len(got) == len(wanted), case
        scores = [row[-1] for *_, found in plain for row in found]
        seen |= {
            name
            for name, there in {
                "no finding at all": not findings,
                "scan without finding": any(not truth for truth, *_ in plain),
                "scan without mark": any(not found for *_, found in plain),
                "more marks than count": any(len(found) > 6 for *_, found in plain),
                "equal scores": len(set(scores)) < len(scores),
            }.items()
            if there
        }
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    assert len(seen) == 5


def scan_of(found, scores, truth=((0.0, 0.0),), ignored=(), size=4.0):
    def boxes(centres, side, score=None, label=None):
        return Boxes.of(np.reshape(centres, (-1, 2)), np.full((len(centres), 2), side), label, score, axes=2)

    return Scan(
        boxes(truth, size),
        boxes(ignored, size, label=[IGNORED] * len(ignored)),
        boxes(found, 1.0, score=scores),
    )


@pytest.mark.parametrize(
    ("scan", "hits", "false"),
    [
        (scan_of([(1.9, 0)], [0.5]), [0.5], []),
        (scan_of([(2.0, 0)], [0.5]), [-np.inf], [0.5]),  # on the rim is not inside
        (scan_of([(1, 0), (0, 1)], [0.5, 0.7]), [0.7], []),  # a second mark on it is nothing
        (scan_of([(1, 0)], [0.5], truth=((0, 0), (2, 0))), [0.5, 0.5], []),  # one mark on two
        (scan_of([(9, 9)], [0.5], ignored=((9, 8),)), [-np.inf], []),
        (scan_of([(1, 0)], [0.5], ignored=((1, 0),)), [0.5], []),  # a finding counts before what is ignored
        (scan_of([], []), [-np.inf], []),
    ],
)
def test_corner_cases_of_the_rule(scan, hits, false):
    found = events_of(scan)
    assert found.hits.tolist() == hits
    assert found.false.tolist() == false


def test_scans_without_findings_stay_in_the_denominator():
    one, empty = scan_of([(0, 0), (9, 9)], [0.5, 0.9]), scan_of([], [], truth=())
    alone, both = (
        froc_metrics([events_of(scan) for scan in scans]) for scans in ([one], [one] + [empty] * 7)
    )
    assert alone["sensitivity/0.5"] == 0
    assert alone["sensitivity/1"] == 1
    assert both["sensitivity/0.125"] == 1


def test_a_second_box_on_one_truth_is_false_for_precision():
    truth = Boxes.of([[0.0, 0]], [[4.0, 4]])
    found = joined([truth, Boxes.of([[0.5, 0]], [[4.0, 4]], score=[0.9])], 2)
    none = Boxes.of([], [], axes=2)
    scan = Scan(truth, none, Boxes.of(found.centre, found.size, score=[0.8, 0.9]))
    assert taken_of(scan, 0.5).right.tolist() == [True, False]
    metrics = precision_metrics([taken_of(scan, 0.5)], ("a", "b"))
    assert metrics["map"] == metrics["ap/a"] == 1
    assert math.isnan(metrics["ap/b"])
