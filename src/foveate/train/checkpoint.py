"""Checkpoints: written whole or not at all, the last K kept, a broken one skipped with a word."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

PATTERN = "step-*.ckpt"
BEST = "best.ckpt"


def path_of(folder: Path, step: int) -> Path:
    """The file of a step."""
    return folder / f"step-{step:09d}.ckpt"


def step_of(path: Path) -> int:
    """The step of a file.

    >>> step_of(path_of(Path("x"), 25))
    25
    """
    return int(path.stem.split("-")[1])


def save(fabric: Fabric, folder: Path, state: dict[str, Any], keep: int) -> Path:
    """Write the state of `state["step"]`, then drop all but the newest `keep` checkpoints."""
    path = write(fabric, path_of(folder, state["step"]), state)
    if fabric.is_global_zero:
        for old in sorted(folder.glob(PATTERN))[:-keep]:
            old.unlink()
    fabric.barrier()
    return path


def save_best(fabric: Fabric, folder: Path, state: dict[str, Any]) -> Path:
    """Write weights that are better than all before them, in the place of those."""
    path = write(fabric, folder / BEST, state)
    fabric.barrier()
    return path


def write(fabric: Fabric, path: Path, state: dict[str, Any]) -> Path:
    """Write a file whole or not at all."""
    partial = path.with_suffix(".partial")
    fabric.save(partial, state)
    if fabric.is_global_zero:
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    return path


def load_newest(fabric: Fabric, folder: Path, state: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Fill `state` from the newest readable checkpoint; False where there is none."""
    for path in readable(folder, say):
        fabric.load(path, state, weights_only=True)
        return True
    return False


def readable(folder: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Checkpoints newest first, without those that cannot be read."""
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            torch.load(path, map_location="meta", weights_only=True, mmap=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
            say(f"checkpoint {path.name} is incomplete or damaged; it is skipped and an older one is used.")
            continue
        yield path


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint file, 0 where there is none."""
    return max((step_of(path) for path in folder.glob(PATTERN)), default=0)
