"""`foveate scan`: what a folder holds, as a table, a page, and a reason for every file that is excluded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from foveate.commands.scan.config import ScanConfig
from foveate.commands.scan.page import write_page
from foveate.core.types import Ending, FoveateError
from foveate.data.cache.index import salted_id
from foveate.data.cohort.leakage import project_salt
from foveate.data.inventory import passes as inventory, state
from foveate.data.inventory.roles import notes
from foveate.data.roles.grouped import grouped
from foveate.train.logging import say
from foveate.train.progress import shown

PAGE = "inventory.html"
SHOWN = 10  # lines on what is excluded
GROUPED = 10_000  # excluded files that are looked at for them


def run_scan(config: ScanConfig) -> Ending:
    """Print what a scan found."""
    print(scan(config))
    return Ending.FINISHED


def scan(config: ScanConfig) -> str:
    """Brings an inventory up to date and says what it holds."""
    root, out = Path(config.data), Path(config.out)
    if not root.exists():
        raise FoveateError(f"{root} does not exist; give an existing folder or image file.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written ({error.strerror}).") from None
    _refuse_other_files(out)
    salt = project_salt(out)
    root_id = salted_id(salt, f"root {root.resolve()}")
    with closing(state.open_state(out, root_id)) as db, shown() as show:
        found = inventory.Scan(db=db, root=root, salt=salt, num_workers=config.num_workers, on_progress=show)
        if _passes(found, config, out) or not (out / PAGE).exists():
            inventory.export(found, out)
            write_page(db, out / PAGE)
            state.remember(db, exported="yes")
        return summary(found, config)


def _passes(found: inventory.Scan, config: ScanConfig, out: Path) -> bool:
    """Run the passes up to `until`; whether the tables must be written again."""
    db, times = found.db, []
    passes: dict[str, Callable[[], int]] = {
        "stat": partial(inventory.list_files, found, out),
        "headers": partial(inventory.read_headers, found),
        "full": partial(inventory.read_pixels, found, thumbnails=config.thumbnails),
    }
    for name, work in passes.items():
        started = time.perf_counter()
        if work():
            state.remember(db, exported="no")
        times.append(f"{name} {time.perf_counter() - started:.1f} s")
        if name == config.until:
            break
    say(", ".join(times))
    return state.fact(db, "exported", "no") == "no"


def _refuse_other_files(out: Path) -> None:
    """Refuse an --out that holds other files."""
    if any(out.iterdir()) and not (out / state.PRIVATE).is_dir():
        raise FoveateError(f"--out {out} holds other files; give an empty or new folder, or an inventory.")


def summary(found: inventory.Scan, config: ScanConfig) -> str:
    """Counts for the terminal, and the names of the first files that were excluded."""
    db = found.db
    hidden = state.fact(db, "hidden", "0")
    lines = [f"{state.count(db, 'files')} files, {hidden} hidden ones ignored"]
    if config.until != "stat":
        groups = (
            "SELECT role, dimension, modality, format, count(*), sum(files) FROM images GROUP BY 1, 2, 3, 4"
        )
        for role, dimension, modality, kind, images, files in db.execute(groups):
            what = f"{dimension}D " if dimension else ""
            lines.append(f"  {images:>7} {role:<9} {what}{modality or '-'} ({kind}, files: {files})")
        lines += [*map(terminal, notes(db)), *_rejected(found)]
    return "\n".join([*lines, f"inventory: {Path(config.out) / PAGE}"])


def terminal(text: str) -> str:
    """Escaped as ASCII, so that no control character reaches the terminal."""
    return ascii(text)[1:-1]


def _rejected(found: inventory.Scan) -> list[str]:
    """Counts, and the first few groups of files that are excluded."""
    query = (
        "SELECT relative, reason FROM images JOIN members ON image = images.number AND place = 0 "
        "JOIN files ON files.number = file WHERE reason != '' LIMIT ?"
    )
    total = state.count(found.db, "images", "reason != ''")
    rows = found.db.execute(query, (GROUPED,)).fetchall()
    lines = list(grouped((os.fsdecode(name), reason) for name, reason in rows))
    more = len(lines) > SHOWN or total > len(rows)
    rest = [f"  all of them: {state.PRIVATE}/{inventory.REJECTED_NAMES}"] if more else []
    return [f"excluded: {total}", *(f"  {terminal(line)}" for line in lines[:SHOWN]), *rest]
