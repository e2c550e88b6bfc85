"""Progress of what takes time, for people: a bar on a terminal, else (SLURM, nohup) a line a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from foveate.train.logging import CONSOLE, say

LINE_SECONDS = 60.0
REDRAW_SECONDS = 0.2

OnProgress = Callable[[int, int], None]  # how many are done, of how many; of 0: nobody knows


@final
@dataclass
class Lines:
    """Which lines of one piece of work are due: none before a minute, then one a minute.

    Attributes:
        what: The work.
        started: When it began.
    """

    what: str
    started: float
    first: int = -1  # how many were done at the first report: they took no time of this run
    spoken: float = field(init=False)

    def __post_init__(self) -> None:
        self.spoken = self.started

    def line(self, done: int, total: int, now: float) -> str:
        """The line of this moment, "" where none is due."""
        self.first = done if self.first < 0 else self.first
        if now - self.spoken < LINE_SECONDS:
            return ""
        self.spoken = now
        if not total:
            return f"{self.what}: {done}"
        mine = done - self.first
        left = (now - self.started) / mine * (total - done) if mine else 0.0
        words = f", {timedelta(seconds=round(left))} left" if mine and done < total else ""
        return f"{self.what}: {done} of {total}{words}"


@final
class Shown:
    """Progress of several pieces of work, one after the other; call it with what, how many, of how many."""

    def __init__(self, bar: Progress, clock: Callable[[], float], speak: Callable[[str], None]) -> None:
        self.bar, self.clock, self.speak = bar, clock, speak
        self.tasks, self.lines, self.drawn = dict[str, TaskID](), dict[str, Lines](), 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how much is done; a total of 0 means unknown."""
        now = self.clock()
        if self.bar.disable:
            if text := self.lines.setdefault(what, Lines(what, now)).line(done, total, now):
                self.speak(text)
            return
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=None)
        self.bar.update(self.tasks[what], completed=done, total=total or None)
        if now - self.drawn > REDRAW_SECONDS:
            self.drawn = now
            self.bar.refresh()


@contextmanager
def shown(
    clock: Callable[[], float] = time.monotonic, speak: Callable[[str], None] = say, *, active: bool = True
) -> Iterator[Shown]:
    """A bar while the block runs; without a thread of its own, because worker processes are forked.

    `active`: whether this process speaks; of several that do the same work one does.
    """
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn())
    hidden = not (active and CONSOLE.is_terminal)
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=CONSOLE,
        auto_refresh=False,
        transient=True,
        disable=hidden,
    )
    with nullcontext() if hidden else bar:  # earlier rich prints an empty line at the end of a hidden one
        yield Shown(bar, clock, speak if active else lambda _text: None)


@contextmanager
def progress(what: str, total: int = 0, *, active: bool = True) -> Iterator[OnProgress]:
    """Progress of one piece of work; yields the function to call with how many are done, of how many."""
    with shown(active=active) as show:
        show(what, 0, total) if total else None
        yield lambda done, of: show(what, done, of)


@contextmanager
def counted(what: str, total: int, *, active: bool = True) -> Iterator[Callable[[], None]]:
    """Progress of one piece of work; yields the function that counts one more."""
    done = 0
    with progress(what, total, active=active) as show:

        def advance() -> None:
            nonlocal done
            done += 1
            show(done, total)

        yield advance
