"""The run folder: what is written before step 0, and when an existing one may be resumed."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml

from foveate.core import config as parsing
from foveate.core.files import json_with, plain, replace_file, replace_text
from foveate.core.types import Dataclass, FoveateError
from foveate.data.cache.volumes import Cache
from foveate.nets.weights.store import FOLDS, TransferReport
from foveate.runtime.command import OWN_PATHS, own_paths
from foveate.runtime.config import (
    PATHS,
    RANDOM_WEIGHTS,
    REST,
    RESUMABLE,
    SHARES,
    RunConfig,
)
from foveate.train import checkpoint
from foveate.train.logging import say

OWN_IMAGES = "private/images.txt"  # hashes of the voxels as they are cached
PARTS, ENVIRONMENT = ("checkpoints", "previews"), "environment.json"  # written before `run.yaml`
PACKAGES = ("foveate", "torch", "lightning-fabric", "monai", "numpy", "nibabel")


def check_resumable(config: RunConfig, out: Path) -> None:
    """Refuse to continue another run's folder; name the keys that differ."""
    saved = out / "run.yaml"
    if not saved.exists():
        if out.is_dir() and not is_before_its_run(out):
            raise FoveateError(
                f"--out {out} holds other files; accepted: a new or empty folder, or the folder of an "
                "earlier run, to resume it."
            )
        return
    before = dict(parsing.flatten(parsing.read_yaml(saved)))
    paths = own_paths(saved)
    before |= {key: path for key, path in paths.items() if not before.get(key)}
    before = {**dict(defaulted(config)), **before}  # an earlier version did not know all of the keys
    unknown = () if paths else [key for key in PATHS if not before.get(key)]  # of a folder that was passed on
    refuse_other_kind(before, dict(parsing.flatten(parsing.to_mapping(config))), out)
    if changed := parsing.differences(before, parsing.to_mapping(config), (*RESUMABLE, *unknown)):
        raise FoveateError(
            f"--out {out} holds a run with another configuration ({'; '.join(changed)}). "
            "Give the same values to resume, or choose another --out."
        )
    check_shares(before, config)
    done = checkpoint.newest_step(out / "checkpoints")
    if done > config.steps:
        raise FoveateError(f"--steps {config.steps}: {out} is at step {done} already; give a larger number.")


def is_before_its_run(out: Path) -> bool:
    """Whether a folder holds nothing, or what a run wrote that ended before it had written `run.yaml`."""
    names = {path.name for path in out.iterdir() if path.suffix != ".tmp"}  # a killed one leaves those
    inside = [path for part in PARTS if part in names for path in (out / part).iterdir()]
    return names <= {*PARTS, ENVIRONMENT, Path(OWN_PATHS).parent.name} and not inside


