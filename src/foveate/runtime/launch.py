"""Starts the processes of a run on this machine, forwards signals to them and reports the first error.

Fabric's own launcher runs the script again, kills without a message, and leaves the other processes running
when one dies. Under torchrun or SLURM nothing of this is used: they start and watch the processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

from foveate.core import config as parsing
from foveate.core.types import Dataclass, Ending, FoveateError
from foveate.runtime.config import RunConfig
from foveate.runtime.processes import check_processes, starter
from foveate.runtime.resources.cpus import cpus_of_process
from foveate.train import checkpoint
from foveate.train.logging import say

GRACE_SECONDS = 10.0  # between the first failure and killing the others, which may still report it
POLL_SECONDS = 0.05
ALL_STOPPED = "All processes were stopped."
# How the process of a run ends; 1 is a crash of Python here.
ENDINGS = {ending.value: ending for ending in (Ending.FINISHED, Ending.STOPPED, Ending.REQUEUE)}
Process = subprocess.Popen[bytes]


class Spread(Dataclass, Protocol):
    """A configuration whose work several processes share."""

    @property
    def devices(self) -> int:
        """Processes on this machine."""

    @property
    def num_nodes(self) -> int:
        """Machines."""

    @property
    def out(self) -> str:
        """The folder that they write."""


@final
@dataclass(frozen=True, kw_only=True)
class ExitMessage:
    """The error that a process ended with; `lost`: it only noticed that another one ended."""

    lost: bool
    text: str


def needs_processes(config: RunConfig) -> bool:
    """Whether a run of several processes has yet to start them."""
    check_processes(config)
    return config.devices * config.num_nodes > 1 and starter() == "nobody"


def run_processes(entry: str, config: Spread, hint: Callable[[Path], str] | None = None) -> Ending:
    """Start the processes of this machine, wait for them, and return how they ended.

    Args:
        entry: "module:function" that takes the file of the configuration.
        config: It.
        hint: What the same command does with the folder after an error; of a run unless said.

    Raises:
        FoveateError: the error of the process that failed first.
    """
    with tempfile.TemporaryDirectory(prefix="foveate-") as scratch:
        (Path(scratch) / "config.yaml").write_text(parsing.to_yaml(config), encoding="utf-8")
        shared = environment(config)
        processes = [start(entry, Path(scratch), shared, rank) for rank in range(config.devices)]
        try:
            with forward_signals(processes) as received:
                first = wait(processes)
        finally:
            kill(processes)
        codes = [process.wait() for process in processes]
        messages = {rank: read_exit_message(Path(scratch), rank) for rank in range(config.devices)}
    known = {rank: each for rank, each in messages.items() if each}
    return ending_of(codes, known, first=first, received=received, out=Path(config.out), hint=hint)


def environment(config: Spread) -> dict[str, str]:
    """Environment variables that all processes of this machine share."""
    known = dict(os.environ)
    if config.num_nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= set(known):
        raise FoveateError(
            f"--num_nodes {config.num_nodes} without torchrun or SLURM: set MASTER_ADDR (the first machine), "
            "MASTER_PORT (a free one there) and NODE_RANK (0, 1 ... one per machine), and start the same "
            "command on every machine."
        )
    threads = str(cpus_of_process(config.devices))
    return {
        "OMP_NUM_THREADS": threads,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "NODE_RANK": "0",
        **known,
        "WORLD_SIZE": str(config.devices * config.num_nodes),
    }


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(entry: str, scratch: Path, shared: dict[str, str], rank: int) -> Process:
    """Start one process, in its own session, so that Ctrl-C reaches it only through this one.

    Its standard input closes when this process ends in any way: `rank.follow_starter` waits for that.
    """
    command = [sys.executable, "-m", "foveate.runtime.rank", entry, str(scratch)]
    known = shared | {"LOCAL_RANK": str(rank)}
    return subprocess.Popen(command, env=known, stdin=subprocess.PIPE, start_new_session=True)


@contextmanager
def forward_signals(processes: Sequence[Process]) -> Iterator[list[int]]:
    """Inside the context, signals go to every process; yields the list of those received."""
    received: list[int] = []

    def receive(number: int, _frame: object) -> None:
        received.append(number)
        send(processes, number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    previous = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def send(processes: Sequence[Process], number: int) -> None:
    """Send a signal to all processes that still run."""
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(number)


def wait(processes: Sequence[Process]) -> int:
    """Wait for all; after a failure, for GRACE_SECONDS at most. The rank that failed first, else 0."""
    deadline, first = float("inf"), 0
    while None in (codes := [process.poll() for process in processes]) and time.monotonic() < deadline:
        failed = [rank for rank, code in enumerate(codes) if code not in (None, *ENDINGS)]
        if failed and deadline == float("inf"):
            deadline, first = time.monotonic() + GRACE_SECONDS, failed[0]
        time.sleep(POLL_SECONDS)
    return first


def kill(processes: Sequence[Process]) -> None:
    """Kill the processes that still run."""
    send([process for process in processes if process.poll() is None], signal.SIGKILL)
    for process in processes:
        process.wait()
        if process.stdin:
            process.stdin.close()


def write_exit_message(scratch: Path, rank: int, messages: ExitMessage) -> None:
    """Write the error of a process for the one that started it."""
    path = scratch / f"message-{rank}.json"
    path.write_text(json.dumps({"lost": messages.lost, "text": messages.text}), encoding="utf-8")


def read_exit_message(scratch: Path, rank: int) -> ExitMessage | None:
    """The error of a process, if it wrote one."""
    path = scratch / f"message-{rank}.json"
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return ExitMessage(lost=found["lost"], text=found["text"])
    return None


def ending_of(
    codes: Sequence[int],
    messages: dict[int, ExitMessage],
    *,
    first: int,
    received: Sequence[int],
    out: Path,
    hint: Callable[[Path], str] | None = None,
) -> Ending:
    """How the run ended; raises one error for a run that failed."""
    if all(code in ENDINGS for code in codes):
        return ENDINGS[max(codes, key=lambda code: (code == Ending.REQUEUE.value, code))]
    causes = {rank: each.text for rank, each in messages.items() if not each.lost}
    if causes:
        rank, text = next(iter(causes.items()))
        whole = len(causes) == len(codes) and set(causes.values()) == {text}
        message = text if whole else f"Process {rank} of {len(codes)}: {text} {ALL_STOPPED}"
        raise FoveateError(message)
    if received and all(code in ENDINGS or -code in received or code == 2 for code in codes):
        say("stopped on a signal before the first step; run the same command to start again.")
        return Ending.REQUEUE if signal.SIGUSR1 in received else Ending.STOPPED
    raise FoveateError(f"{failure_of(codes, messages, first)} {ALL_STOPPED} {(hint or resume_hint)(out)}")


def failure_of(codes: Sequence[int], messages: dict[int, ExitMessage], first: int) -> str:
    """Which process ended without an error of its own, and how."""
    silent = [rank for rank, code in enumerate(codes) if rank not in messages and code not in ENDINGS]
    if not silent:
        return "A process on another machine ended or cannot be reached; its output there says why."
    rank = first if first in silent else silent[0]
    if codes[rank] >= 0:
        why = f"failed with exit code {codes[rank]}; its traceback is above"
    else:
        memory = codes[rank] == -signal.SIGKILL
        more = ", most often because memory ran out (lower --batch_size or --num_workers)" if memory else ""
        why = f"was ended by {signal.Signals(-codes[rank]).name}{more}"
    return f"Process {rank} of {len(codes)} {why}."


def resume_hint(out: Path) -> str:
    """From which step the run can be resumed."""
    step = checkpoint.newest_step(out / "checkpoints")
    return f"The same command resumes from step {step}." if step else "There is no checkpoint yet."
