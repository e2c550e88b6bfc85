"""What a run says: metrics.jsonl for machines, train.log and a progress bar for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line to the terminal, above a progress bar where there is one."""
    CONSOLE.print(text, markup=False)


class RunLog:
    """Writes the log files of a run folder and shows its progress; silent on ranks other than 0."""

    def __init__(self, folder: Path, total: int, *, active: bool = True, verb: str = "pre-training") -> None:
        self.folder, self.total, self.active = folder, total, active
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=CONSOLE,
            disable=not (active and CONSOLE.is_terminal),
        )
        self.task = self.bar.add_task(verb, total=total, state="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.bar.stop()

    def resume_at(self, step: int) -> None:
        """Drop metrics of steps that the checkpoint does not hold: they will be written again."""
        path = self.folder / "metrics.jsonl"
        self.bar.update(self.task, completed=step)
        if self.active and path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if is_before(line, step)]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            partial.replace(path)

    def note(self, text: str) -> None:
        """A line for people, in the terminal and in train.log. Holds no file name and no identity."""
        if self.active:
            say(text)
            with (self.folder / "train.log").open("a", encoding="utf-8") as stream:
                stream.write(f"{text}\n")

    def metrics(self, row: Mapping[str, float]) -> None:
        """A line for machines; progress for people."""
        if not self.active:
            return
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        summary = (
            f"loss {row['loss']:.4f}, {row['seconds_per_step']:.2f} s/step, {row['data_wait']:.0%} waiting"
        )
        self.bar.update(self.task, completed=row["step"], state=summary)
        if not CONSOLE.is_terminal:
            left = timedelta(seconds=round((self.total - row["step"]) * row["seconds_per_step"]))
            say(f"step {row['step']}/{self.total}: {summary}, {left} left")

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of validation metrics for machines, and for people."""
        if not self.active:
            return
        known = {
            name: value if math.isfinite(value) else None for name, value in metrics.items()
        }  # JSON has no NaN
        row = {"step": step, **{f"val/{name}": value for name, value in known.items()}}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "score")
        say(f"step {step}/{self.total}: validation: {shown}")

    def advance(self, step: int) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=step)


def is_before(line: str, step: int) -> bool:
    """Whether a metrics line is whole and belongs to a step up to `step`."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
