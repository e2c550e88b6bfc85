"""`foveate prepare`: a folder of scans into a cache that many runs share."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.core import config as parsing
from foveate.core.types import Dimension, FoveateError
from foveate.data.cache.estimate import estimated_bytes, gib
from foveate.data.cache.index import is_prepared
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.store import disk_errors
from foveate.data.cache.volumes import Cache
from foveate.data.catalogue import SOURCES
from foveate.runtime import images as intake
from foveate.runtime.config import found_dimension
from foveate.runtime.selection import images_for_pretraining
from foveate.train.logging import say


@dataclass(frozen=True, kw_only=True)
class PrepareRun:
    """One preparation, complete.

    Attributes:
        data: Folder of scans or pictures, or one file; what `source` says it is.
        out: Folder of the cache; the same command again goes on where it was.
        dimension: 2 or 3; found from the files where it is not said.
        split: Folder that `foveate split` wrote: its training images alone; empty: what the data set says.
        num_workers: Processes that decode; 0: this one. The result does not depend on it.
        source: Layout of the data set.
        prepare: How the cache is made.
    """

    data: str = ""
    out: str = ""
    dimension: Dimension
    split: str = ""
    num_workers: int = 0
    source: Any
    prepare: PrepareConfig


def resolve(flags: Mapping[str, str]) -> PrepareRun:
    """Flags, on top of a YAML of the same keys where `--config` names one."""
    flags = dict(flags)
    file = flags.pop("config", "")
    yaml_keys = parsing.read_yaml(Path(file)) if file else {}
    given = {**dict(parsing.flatten(yaml_keys)), **flags}
    for key in ("data", "out"):
        if not given.get(key):
            raise FoveateError(f"--{key} is missing; write `foveate prepare --data FOLDER --out CACHE`.")
    others = {"source": {name: SOURCES[name].Config for name in SOURCES if name != source_name(given)}}
    parsing.check_keys(given, defaults(given, 3), others, verb="prepare")
    return parsing.parse(defaults(given, found_dimension(given)), yaml_keys, flags)


def source_name(given: Mapping[str, Any]) -> str:
    """The layout that the keys name."""
    return str(given.get("source.name", "folder"))


def defaults(given: Mapping[str, Any], dimension: Dimension) -> PrepareRun:
    """What is not given."""
    source = SOURCES[source_name(given)].Config()
    return PrepareRun(dimension=dimension, source=source, prepare=PrepareConfig())


def help_page() -> str:
    """All keys with their meaning."""
    return (
        "foveate prepare --data FOLDER --out CACHE [--KEY VALUE ...]\n\n"
        "Decodes every image once; `foveate pretrain --data CACHE` reads windows of the result.\n"
        "  --config FILE    a YAML of these keys\n"
        "  --print_config   print the complete YAML and stop\n\n"
        f"{parsing.help_text(defaults({}, 3))}"
    )


def run_prepare(config: PrepareRun) -> Cache:
    """Bring the cache up to date, with an estimate first and a summary at the end."""
    found = images_for_pretraining(config.source, Path(config.data), config.split)
    images = intake.of_dimension(found, config.dimension)
    folder = Path(config.out)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _refuse_other_files(folder)
    needed, free = estimated_bytes(images, config.prepare), shutil.disk_usage(folder).free
    say(f"{len(images)} images; the whole cache takes about {gib(needed)}, {gib(free)} are free")
    cache = intake.decode(images, folder, config.prepare, config.num_workers)
    say(summary(cache))
    say(f"ready: foveate pretrain --data {folder} --out RUN")
    return cache


def _refuse_other_files(folder: Path) -> None:
    """A folder of something else must not fill up with volumes."""
    if any(folder.iterdir()) and not is_prepared(folder):
        raise FoveateError(f"--out {folder} holds other files; give an empty or new folder, or a cache.")


def summary(cache: Cache) -> str:
    """Counts by profile, what was left out, and the size."""
    profiles = Counter(volume.entry.profile for volume in cache)
    counts = ", ".join(f"{count} {profile}" for profile, count in sorted(profiles.items()))
    size = sum(volume.entry.file_bytes for volume in cache)
    return f"prepared {len(cache)} images ({counts}) in {gib(size)}; {len(cache.rejects)} left out"
