"""A comparison: every run of the grid, one after the other, each left as a file; then the report."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from foveate.commands.compare import held, report as compare_report, work
from foveate.commands.compare.arms import LONG
from foveate.commands.compare.cells import carried, place_of, take_over
from foveate.commands.compare.config import CompareConfig
from foveate.commands.compare.cost import hours, measure_missing, seconds, step_of
from foveate.commands.compare.fair import check_count, check_inputs
from foveate.commands.compare.folder import BUDGET, CELLS, PATIENCE, RUNS, Bench, StoppedError
from foveate.commands.compare.gpus import claimed
from foveate.commands.compare.grid import Job, example, split_of, working_jobs
from foveate.core.files import read_json
from foveate.core.types import Ending, spelled
from foveate.train.logging import CONSOLE

EARLIEST = 60.0  # seconds until the report is first written while runs go on
SHARE = 0.02  # of the time at most goes into writing it

OWN = Console(stderr=True, highlight=False, soft_wrap=True)


def compare(config: CompareConfig) -> Ending:
    """Work through the grid and report; 0 done, 1 some runs failed, 130 stopped by a signal."""
    bench = Bench(config)
    bench.open()
    with claimed(config, bench.out, OWN) as bench.gpus:
        return worked_through(bench)


def worked_through(bench: Bench) -> Ending:
    """Every run that is left, on this process's GPU; then the report."""
    config = bench.config
    with quiet():
        check_fair(bench)
        measure_missing(bench, keep=True, before=carried(bench))
    jobs = working_jobs(config)
    if config.grid.cells:
        OWN.print(take_over(bench), markup=False)
    todo = left_of(bench, jobs)
    OWN.print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are done, about {hours(bench, todo):.1f} h left")
    stopped = False
    try:
        work_through(bench, todo, len(jobs))
    except StoppedError:
        stopped = True
    finally:
        OWN.print(compare_report.write(config, bench.out), markup=False)
    failed = [job for job in jobs if bench.failure(job)]
    if failed:
        OWN.print(f"{len(failed)} runs failed; the same command tries them again")
    if stopped:
        return Ending.STOPPED
    return Ending.INCOMPLETE if failed else Ending.FINISHED


def check_fair(bench: Bench) -> None:
    """Refuse what would make the comparison unfair, before anything is computed."""
    for name, task in bench.config.tasks.items():
        held.held_out(bench, name)
        check_inputs(bench.config, name)
        if task.count == "cases":
            split, _ = split_of(example(bench.config, name, bench.out / RUNS / "none"))
            check_count(name, split["train"])


def left_of(bench: Bench, jobs: Sequence[Job]) -> list[Job]:
    """The runs that are not finished, and the pre-trainings that these need and whose weights are gone."""
    open_ones = [job for job in jobs if not done(bench, job)]
    starts = {need for job in open_ones for need in bench.needs(job) if need.kind == "pretrain"}
    return [job for job in jobs if job in open_ones or (job in starts and not bench.has_weights(job))]


def done(bench: Bench, job: Job) -> bool:
    """Whether a run is finished with its current configuration."""
    return (bench.out / CELLS / f"{job.name}.json").exists() and bench.cell(job) is not None


def work_through(bench: Bench, todo: Sequence[Job], total: int) -> None:
    """Do the remaining runs, with one progress display; stops when the time is up.

    Runs that another process of the same comparison is at work on are passed over, with those that start from
    them, and looked at again: whoever is free takes what can be done.
    """
    started, finished = time.monotonic(), total - len(todo)
    limit = bench.config.grid.budget_minutes * 60
    pace, drafts, waiting, said = Pace(), Drafts(bench), list(todo), False
    with display(total, finished) as shown:
        while waiting:
            passed: list[Job] = []
            for place, job in enumerate(waiting):
                if limit and time.monotonic() - started > limit:
                    OWN.print(f"stopped after {limit / 60:g} minutes: the same command resumes from here")
                    return
                with bench.claim(job.name) as free:
                    if not free or any(need in passed or bench.is_taken(need) for need in bench.needs(job)):
                        passed.append(job)
                        continue
                    left = sum(pace.expected(bench, each) for each in [*passed, *waiting[place:]])
                    shown(finished, job.name, left)
                    again = job.kind == "pretrain" and not bench.has_weights(job)
                    finished += (done(bench, job) and not again) or attempt(bench, job, pace)
                drafts.keep_up()
            if len(passed) == len(waiting):
                if not said:
                    OWN.print(
                        f"waiting for other processes, which do the last {len(passed)} runs or what they need"
                    )
                said = True
                time.sleep(PATIENCE)
            waiting = passed
        shown(finished, "", 0.0)


