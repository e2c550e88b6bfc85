"""Every command that writes, on images of seconds, each in a process of its own that may be harmed."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import re
import select
import shutil
import signal
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from foveate.cli import OWN, main
from foveate.testing.cohorts import write_labelled

Before = Callable[[], object]
MARK = "FOVEATE_TRIAL"  # in the environment of every program that a command starts
HISTORY = ("train.log", "scan.sqlite")  # which know how often a command was given
DRAWN = re.compile("[0-9a-f]{32}")  # names in a cache
PATIENCE = 10.0  # seconds in which processes that lost their parent must end
HANGS = 900.0  # seconds after which a command is ended
GRID = "[16,16,16]"
SHORT = "--size small --steps 4 --batch_size 2 --log_every 1 --encoder.width 4 --accelerator cpu"
PRETRAIN = (
    f"{SHORT} --save_every 1 --num_workers 2 --method context_restoration --method.global_crops.grid {GRID} "
    f"--method.global_crops.source_sizes [{GRID}] --preview_every 2 --health_every 2"
)
FINETUNE = (
    f"{SHORT} --validate_every 2 --num_workers 2 --task segmentation --init none --task.crops.grid {GRID} "
    f"--task.crops.source_sizes [{GRID}] --split.val_share 0.25 --split.test_share 0.25"
)
WORDS = {  # in the order in which they need each other; each writes OUT/NAME
    "scan": "scan DATA --num_workers 2",
    "split": "split DATA/images",
    "prepare": "prepare --data DATA/images --num_workers 2",
    "pretrain": f"pretrain --data DATA/images {PRETRAIN}",
    "finetune": f"finetune --data DATA {FINETUNE}",
    "predict": "predict --run OUT/finetune --data DATA/images --accelerator cpu",
    "evaluate": "evaluate --run OUT/finetune --data DATA --draws 20 --accelerator cpu",
    "embed": "embed --run OUT/pretrain --data DATA/images --pictures 4",
    "export": "export OUT/pretrain --format huggingface --force true",
    "convert": "convert OUT/pretrain --in_channels 2",
    "report": "report OUT/pretrain",
    "compare": "compare --config DATA/compare.yaml",
}
CACHE, BOUND = "foveate-cache", "finetune"  # the split of such a run goes by the names in its cache
FILES = {"convert": "new.safetensors", "report": "report.html"}  # commands that write a file, not a folder


@dataclass(frozen=True)
class Whole:
    """What a command leaves where nothing happens: files, and hashes of those that are always the same."""

    names: Mapping[str, int]
    hashes: Mapping[str, list[str]]
    seconds: float


class Arena:
    """Images, and what the commands make of them, below FOLDER/inside; logs and copies are beside it."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        for command in OWN:  # once, not in every process
            importlib.import_module(command.run.partition(":")[0])
        self.inside, self.aside = folder / "inside", folder / "aside"
        self.out, self.data = self.inside / "out", self.inside / "data"
        for place in (self.out, self.aside):
            place.mkdir(parents=True, exist_ok=True)
        if not self.data.exists():
            write_labelled(self.data, 3)
            write_comparison(self.data)
        self.whole: dict[str, Whole] = {}

    def words(self, name: str) -> list[str]:
        """The command line of a command."""
        text = WORDS[name].replace("DATA", str(self.data)).replace("OUT", str(self.out))
        return [*text.split(), "--out", str(self.out / name / FILES.get(name, ""))]

    def look(self, name: str) -> Whole:
        """Run a command twice undisturbed, and keep what both have left."""
        found = []
        for _ in range(2):
            self.clean(name)
            started = time.monotonic()
            code = self.ends(self.start(name))
            if code:
                raise SystemExit(f"{name} ends with {code}: {self.said(name)}")
            found.append((self.hashes(name), time.monotonic() - started))
        (first, _), (second, seconds) = found
        same = {path: value for path, value in second.items() if first.get(path) == value}
        self.whole[name] = Whole({path: len(value) for path, value in second.items()}, same, seconds)
        keep = self.aside / name
        shutil.rmtree(keep, ignore_errors=True)
        shutil.copytree(self.out / name, keep)
        if name == BOUND:
            shutil.copytree(self.out / CACHE, self.aside / CACHE, dirs_exist_ok=True)
        return self.whole[name]

    def clean(self, name: str, cache: bool = True) -> None:
        """Remove what a command wrote, and the decoded images."""
        shutil.rmtree(self.out / name, ignore_errors=True)
        if name in FILES:
            (self.out / name).mkdir()
        if cache or name == "evaluate":
            shutil.rmtree(self.out / CACHE, ignore_errors=True)
        if name == "evaluate":
            shutil.copytree(self.aside / CACHE, self.out / CACHE)

    def restore(self, name: str) -> None:
        """Put back what others start from."""
        shutil.rmtree(self.out / name, ignore_errors=True)
        shutil.copytree(self.aside / name, self.out / name)

    def start(self, name: str, before: Before | None = None, after: Before | None = None) -> int:
        """A process that runs a command, first of a session of its own; what it says goes into a file."""
        if child := os.fork():
            return child
        code = 99
        try:
            os.setsid()
            os.environ[MARK] = str(os.getpid())
            log = os.open(self.aside / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for stream in (1, 2):
                os.dup2(log, stream)
            if before:
                before()
            code = main(self.words(name))
            if after:
                after()
        except BaseException:  # what would end the program
            traceback.print_exc()
        finally:
            os._exit(code)

    def ends(self, child: int) -> int:
        """What a process ends with; one that hangs is killed."""
        over = os.pidfd_open(child)
        if not select.select([over], [], [], HANGS)[0]:
            os.killpg(child, signal.SIGKILL)
        os.close(over)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def said(self, name: str) -> str:
        """What a command printed."""
        return (self.aside / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def hashes(self, name: str) -> dict[str, list[str]]:
        """Every file that a command left; those that are called by chance go by one name."""
        folder, found = self.out / name, defaultdict[str, list[str]](list)
        for path in folder.rglob("*"):
            if path.is_file() and path.name not in HISTORY:
                known = DRAWN.sub("*", str(path.relative_to(folder)))
                found[known].append(hashlib.sha256(content(path)).hexdigest())
        return {known: sorted(each) for known, each in found.items()}

    def wrong(self, name: str) -> list[str]:
        """What is not as an undisturbed command leaves it: files that differ, are missing or are too many."""
        found, whole = self.hashes(name), self.whole[name]
        count = {path: len(value) for path, value in found.items()}
        other = [p for p in {**count, **whole.names} if count.get(p, 0) != whole.names.get(p, 0)]
        differ = [p for p in whole.hashes if p not in other and found[p] != whole.hashes[p]]
        return [f"{count.get(p, 0)} instead of {whole.names.get(p, 0)} {p}" for p in other] + [
            f"{path} differs" for path in differ
        ]


def content(path: Path) -> bytes:
    """The bytes of a file; of a checkpoint its tensors and values, which may be written in several ways.

    Of a run of a comparison everything but how long it took, which is the same by chance alone.
    """
    if path.parent.name == "cells":
        found = json.loads(path.read_text(encoding="utf-8"))
        return json.dumps({key: value for key, value in found.items() if key != "seconds"}).encode()
    if path.suffix != ".ckpt":
        return path.read_bytes()
    return repr(spelled_out(torch.load(path, weights_only=True))).encode()


def spelled_out(value: object) -> object:
    """The same with the bytes of every tensor."""
    if isinstance(value, torch.Tensor):
        raw = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(raw).hexdigest()
    if isinstance(value, dict):
        return [(key, spelled_out(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [spelled_out(each) for each in value]
    return value


def write_comparison(folder: Path) -> None:
    """A comparison of seconds."""
    names = [f"images/c{i}.nii.gz" for i in range(8)]
    (folder / "parts").mkdir()
    for part, some in {"train": names[:3], "val": names[3:4], "test": names[4:]}.items():
        (folder / "parts" / f"{part}.txt").write_text("".join(f"{name}\n" for name in some))
    views = {"grid": [16, 16, 16], "source_sizes": [[16, 16, 16]]}
    task = {
        "data": str(folder),
        "split": "parts",
        "labels": [2],
        "long_steps": 3,
        "both": {"size": "small", "encoder": {"width": 4}, "num_workers": 0},
        "pretrain": {"steps": 2, "batch_size": 2, "method": {"global_crops": views}},
        "finetune": {"task": "segmentation", "steps": 2, "batch_size": 2, "log_every": 1}
        | {f"task.crops.{key}": value for key, value in views.items()},
    }
    content = {"pretrain_seeds": [0], "finetune_seeds": [0], "learning_rates": [0.01], "draws": 20}
    content |= {"arms": {"restoring": "context_restoration"}, "tasks": {"blobs": task}}
    (folder / "compare.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def needed(names: Sequence[str]) -> list[str]:
    """Commands with those that they start from, in their order."""
    return [name for name in WORDS if any(f"OUT/{name}" in WORDS[each] or name == each for each in names)]


def left_after(session: int) -> tuple[list[int], float]:
    """Processes that are still there after 10 seconds, and the seconds until the last had ended."""
    started = time.monotonic()
    while (left := left_of(session)) and time.monotonic() - started < PATIENCE:
        time.sleep(0.1)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return left, time.monotonic() - started


def left_of(session: int) -> list[int]:
    """Processes of a session, and programs that were started in it."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError, IndexError):
                state, _, _, leader = place.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
                marked = f"{MARK}={session}\0".encode() in place.joinpath("environ").read_bytes()
                if state != "Z" and (int(leader) == session or marked):
                    found.append(int(place.name))
    return found


def keep(path: Path, rows: list[dict[str, object]]) -> None:
    """Write what was found, one trial a line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def kept(path: Path) -> list[dict[str, object]]:
    """What was found before."""
    rows: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return rows


def asked(about: str | None, many: str, usual: int) -> argparse.Namespace:
    """What a script of trials was asked: where, how many of what, which seed, commands and results."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(many, type=int, default=usual)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=lambda names: names.split(","), default=[*WORDS])
    parser.add_argument("--results", type=Path)
    return parser.parse_args()
