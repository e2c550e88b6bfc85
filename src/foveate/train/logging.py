"""The log of a run: metrics.jsonl for machines, train.log and a progress bar for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from foveate.core.processes.claims import claim
from foveate.core.types import FoveateError, spelled
from foveate.train.loggers import open_loggers
from foveate.train.remaining import Remaining
from foveate.train.verdicts import ADVICE, Judge, Verdict

LOCK = ".lock"  # empty; held while a process writes to the run
CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, *, lines: bool = False) -> None:
    """One line to the terminal, or several; above a progress bar where there is one.

    Names of files may hold anything: what is no letter is spelled out, so that none of it acts on a terminal.
    """
    CONSOLE.print(spelled(text, keep="\n" * lines), markup=False, emoji=False)


class RunLog:
    """Writes the log files of a run folder and shows its progress; silent on ranks other than 0."""

    def __init__(
        self,
        folder: Path,
        total: int,
        active: bool = True,
        *,
        verb: str = "pre-training",
        loggers: str = "",
    ) -> None:
        self.folder, self.total, self.active = folder, total, active
        self.loggers = open_loggers(loggers, folder) if active else []
        self.judge, self.standing = Judge(total), set[str]()
        self.judged = False
        self.held = ExitStack()
        self.remaining = Remaining(total=total)
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=CONSOLE,
            disable=not (active and CONSOLE.is_terminal),
        )
        self.task = self.bar.add_task(verb, total=total, state="")

    def __enter__(self) -> Self:
        if self.active and not self.held.enter_context(claim(self.folder / LOCK)):
            raise FoveateError(
                f"--out {self.folder}: another process is at work on this run; accepted: wait until it has "
                "ended, or another --out."
            )
        self.bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.bar.stop()
        for logger in self.loggers:
            logger.close()
        self.held.close()

    def resume_at(self, step: int) -> None:
        """Drop metrics of steps that the checkpoint does not hold: they will be written again."""
        path = self.folder / "metrics.jsonl"
        self.bar.update(self.task, completed=step)
        if self.active and path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if is_before(line, step)]
            for line in kept:
                row = json.loads(line)
                self.judged |= "health_seconds" in row
                self.standing = {f"{each.kind} {each.where}" for each in self.judge.see(row)}
            partial = path.with_suffix(".partial")
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            partial.replace(path)

    def note(self, text: str) -> None:
        """A line for people, in the terminal and in train.log. Holds no file name and no identity."""
        if self.active:
            say(text, lines=True)
            with (self.folder / "train.log").open("a", encoding="utf-8") as stream:
                stream.write(f"{text}\n")

    def record(self, row: Mapping[str, Any]) -> None:
        """A line for machines: metrics.jsonl, with what the judge says of it, and every other logger."""
        row = {name: value if is_number(value) else None for name, value in row.items()}  # JSON has no NaN
        verdicts = self.judge.see(row)
        measured = "health_seconds" in row
        words = "; ".join(each.text for each in verdicts) or ("healthy" if measured else "")
        spoken = {**row, "verdict": words} if words else row
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(spoken) + "\n")
        for logger in self.loggers:
            logger.metrics(row)
        self.announce(verdicts, int(row["step"] or 0), measured)

    def announce(self, verdicts: list[Verdict], step: int, measured: bool) -> None:
        """Say what is new: a verdict that did not stand before, the first healthy measurement, a recovery."""
        new = [each for each in verdicts if f"{each.kind} {each.where}" not in self.standing]
        for kind in dict.fromkeys(each.kind for each in new):
            words = "; ".join(each.text for each in new if each.kind == kind)
            self.note(f"health at step {step}: {words}. To do: {ADVICE[kind]}.")
        if not verdicts and (self.standing or (measured and not self.judged)):
            self.note(f"health at step {step}: healthy")
        self.standing = {f"{each.kind} {each.where}" for each in verdicts}
        self.judged |= measured

    def measured(self, row: Mapping[str, Any]) -> None:
        """A line of health or of anything else that has no progress of its own."""
        if self.active:
            self.record(row)

    def metrics(self, row: Mapping[str, float]) -> None:
        """A line for machines; progress for people."""
        if not self.active:
            return
        self.record(row)
        self.remaining.stepped(row["seconds_per_step"])
        summary = (
            f"loss {row['loss']:.4f}, {row['seconds_per_step']:.2f} s/step, {row['data_wait']:.0%} waiting, "
            f"{self.remaining.shown(int(row['step']))}"
        )
        self.bar.update(self.task, completed=row["step"], state=summary)
        if not CONSOLE.is_terminal:
            say(f"step {row['step']}/{self.total}: {summary}")

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of validation metrics for machines, and for people."""
        if not self.active:
            return
        self.record({"step": step, **{f"val/{name}": value for name, value in metrics.items()}})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "score")
        say(f"step {step}/{self.total}: validation: {shown}")

    def advance(self, step: int) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=step)


def is_number(value: float) -> bool:
    """Whether a value can be written down."""
    return math.isfinite(value)


def is_before(line: str, step: int) -> bool:
    """Whether a metrics line is whole and belongs to a step up to `step`."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
