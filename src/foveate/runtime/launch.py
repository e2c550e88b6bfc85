"""Several processes on this machine under one that watches them: it passes signals on and speaks for all.

Fabric can start processes too, but starts its own script again, kills without a word, and leaves the rest
alone when the first one dies. Started by torchrun or SLURM, none of this is used: they watch.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from foveate.core import config as parsing
from foveate.core.types import Ending, FoveateError
from foveate.runtime.config import RunConfig
from foveate.runtime.processes import check_processes, starter
from foveate.train import checkpoint
from foveate.train.logging import say

GRACE_SECONDS = 10.0  # for the others to notice that one is gone, before they are killed
POLL_SECONDS = 0.05
# How the process of a run ends; 1 is a crash of Python here.
ENDINGS = {ending.value: ending for ending in (Ending.FINISHED, Ending.STOPPED, Ending.REQUEUE)}
Process = subprocess.Popen[bytes]


@final
@dataclass(frozen=True, kw_only=True)
class Words:
    """What a process said when it ended: lost ones only noticed that another did."""

    lost: bool
    text: str


def needs_processes(config: RunConfig) -> bool:
    """Whether a run of several processes is still one."""
    check_processes(config)
    return config.devices * config.num_nodes > 1 and starter() == "nobody"


def run_processes(entry: str, config: RunConfig) -> Ending:
    """Start the processes of this machine, wait for them, and end as they do.

    Raises:
        FoveateError: what the process that failed first had to say.
    """
    with tempfile.TemporaryDirectory(prefix="foveate-") as scratch:
        (Path(scratch) / "config.yaml").write_text(parsing.to_yaml(config), encoding="utf-8")
        shared = environment(config)
        processes = [start(entry, Path(scratch), shared, rank) for rank in range(config.devices)]
        try:
            with passed_on(processes) as received:
                first = wait(processes)
        finally:
            kill(processes)
        codes = [process.wait() for process in processes]
        words = {rank: read_words(Path(scratch), rank) for rank in range(config.devices)}
    heard = {rank: each for rank, each in words.items() if each}
    return judged(codes, heard, first=first, received=received, out=Path(config.out))


def environment(config: RunConfig) -> dict[str, str]:
    """What all processes of this machine are told of each other."""
    known = dict(os.environ)
    if config.num_nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= set(known):
        raise FoveateError(
            f"--num_nodes {config.num_nodes} without torchrun or SLURM: set MASTER_ADDR (the first machine), "
            "MASTER_PORT (a free one there) and NODE_RANK (0, 1 ... one per machine), and start the same "
            "command on every machine."
        )
    threads = str(max(1, own_cpus() // config.devices))
    return {
        "OMP_NUM_THREADS": threads,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "NODE_RANK": "0",
        **known,
        "WORLD_SIZE": str(config.devices * config.num_nodes),
    }


def own_cpus() -> int:
    """The CPUs that this process may run on: those of its job, where SLURM or a container gives it some."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(entry: str, scratch: Path, shared: dict[str, str], rank: int) -> Process:
    """One process, in a session of its own: Ctrl-C reaches it through this one, once.

    Its standard input ends when this process does, however that happens.
    """
    command = [sys.executable, "-m", "foveate.runtime.rank", entry, str(scratch)]
    known = shared | {"LOCAL_RANK": str(rank)}
    return subprocess.Popen(command, env=known, stdin=subprocess.PIPE, start_new_session=True)


@contextmanager
def passed_on(processes: Sequence[Process]) -> Iterator[list[int]]:
    """Inside the context signals go to every process; which ones came."""
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
    """A signal to all that live."""
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(number)


def wait(processes: Sequence[Process]) -> int:
    """Until all ended; once one failed the others have a grace. The first to fail, else 0."""
    deadline, first = float("inf"), 0
    while None in (codes := [process.poll() for process in processes]) and time.monotonic() < deadline:
        failed = [rank for rank, code in enumerate(codes) if code not in (None, *ENDINGS)]
        if failed and deadline == float("inf"):
            deadline, first = time.monotonic() + GRACE_SECONDS, failed[0]
        time.sleep(POLL_SECONDS)
    return first


def kill(processes: Sequence[Process]) -> None:
    """End what still runs."""
    send([process for process in processes if process.poll() is None], signal.SIGKILL)
    for process in processes:
        process.wait()
        if process.stdin:
            process.stdin.close()


def write_words(scratch: Path, rank: int, words: Words) -> None:
    """Leave a message for the watching process."""
    path = scratch / f"words-{rank}.json"
    path.write_text(json.dumps({"lost": words.lost, "text": words.text}), encoding="utf-8")


def read_words(scratch: Path, rank: int) -> Words | None:
    """The message of a process, where it left one."""
    path = scratch / f"words-{rank}.json"
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Words(lost=found["lost"], text=found["text"])
    return None


def judged(
    codes: Sequence[int], words: dict[int, Words], *, first: int, received: Sequence[int], out: Path
) -> Ending:
    """How the run ended, or the one message of a run that failed."""
    if all(code in ENDINGS for code in codes):
        return ENDINGS[max(codes, key=lambda code: (code == Ending.REQUEUE.value, code))]
    causes = {rank: each.text for rank, each in words.items() if not each.lost}
    if causes:
        rank, text = next(iter(causes.items()))
        whole = len(causes) == len(codes) and set(causes.values()) == {text}
        raise FoveateError(text if whole else f"Process {rank} of {len(codes)}: {text} All were ended.")
    if received and all(code in ENDINGS or -code in received or code == 2 for code in codes):
        say("stopped on a signal before the first step; the same command starts again.")
        return Ending.REQUEUE if signal.SIGUSR1 in received else Ending.STOPPED
    raise FoveateError(f"{death(codes, words, first)} All were ended. {standing(out)}")


def death(codes: Sequence[int], words: dict[int, Words], first: int) -> str:
    """Which process ended without a word of its own, and how."""
    silent = [rank for rank, code in enumerate(codes) if rank not in words and code not in ENDINGS]
    if not silent:
        return "A process on another machine ended or cannot be reached; what it said there tells why."
    rank = first if first in silent else silent[0]
    if codes[rank] >= 0:
        why = f"failed with exit code {codes[rank]}; its traceback stands above"
    else:
        memory = codes[rank] == -signal.SIGKILL
        more = ", most often for want of memory (lower --batch_size or --num_workers)" if memory else ""
        why = f"was ended by {signal.Signals(-codes[rank]).name}{more}"
    return f"Process {rank} of {len(codes)} {why}."


def standing(out: Path) -> str:
    """What is left to go on from."""
    step = checkpoint.newest_step(out / "checkpoints")
    return f"The same command goes on from step {step}." if step else "There is no checkpoint yet."