@final
class Drafts:
    """The report of the runs so far: what a comparison that is killed leaves behind."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.due = bench, time.monotonic() + EARLIEST

    def keep_up(self) -> None:
        """Write it, unless that would take too large a share of the time."""
        before = time.monotonic()
        if before >= self.due:
            compare_report.write(self.bench.config, self.bench.out)
            spent = time.monotonic() - before
            self.due = time.monotonic() + max(EARLIEST, spent / SHARE)


def attempt(bench: Bench, job: Job, pace: Pace) -> bool:
    """Do a run; if it fails, print and keep the reason."""
    before = time.monotonic()
    try:
        with quiet():
            work.work(bench, job)
    except StoppedError:
        raise
    except Exception as error:
        OWN.print(spelled(f"failed: {job.name}: {bench.fail(job, error)}"), markup=False)
        shutil.rmtree(bench.out / RUNS / job.name / "previews", ignore_errors=True)
        return False
    pace.took(job, time.monotonic() - before)
    return True


@final
class Pace:
    """Expected time of a run: the mean of finished runs of its kind, else its training steps."""

    def __init__(self) -> None:
        self.seen: dict[Any, list[float]] = defaultdict(list)

    def took(self, job: Job, spent: float) -> None:
        """One more."""
        self.seen[self.kind(job)].append(spent)

    def expected(self, bench: Bench, job: Job) -> float:
        """Seconds of a run that is to come."""
        seen = self.seen.get(self.kind(job))
        return sum(seen) / len(seen) if seen else seconds(bench, job)

    def kind(self, job: Job) -> tuple[str, ...]:
        """What takes about as long."""
        long = LONG if job.arm == LONG else ""
        return job.task, job.kind, job.way, job.arm if job.kind == "pretrain" else long


@contextlib.contextmanager
def display(total: int, finished: int) -> Iterator[Any]:
    """A bar, or a line for every run where there is no terminal."""
    columns = (BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=OWN, disable=not OWN.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=finished)

        def show(count: int, name: str, left: float) -> None:
            text = f"{timedelta(seconds=round(left))} left: {name}" if name else "done"
            bar.update(task, completed=count, description=text)
            if not OWN.is_terminal:
                OWN.print(f"{count}/{total} {text}", markup=False)

        yield show


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside the context runs print nothing in the terminal; their logs are kept."""
    before, CONSOLE.quiet = CONSOLE.quiet, True
    try:
        yield
    finally:
        CONSOLE.quiet = before


def dry_run(config: CompareConfig) -> str:
    """The grid, its runs and their hours from measured steps; nothing is written."""
    bench = Bench(config)
    bench.gpus = config.grid.devices[:1]
    bench.budget = read_json(bench.out / BUDGET) or {}
    with quiet():
        check_fair(bench)
        measure_missing(bench, keep=False, before=carried(bench))
    jobs, folders = working_jobs(config), [bench.out]
    folders += [Path(config.grid.cells)] if config.grid.cells else []
    left = [job for job in jobs if not any(place_of(folder, job).exists() for folder in folders)]
    lines = [f"{'task':<16}{'arm':<24}{'runs':>6}{'s/step':>9}{'hours':>8}"]
    for task in config.tasks:
        for arm in config.working:
            mine = [job for job in jobs if (job.task, job.arm) == (task, arm)]
            known, kind = bench.budget[task]["seconds"], "pretrain" if arm in config.pretrained else "test"
            step = (step_of(known, arm, kind) or [math.nan])[0]
            lines.append(f"{task:<16}{arm:<24}{len(mine):>6}{step:>9.3f}{hours(bench, mine):>8.2f}")
        lines.append(f"{task}: {bench.long_steps(task)} fine-tuning steps for {LONG}")
    total = {kind: sum(job.kind == kind for job in jobs) for kind in ("pretrain", "choice", "test")}
    lines.append(
        f"{len(jobs)} runs ({total['pretrain']} pre-trainings, {total['choice']} to choose learning rates, "
        f"{total['test']} tested), about {hours(bench, jobs):.1f} h, of which {len(left)} are left, about "
        f"{hours(bench, left):.1f} h; nothing was written"
    )
    return "\n".join(lines)
