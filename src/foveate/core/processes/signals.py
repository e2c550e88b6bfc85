"""Signals that ask a run to stop: the first leaves an order, a later one acts as usual.

A terminal, SLURM and `kill` of a group send them to every process of a run, those that load data too,
and a process that is started by another may get the same one twice: from the cluster and passed on.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
LOOK_SECONDS = 1.0  # between two looks at whether a process is still there
SAME_SIGNAL_SECONDS = 1.0  # what follows within them is the same order


@contextmanager
def stop_signals() -> Iterator[dict[str, int]]:
    """Inside the context a signal only leaves an order: 1 to stop, 2 to stop and be started again later."""
    previous = {number: signal.getsignal(number) for number in STOPPING}
    left = {"order": 0}
    try:
        _leave_orders(left, previous)
        yield left
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def outlive_first_order() -> None:
    """For a process that loads data: whoever started it may need its work to end well, and ends it."""
    _leave_orders({"order": 0}, dict.fromkeys(STOPPING, signal.SIG_DFL))


def end_with(starter: int) -> None:
    """For a worker process: end soon after the process that started it has ended, in whatever way."""

    def watch() -> None:
        while os.getppid() == starter:  # else it was given to another process
            time.sleep(LOOK_SECONDS)
        os._exit(1)  # nobody waits for what it is at

    threading.Thread(target=watch, daemon=True).start()


def _leave_orders(left: dict[str, int], usual: Mapping[signal.Signals, Any]) -> None:
    first = math.inf

    def receive(number: int, _frame: object) -> None:
        nonlocal first
        left["order"] = max(left["order"], 1 + (number == signal.SIGUSR1))
        if number == signal.SIGUSR1:  # never ends a process: clusters may send it for as long as they like
            return
        now = time.monotonic()
        first = min(first, now)
        if now - first > SAME_SIGNAL_SECONDS:
            signal.signal(number, usual[signal.Signals(number)])
            os.kill(os.getpid(), number)

    for number in usual:
        signal.signal(number, receive)
