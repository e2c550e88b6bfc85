"""Processes that were started to help: none stays when the one that started them is killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTERS = {
    "scan": "from foveate.data.inventory.passes import streamed; list(streamed(time.sleep, [600] * 4, 2))",
    "prepare": "from foveate.data.cache.prepare import _mapped; list(_mapped(time.sleep, [600] * 4, 2))",
}


def alive(process):
    """Whether a process runs; one that has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc, which Linux has")
@pytest.mark.parametrize("command", STARTERS)
def test_workers_end_soon_after_the_process_that_started_them_was_killed(command):
    starter = subprocess.Popen([sys.executable, "-c", f"import time; {STARTERS[command]}"])
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