def refuse_other_kind(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    """Refuse the folder of another method or task: what else differs does not matter then."""
    for key in ("method.name", "task.name"):
        kinds = [keys.get(key) for keys in (before, now)]
        if kinds[0] != kinds[1]:
            found, asked = (
                f"--{key.removesuffix('.name')} {kind}" if kind else "another command" for kind in kinds
            )
            raise FoveateError(
                f"--out {out} is the folder of a run with {found}, and this one is with {asked}; accepted: "
                "another --out, or a new or empty folder."
            )


def defaulted(config: Dataclass, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of a configuration whose fields have a default, with it."""
    for field in fields(config):
        key, value = f"{prefix}{field.name}", parsing.field_values(config)[field.name]
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if parsing.is_config(value):
            mine = dict(defaulted(value, f"{key}."))
            given = parsing.to_mapping(default) if parsing.is_config(default) else {}
            stated = dict(parsing.flatten(given, f"{key}."))
            yield from {each: stated.get(each, default) for each, default in mine.items()}.items()
        elif default is not MISSING:
            yield key, plain(default)


def check_shares(before: dict[str, Any], config: RunConfig) -> None:
    """Refuse another number of samples per step: the batches that are still to come would not be the same."""
    was, now = (math.prod(keys[k] for k in SHARES) for keys in (before, parsing.field_values(config)))
    if was != now:
        raise FoveateError(
            f"--{' x --'.join(SHARES)} is {now} and was {was} when --out {config.out} was started; accepted: "
            f"any values whose product is {was}. With fewer processes, raise --accumulate."
        )


def prepare_out(config: RunConfig, out: Path, data_hash: str, report: TransferReport | None = None) -> None:
    """Write run.yaml and environment.json before step 0."""
    try:
        for part in PARTS:
            (out / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None
    path = out / ENVIRONMENT
    if path.exists():
        before = json_with("data_hash", path)["data_hash"]
        if before != data_hash:
            raise FoveateError(
                f"--data {config.data} holds other images than when {out} was started (data hash "
                f"{data_hash}, then {before}). Choose another --out, or restore the images."
            )
    facts = {
        "data_hash": data_hash,
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if config.accelerator == "cuda" else config.accelerator,
        "precision": config.precision,
        "float32_matmul": config.float32_matmul,
        "deterministic": config.deterministic,
    }
    replace_text(path, json.dumps(facts, indent=1) + "\n")
    write_keys(config, out)
    if report:
        replace_text(out / "transfer.json", report.to_json())


def write_keys(config: RunConfig, out: Path) -> None:
    """`run.yaml`, and its paths for the owner alone, before it: no `run.yaml` is ever without them."""
    keys = dict(parsing.flatten(parsing.to_mapping(config)))
    paths = {key: keys[key] for key in PATHS if keys.get(key) not in (None, "", RANDOM_WEIGHTS, REST)}
    write_private(out / OWN_PATHS, yaml.safe_dump(paths))
    replace_text(out / "run.yaml", parsing.to_yaml(config, paths))


def write_private(path: Path, text: str) -> None:
    """A file for its owner alone."""

    def write(stream: BinaryIO) -> None:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(text.encode())

    path.parent.mkdir(exist_ok=True, mode=0o700)
    replace_file(path, write)


def note_images(cache: Cache, out: Path) -> None:
    """Write down which images a run is started with."""
    write_private(out / OWN_IMAGES, "".join(f"{volume.entry.content_hash}\n" for volume in cache))


def started_with(cache: Cache, out: Path) -> Cache:
    """The images that the run in `out` was started with.

    What came later, or could not be read at first and now can, waits for another run: else a file server's
    bad minute at the start would keep a run from ever going on.
    """
    path = out / OWN_IMAGES
    if not path.exists():
        return cache
    known = Counter(path.read_text(encoding="ascii").split())
    seen: Counter[str] = Counter()
    keep = []
    for volume in cache:
        seen[volume.entry.content_hash] += 1
        keep.append(seen[volume.entry.content_hash] <= known[volume.entry.content_hash])
    if any(keep) and (new := keep.count(False)):
        say(
            f"excluded {new} images: new or readable only since {out} was started; "
            "include them with another --out"
        )
        return cache.only(keep)
    return cache


def fold_folder(out: Path, number: int) -> Path:
    """The run folder of one fold of a cross-validation."""
    return out / f"fold_{number}"


def runs_in(run: str) -> list[str]:
    """The runs that a name stands for: itself, or every fold of a cross-validation."""
    path = Path(run) / FOLDS
    if not path.is_file():
        return [run]
    count = int(json_with("folds", path)["folds"])
    folders = [fold_folder(Path(run), number) for number in range(count)]
    if missing := [each.name for each in folders if not (each / "exported" / "card.json").is_file()]:
        raise FoveateError(
            f"--run {run}: {', '.join(missing)} has not reached its end; accepted: all folds finished (the "
            "command of `foveate finetune --folds`, given again, goes on), or the folder of one fold."
        )
    return [str(each) for each in folders]


def commit() -> str:
    """The git commit of the code, "-dirty" where the package was changed since, or "not a checkout"."""
    package = Path(__file__).parents[1]
    git = shutil.which("git")
    if git is None or not any((parent / ".git").exists() for parent in package.parents):
        return "not a checkout"

    def said(*words: str) -> str:
        command = [git, "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = said("status", "--porcelain", "--", ".")  # results beside the package change nothing
    return said("describe", "--always", "--abbrev=12") + ("-dirty" if changed else "")
