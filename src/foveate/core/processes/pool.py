"""The same work on many things, in processes beside this one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from foveate.core.processes.signals import end_with
from foveate.core.types import FoveateError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3  # tasks per worker that wait, so that none is idle and memory stays constant


def in_order(work: Callable[[T], R], tasks: Iterable[T], num_workers: int, kept: str = "") -> Iterator[R]:
    """Results in the order of the tasks, of which only a few are drawn ahead.

    Args:
        work: A function that another process can import.
        tasks: What it is called with.
        num_workers: Processes, which end with this one; 0: this one does the work.
        kept: What a user still has when a worker was killed, for the message.

    Raises:
        FoveateError: a worker was killed.
    """
    if num_workers == 0:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(num_workers, initializer=end_with, initargs=(os.getpid(),))
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > AHEAD * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise FoveateError(
            "A worker process was killed, most likely for want of memory; start again with a lower "
            f"--num_workers{kept and f': {kept}'}."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
