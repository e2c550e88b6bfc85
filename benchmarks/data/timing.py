"""Two ways to do the same, timed in turn in one process: the median of the ratios of neighbours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

Work = Callable[[int], object]


def seconds(work: Work, start: int, count: int) -> float:
    """CPU time of this process for one call, the mean over `count` calls with their numbers."""
    begun = time.process_time()
    for number in range(start, start + count):
        work(number)
    return (time.process_time() - begun) / count


def ratio(slow: Work, fast: Work, *, repeats: int, calls: tuple[int, int]) -> tuple[float, float, float]:
    """Median seconds of one call of each, and the median of slow / fast.

    Args:
        slow: what is compared with.
        fast: ours.
        repeats: alternations.
        calls: calls of each per alternation, so that both take a like time.
    """
    slow(0), fast(0)  # what is loaded or compiled at the first call is not the work
    times = [
        (seconds(slow, i * calls[0], calls[0]), seconds(fast, i * calls[1], calls[1])) for i in range(repeats)
    ]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return medians[0], medians[1], statistics.median(a / b for a, b in times)


def line(name: str, result: tuple[float, float, float], target: float) -> str:
    """One row of a report."""
    slow, fast, times = result
    verdict = "met" if times >= target else "MISSED"
    figures = f"{slow * 1e3:9.2f} ms {fast * 1e3:9.2f} ms {times:8.1f} x"
    return f"{name:<58} {figures}  (at least {target:g} x: {verdict})"
