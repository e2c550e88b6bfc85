"""What every arm is told on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from cells import CELLS, Case, Cell, data_folder, labelled, result_file


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of an arm."""

    name: str
    cell: Cell
    count: int
    seed: int
    budget: float
    train: Sequence[Case]
    rest: Sequence[Case]  # of the training part, without their labels
    val: Sequence[Case]
    test: Sequence[Case]


def parser(text: str) -> argparse.ArgumentParser:
    """Cell, labels, seed and budget."""
    found = argparse.ArgumentParser(description=text)
    found.add_argument("--cell", choices=CELLS, required=True)
    found.add_argument("--count", type=int, required=True, help="labelled patients")
    found.add_argument("--seed", type=int, default=0, help="of the labelled set and of the run")
    found.add_argument("--budget", type=float, help="CPU seconds; 300 in 2D and 600 in 3D unless said")
    found.add_argument("--try_out", action="store_true", help="few images, nothing is written")
    return found


def job_of(given: argparse.Namespace) -> Job:
    """The cases of a run."""
    cell = CELLS[given.cell]
    if given.count not in cell.counts and not given.try_out:
        raise SystemExit(f"--count {given.count}: {given.cell} has the cells {cell.counts}")
    parts = cell.find(data_folder())
    train = labelled(parts["train"], given.count, given.seed)
    few = 2 if given.try_out else None
    return Job(
        name=given.cell,
        cell=cell,
        count=given.count,
        seed=given.seed,
        budget=given.budget or cell.seconds,
        train=train,
        rest=[case for case in parts["train"] if case not in train][:few],
        val=parts["val"][:few],
        test=parts["test"][:few],
    )


def is_done(arm: str, given: argparse.Namespace) -> bool:
    """Whether another session has the result already."""
    path = result_file(arm, given.cell, given.count, given.seed, given.budget or CELLS[given.cell].seconds)
    if path.exists() and not given.try_out:
        print(f"{path.name} is there")
        return True
    return False
