"""Processes for tests that need no interpreter of their own: forks of this one, whose imports they share.

A start of Python with torch and foveate takes four seconds of a processor, a fork takes none. What has to be
the real command is started as `subprocess` starts it.
"""

import atexit
import os
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

from foveate.runtime.rank import main as run_rank

FORKS = get_context("fork")


class Fork:
    """A function in a process of its own, with what tests and `launch` use of a `subprocess.Popen`.

    It exits with what the function returns. Its standard error goes to the file `errors`, or where that of
    this process goes.
    """

    def __init__(self, function, *arguments, errors=None, environment=None):
        reading, writing = os.pipe()
        self.stdin, self.errors = os.fdopen(writing, "wb"), errors
        arguments = (function, arguments, reading, errors, environment)
        self.process = FORKS.Process(target=_inside, args=arguments)
        self.process.start()
        atexit.register(self.process.kill)  # a test that failed leaves nobody whom this process waits for
        os.close(reading)
        self.pid = self.process.pid

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.process), timeout)
        return self.returncode

    def communicate(self, timeout=None):
        self.wait(timeout)
        return "", Path(self.errors).read_text()

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _inside(function, arguments, reading, errors, environment):
    atexit._clear()  # what the other process does at its end
    os.setsid()
    os.dup2(reading, 0)
    if errors is not None:
        for number, place in ((1, os.devnull), (2, errors)):
            os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), number)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    try:
        sys.exit(function(*arguments))
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


def forked_rank(entry, scratch, shared, rank):
    """In the place of `launch.start`: a process of a run that is forked from the one that starts it."""
    return Fork(run_rank, entry, scratch, environment=shared | {"LOCAL_RANK": str(rank)})
