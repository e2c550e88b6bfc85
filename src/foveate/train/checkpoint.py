"""Checkpoints: written whole or not at all, the last K kept, a damaged one skipped, with a message."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from foveate.core.types import FoveateError, LostPeerError
from foveate.train.peers import Peers
from foveate.train.seal import DamagedError, check, seal

PATTERN = "step-*.ckpt"
BEST = "best.ckpt"
OLDER = "An older one is used where there is one."


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
    """Write a file with its checksum, whole or not at all."""
    partial = path.with_suffix(".partial")
    fabric.strategy.checkpoint_io = Beside()
    try:
        fabric.save(partial, state)
        if fabric.is_global_zero:
            seal(partial)
            partial.replace(path)
    except OSError:  # a full disk: what lies there is of no use, and the room is needed
        partial.unlink(missing_ok=True)
        raise
    return path


class Beside(TorchCheckpointIO):
    """Writes a file where it is asked to; Fabric's own goes by the machine's folder for temporary files."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Through memory: torch says of a disk that is full nothing that tells it from a bug."""
        del storage_options  # of stores that are no file systems
        content = BytesIO()
        torch.save(checkpoint, content)
        with Path(path).open("wb") as stream:
            stream.write(content.getbuffer())


@dataclass(frozen=True, kw_only=True)
class Found:
    """The checkpoint that process 0 found, from which all processes resume.

    Attributes:
        name: The newest good checkpoint; empty where there is none at all.
        best: Whether the best weights are there and good.
        problem: Why the run cannot go on; else empty.
    """

    name: str = ""
    best: bool = True
    problem: str = ""


def load_newest(fabric: Fabric, folder: Path, state: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Fill `state` from the newest good checkpoint; False where there is none at all.

    Raises:
        FoveateError: there are some, and all are damaged.
    """
    found = Peers(fabric).from_first(find(folder, state, say) if fabric.is_global_zero else Found())
    if found.problem:
        lost = LostPeerError("Process 0 found no good checkpoint.")
        raise FoveateError(found.problem) if fabric.is_global_zero else lost
    if not found.name:
        return False
    fabric.load(folder / found.name, state, weights_only=True)
    if not found.best and state["best"] > -math.inf:
        say(
            f"{BEST} is missing or damaged: the best weights until now, with the score {state['best']:.4f}, "
            "are lost. From here on the best are kept anew."
        )
        state["best"] = -math.inf
    return True


def find(folder: Path, state: Mapping[str, Any], say: Callable[[str], None]) -> Found:
    """The newest good checkpoint; newer ones that are damaged get another name, so as to count no more."""
    damaged: list[Path] = []
    files = sorted(folder.glob(PATTERN), reverse=True)
    for path in files:
        try:
            check_readable(path, say)
        except OSError as error:  # perhaps for the moment only
            say(f"checkpoint {path.name} cannot be read ({error.strerror}); it is skipped. {OLDER}")
        except DamagedError as error:
            say(f"checkpoint {path.name} is incomplete or damaged; it is skipped: {error}. {OLDER}")
            damaged.append(path)
        else:
            for each in damaged:
                each.replace(each.with_suffix(".damaged"))
            return Found(name=path.name, best="best" not in state or is_good(folder / BEST, say))
    return Found(problem=without_any(folder, len(files))) if files else Found()


def check_readable(path: Path, say: Callable[[str], None]) -> None:
    """Raise if a file is damaged; say so if it has no checksum to check that by."""
    if not check(path):
        say(f"checkpoint {path.name} carries no checksum (an older version wrote it); its CRC-32 are right.")
    try:
        torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
        raise DamagedError("torch cannot read it") from None


def is_good(path: Path, say: Callable[[str], None]) -> bool:
    """Whether a file is there and as it was written."""
    try:
        check_readable(path, say)
    except (OSError, DamagedError):
        return False
    return True


def without_any(folder: Path, count: int) -> str:
    """What to do where no checkpoint is good."""
    return (
        f"None of the {count} checkpoints in {folder} can be used: all are damaged or cannot be read. Put "
        f"one of them back from a backup ({PATTERN}), or remove them to start this run again from step 0, or "
        "choose another --out. Nothing was changed."
    )


def read_best(folder: Path) -> dict[str, Any] | None:
    """The best weights with their step and score; None where there are none.

    Raises:
        FoveateError: the file is damaged.
    """
    path = folder / BEST
    if not path.exists():
        return None
    try:
        check(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (DamagedError, RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise FoveateError(
            f"{path} is damaged ({first_line(error)}), so the best weights of this run are lost, and nothing "
            "was exported. Put it back from a backup; or remove it, and the same command exports the weights "
            "of the last step; or say a larger --steps, and the best from there on are kept."
        ) from None
    return state


def newest_finite(folder: Path) -> str:
    """Which checkpoint is good, in words; those after it are named, for a run would go on from them."""
    others: list[str] = []
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            check(path)
            weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]
        except (DamagedError, RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError):
            continue  # a run skips it, too
        if are_finite(weights):
            bad = f"; {' and '.join(others)} holds others: move it away to go on" if others else ""
            return f"{path.name} is the newest checkpoint with finite weights{bad}"
        others.append(path.name)
    return "there is no checkpoint with finite weights"


def are_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether no value of any tensor is infinite or not a number."""
    every = [torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point()]
    return not every or bool(torch.stack(every).all())


def first_line(error: Exception) -> str:
    """What an exception says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint file, 0 where there is none."""
    return max((step_of(path) for path in folder.glob(PATTERN)), default=0)
