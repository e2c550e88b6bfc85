"""The run folder: what is written before step 0, when it may be continued, and the card of its weights."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml

from foveate.core import config as parsing
from foveate.core.contracts import Method, Task
from foveate.core.dims import LAYERS, defaults
from foveate.core.types import FoveateError
from foveate.data.cache import Cache
from foveate.data.index import replace_file, replace_text
from foveate.nets.weights.store import FORMAT, Card, TransferReport, check_card, read
from foveate.run.settings import (
    OWN_PATHS,
    PATHS,
    RESUMABLE,
    SCRATCH,
    SHARES,
    PretrainConfig,
    RunConfig,
    own_paths,
)
from foveate.train import checkpoint
from foveate.train.logging import say

OWN_IMAGES = "private/images.txt"  # hashes of the voxels as they are cached
UNSTATED = "not stated: it is for whoever holds the images to say"
PACKAGES = ("foveate", "torch", "lightning-fabric", "monai", "numpy", "nibabel")


def headline(config: PretrainConfig) -> str:
    """The first line of a run: what it is, and on a CPU at paper size what that would take."""
    what = f"foveate {version('foveate')}: {config.method.name}, {config.dimension}D, {config.encoder.name}"
    how = (
        f"size {config.size} (width {config.encoder.width}), batch {config.batch_size} x {config.accumulate}"
    )
    if (world := config.devices * config.num_nodes) > 1:
        how += f" x {world} processes"
    line = f"{what}, {how}, {config.steps} steps on {config.accelerator}, {config.precision}"
    if config.size == "paper" and config.accelerator == "cpu":
        line += f"\nNo accelerator: about {hours_on_cpu(config):,.0f} h at this size. For CPUs: --size small"
    return line


def hours_on_cpu(config: RunConfig) -> float:
    """Hours of the run, from the counted work of a step and the speed of one convolution here and now."""
    image, kernel = torch.randn(1, 32, 24, 24, 24), torch.randn(32, 32, 3, 3, 3)
    operations = 2 * kernel.numel() * 24**3
    torch.conv3d(image, kernel, padding=1)
    started = time.perf_counter()
    for _ in range(4):
        torch.conv3d(image, kernel, padding=1)
    per_second = 4 * operations / (time.perf_counter() - started)
    work = 1e9 * defaults(config.dimension, config.size).gflop_per_sample * config.batch_size
    return work * config.accumulate * config.steps / per_second / 3600


def check_resumable(config: RunConfig, out: Path) -> None:
    """Refuse to continue another run's folder; name the keys that differ."""
    saved = out / "run.yaml"
    if not saved.exists():
        if out.is_dir() and any(out.iterdir()):
            raise FoveateError(
                f"--out {out} is a folder with other things in it; accepted: a new folder, or that of an "
                "earlier run, which then goes on."
            )
        return
    before = dict(parsing.flatten(yaml.safe_load(saved.read_text(encoding="utf-8"))))
    paths = own_paths(saved)
    before |= {key: path for key, path in paths.items() if not before.get(key)}
    unknown = () if paths else [key for key in PATHS if not before.get(key)]  # of a folder that was passed on
    if changed := parsing.differences(before, parsing.to_mapping(config), (*RESUMABLE, *unknown)):
        raise FoveateError(
            f"--out {out} holds a run with another configuration ({'; '.join(changed)}). "
            "Say the same values to go on, or choose another --out."
        )
    check_shares(before, config)
    done = checkpoint.newest_step(out / "checkpoints")
    if done > config.steps:
        raise FoveateError(f"--steps {config.steps}: {out} is at step {done} already; say a larger number.")


def check_shares(before: dict[str, Any], config: RunConfig) -> None:
    """Refuse another number of samples per step: the batches that are still to come would not be the same."""
    was, now = (
        math.prod(shares) for shares in ([before[k] for k in SHARES], [getattr(config, k) for k in SHARES])
    )
    if was != now:
        raise FoveateError(
            f"--{' x --'.join(SHARES)} is {now} and was {was} when --out {config.out} was started; accepted: "
            f"any values whose product is {was}. --accumulate makes up for fewer processes."
        )


