"""Work in other processes: in order, few tasks at a time, and no worker outlives the one that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveate.core.processes.pool import AHEAD, in_order
from foveate.core.types import FoveateError

STARTER = (
    "import time; from foveate.core.processes.pool import in_order; list(in_order(time.sleep, [600] * 4, 2))"
)


def alive(process):
    """Whether a process runs; one that has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc, which Linux has")
def test_workers_end_soon_after_the_process_that_started_them_was_killed():
    starter = subprocess.Popen([sys.executable, "-c", STARTER])
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children")
    try:
        until = time.monotonic() + 60
        while len(found := children.read_text().split()) < 2:
            assert starter.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    until = time.monotonic() + 10
    while any(map(alive, found)) and time.monotonic() < until:
        time.sleep(0.1)
    left = [process for process in found if alive(process)]
    for process in left:
        subprocess.run(["kill", "-9", process], check=False)
    assert not left


def drawn(names):
    for number in range(40):
        names.append(number)
        yield number


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_come_in_order_and_few_tasks_are_drawn_ahead(num_workers):
    names = []
    results = in_order(abs, drawn(names), num_workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert 3 <= len(names) <= 3 + AHEAD * num_workers
    assert list(results) == list(range(3, 40))


def test_a_worker_that_is_killed_is_a_sentence():
    with pytest.raises(FoveateError, match=r"killed.* --num_workers: all of it is kept\.$"):
        list(in_order(os._exit, [9], 1, "all of it is kept"))
