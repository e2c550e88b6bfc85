"""`foveate prepare`: a folder of scans into a cache that many runs share."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from rich.progress import Progress as Bar

from foveate.commands.prepare.config import PrepareRun
from foveate.commands.prepare.verify import verify
from foveate.core.types import Ending, FoveateError
from foveate.data.cache.estimate import estimated_bytes, gib
from foveate.data.cache.index import is_prepared
from foveate.data.cache.store import disk_errors
from foveate.data.cache.volumes import Cache
from foveate.data.position import measure
from foveate.runtime import images as intake
from foveate.runtime.selection import images_for_pretraining
from foveate.train.logging import CONSOLE, say


def run_prepare(config: PrepareRun) -> Ending:
    """Prepare, and say how the cache is used."""
    if config.data:
        prepare(config)
    if config.verify:
        check(Path(config.out))
    return Ending.FINISHED


def prepare(config: PrepareRun) -> Cache:
    """Bring the cache up to date, with an estimate first and a summary at the end."""
    found = images_for_pretraining(config.source, Path(config.data), config.split)
    images = intake.expanded(intake.of_dimension(found, config.dimension), config.prepare)
    folder = Path(config.out)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _refuse_other_files(folder)
    needed, free = estimated_bytes(images, config.prepare), shutil.disk_usage(folder).free
    say(f"{len(images)} images; the whole cache takes about {gib(needed)}, {gib(free)} are free")
    cache = intake.decode(images, folder, config.prepare, config.num_workers)
    say(summary(cache))
    say(measure(cache).sentence)
    say(f"ready: foveate pretrain --data {folder} --out RUN")
    return cache


def check(folder: Path) -> None:
    """Read all files of a cache, and say that they are as they were written."""
    if not is_prepared(folder):
        raise FoveateError(f"--out {folder} is no cache; give a folder that `foveate prepare` has written.")
    with Bar(console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as bar:
        task = bar.add_task("verifying", total=None)
        files = verify(folder, lambda done, total: bar.update(task, completed=done, total=total))
    say(f"verified: all {files} files of {folder} are as they were written")


def _refuse_other_files(folder: Path) -> None:
    """Refuse an --out that holds other files."""
    if any(folder.iterdir()) and not is_prepared(folder):
        raise FoveateError(f"--out {folder} holds other files; give an empty or new folder, or a cache.")


def summary(cache: Cache) -> str:
    """Counts by profile, what was excluded, and the size."""
    profiles = Counter(volume.entry.profile for volume in cache)
    counts = ", ".join(f"{count} {profile}" for profile, count in sorted(profiles.items()))
    size = sum(volume.entry.file_bytes for volume in cache)
    return f"prepared {len(cache)} images ({counts}) in {gib(size)}; {len(cache.rejects)} excluded"