def prepare_out(config: RunConfig, out: Path, data_hash: str, report: TransferReport | None = None) -> None:
    """Write the resolved configuration and the circumstances, before step 0."""
    try:
        for part in ("checkpoints", "previews"):
            (out / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None
    path = out / "environment.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))["data_hash"]
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
    }
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    write_keys(config, out)
    if report:
        (out / "transfer.json").write_text(report.to_json(), encoding="utf-8")


def write_keys(config: RunConfig, out: Path) -> None:
    """`run.yaml`, and its paths for the owner alone, before it: no `run.yaml` is ever without them."""
    keys = dict(parsing.flatten(parsing.to_mapping(config)))
    paths = {key: keys[key] for key in PATHS if keys.get(key) not in (None, "", SCRATCH)}
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
    kept = []
    for volume in cache:
        seen[volume.entry.content_hash] += 1
        if seen[volume.entry.content_hash] <= known[volume.entry.content_hash]:
            kept.append(volume)
    if kept and (new := len(cache) - len(kept)):
        say(f"{new} images came, or can be read, since {out} was started: left out. Another --out takes them")
        return Cache(kept, cache.rejects)
    return cache


def commit() -> str:
    """The git commit of the code, or "not a checkout"."""
    here = Path(__file__).parent
    git = shutil.which("git")
    if git is None or not any((parent / ".git").exists() for parent in here.parents):
        return "not a checkout"
    command = [git, "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def card(config: PretrainConfig, method: Method, cache: Cache) -> Card:
    """What a later user must know of the weights. No path and no identity."""
    return shared_card(config, method, cache) | {
        "batch_norm_statistics": "re-estimated on clean global views",
        "method": parsing.to_mapping(config)["method"],
        "data_hash": cache.data_hash,
        "citation": citation(config),
        "initial_weights": ancestor(config.init),
    }


def shared_card(config: RunConfig, trained: Method | Task, cache: Cache) -> Card:
    """What the weights of every run have to say."""
    mapping: dict[str, Any] = parsing.to_mapping(config)
    return {
        "format": FORMAT,
        "foveate": version("foveate"),
        "commit": commit(),
        "dimension": config.dimension,
        "axis_order": LAYERS[config.dimension].axis_order,
        "in_channels": config.encoder.in_channels,
        "intensity": mapping["prepare"],
        "normalisation": trained.normalisation,
        "spacing_mm": [round(float(value), 3) for value in median_spacing(cache)],
        "encoder": mapping["encoder"],
        "decoder": mapping["decoder"],
        "optim": mapping["optim"],
        "steps": config.steps,
        "samples": config.steps * config.batch_size * config.accumulate * config.devices * config.num_nodes,
        "views": {name: list(spec.grid) for name, spec in trained.crops.items()},
        "images": len(cache),
        "patients": patients(cache),
        "weights_licence": UNSTATED,
        "data_licence": UNSTATED,
    }


def input_notes(given: Card, config: RunConfig, trained: Method | Task, cache: Cache) -> tuple[str, ...]:
    """How the images differ from those that weights saw; an error where nothing bridges it."""
    found = check_card(
        given,
        dimension=config.dimension,
        in_channels=config.encoder.in_channels,
        normalisation=trained.normalisation,
        intensity=parsing.to_mapping(config.prepare),
        spacing=median_spacing(cache),
    )
    return tuple(found)


def patients(cache: Cache) -> int | None:
    """How many people the images are of; None where the source does not name them."""
    names = {getattr(volume.entry, "patient", "") for volume in cache}
    return None if "" in names else len(names)


def ancestor(init: str) -> dict[str, Any] | None:
    """What the weights started from, in the words of its card: whose licence and citation go on."""
    if not init:
        return None
    _, before = read(init)
    kept = ("method", "family", "source_sha256", "data_hash", "weights_licence", "data_licence", "citation")
    return {key: before[key] for key in kept if key in before}


def median_spacing(cache: Cache) -> list[float]:
    """Per axis, over the images."""
    spacings = torch.tensor([volume.spacing_mm for volume in cache], dtype=torch.float64)
    return list(spacings.median(dim=0).values.tolist())


def citation(config: PretrainConfig) -> str:
    """The first line of the method's own page."""
    from foveate.run.settings import METHODS

    return str(METHODS[config.method.name].__doc__).splitlines()[0]
