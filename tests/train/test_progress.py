"""How long a training still takes, on a clock of its own; and who speaks when no terminal listens."""

from __future__ import annotations

import pytest

from foveate.train import progress as module
from foveate.train.progress import LINE_SECONDS, Lines, counted, shown
from foveate.train.remaining import Remaining


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def simulated(total, every, cost, begun=0):
    """A run on a clock: what was promised after each step, and what it then took."""
    left, clock, promised, ended = Remaining(total=total, every=every, begun=begun), 0.0, {}, {}
    for step in range(begun, total):
        clock += cost["step"]
        left.stepped(cost["step"])
        for work, number in every.items():
            if step + 1 == total or (step + 1) % number == 0:
                left.did(work, cost[work])
                clock += cost[work]
        promised[step + 1], ended[step + 1] = left.seconds(step + 1), clock
    return {step: (promised[step], clock - ended[step]) for step in promised}, left


@pytest.mark.parametrize("begun", [0, 7])
@pytest.mark.parametrize("total", [40, 43])
def test_once_all_work_was_done_once_the_time_left_is_what_it_takes(total, begun):
    every, cost = {"validation": 10, "checkpoints": 6, "previews": 20}, {"step": 2.0}
    cost |= {"validation": 31.0, "checkpoints": 3.0, "previews": 8.0}
    found, left = simulated(total, every, cost, begun)
    for step, (promised, took) in found.items():
        if step >= 20:
            assert promised == pytest.approx(took), step
    assert left.seconds(total) == 0


def test_what_was_never_done_is_named():
    left = Remaining(total=100, every={"validation": 50, "checkpoints": 10})
    left.stepped(3.0)
    assert left.shown(1) == "0:04:57 left, validation and checkpoints not counted yet"
    left.did("checkpoints", 30.0)
    assert left.shown(10) == "0:09:00 left, validation not counted yet"  # 90 steps, 9 checkpoints
    left.did("validation", 60.0)
    assert left.shown(50) == "0:06:00 left"
    assert left.shown(100) == "0:00:00 left"


def test_work_of_unknown_rhythm_goes_on_as_before():
    left = Remaining(total=30, begun=10)
    left.stepped(1.0)
    left.did("health", 5.0)
    assert left.seconds(20) == 10 + 5.0


def test_a_line_a_minute_and_none_for_what_is_short():
    lines = Lines("predicting", started=100.0)
    assert [lines.line(n, 90, 100.0 + 20 * n) for n in range(4)] == [
        "",
        "",
        "",
        "predicting: 3 of 90, 0:29:00 left",
    ]
    assert lines.line(4, 90, 180.0) == ""
    assert lines.line(90, 90, 100 + 30 * LINE_SECONDS) == "predicting: 90 of 90"


def test_what_was_there_before_took_no_time():
    lines = Lines("preparing", started=0.0)
    lines.line(80, 100, 0.0)
    assert lines.line(90, 100, 60.0) == "preparing: 90 of 100, 0:01:00 left"
    assert Lines("listing", started=0.0).line(5000, 0, 60.0) == "listing: 5000"


def test_without_a_terminal_lines_are_said(monkeypatch):
    clock, said = Clock(), []
    monkeypatch.setattr(module.CONSOLE, "_force_terminal", False)
    with shown(clock, said.append) as show:
        for done in range(1, 5):
            clock.now += 25
            show("evaluating", done, 4)
    assert said == ["evaluating: 4 of 4"]
    with shown(clock, said.append) as show:
        for done in range(7):
            show("scan", done, 6)
            clock.now += 30
    assert said[1:] == ["scan: 2 of 6, 0:02:00 left", "scan: 4 of 6, 0:01:00 left", "scan: 6 of 6"]


def test_what_is_short_or_not_this_process_s_own_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    with counted("validation", 2, active=False) as advance:
        advance()
    assert capsys.readouterr().err == ""
    with counted("validation", 2) as advance:
        advance()
    assert "validation: 1 of 2" in capsys.readouterr().err
