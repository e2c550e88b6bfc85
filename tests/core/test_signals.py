"""What a signal does to a run, and what a second one does."""

import os
import signal

import pytest

from foveate.core.processes import signals


def send(number):
    os.kill(os.getpid(), number)


def test_a_signal_leaves_an_order_and_everything_is_as_before_after_it():
    before = [signal.getsignal(number) for number in signals.STOPPING]
    with signals.stop_signals() as left:
        assert left["order"] == 0
        send(signal.SIGINT)
        assert left["order"] == 1
        send(signal.SIGUSR1)
        assert left["order"] == 2
        send(signal.SIGTERM)
        assert left["order"] == 2  # to be started again later stays said
    assert [signal.getsignal(number) for number in signals.STOPPING] == before


@pytest.mark.parametrize("seconds", [0.9, 1.1])
def test_the_same_signal_twice_is_one_order_and_a_later_one_acts_as_usual(monkeypatch, seconds):
    now = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr(signals.time, "monotonic", lambda: next(now))
    usual = []
    previous = signal.signal(signal.SIGTERM, lambda number, _frame: usual.append(number))
    try:
        with signals.stop_signals() as left:
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            assert left["order"] == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert usual == [signal.SIGTERM] * (seconds > 1)


def test_usr1_never_ends_a_process(monkeypatch):
    monkeypatch.setattr(signals, "SAME_SIGNAL_SECONDS", -1.0)
    with signals.stop_signals() as left:
        for _ in range(3):
            send(signal.SIGUSR1)
    assert left["order"] == 2
