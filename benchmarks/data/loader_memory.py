"""Anonymous memory and open files of the data path over many volumes.

    python benchmarks/data/loader_memory.py                 # 200 and 2,000 volumes, 400 steps each
    ulimit -n 256; python benchmarks/data/loader_memory.py  # survives few open files

For each number of volumes one process with two workers draws batches from a cache of that many files, and the
sum of RssAnon of process and workers is read at several steps. Mapped pages are not counted: they are the
system's to reclaim. Fails when the larger cache or the later steps take more than `--slack_mb` more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np

from foveate.core.types import CropSpec
from foveate.data.cache.index import CacheEntry
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.data.loader import batches
from foveate.views.pipeline import make_views

SHAPE = (40, 40, 32)
SPECS = {"global": CropSpec(count=2, grid=(16, 16, 16), source_sizes=((24, 24, 20),), min_iou=0.3)}


def fake_cache(folder: Path, count: int) -> Cache:
    """Volumes that differ in their file alone."""
    blank = dict.fromkeys(CacheEntry.__dataclass_fields__, 0)
    known = {
        "shape": (1, *SHAPE),
        "spacing_mm": (1.0,) * 3,
        "maps": (),
        "scale": 1.0,
        "offset": 0.0,
        "low": 0.0,
    }
    first = CacheEntry(**{**blank, **known, "high": 1000.0, "dtype": "int16"})  # type: ignore[arg-type]
    volumes = []
    for number in range(count):
        name = f"{number}.npy"
        if not (folder / name).exists():
            np.save(
                folder / name, np.random.default_rng(number).integers(0, 1000, (1, *SHAPE), dtype=np.int16)
            )
        volumes.append(
            CachedVolume(folder, replace(first, id=str(number), file=name, content_hash=str(number)))
        )
    return Cache(volumes)


def anonymous_mb() -> float:
    """RssAnon of this process and its children."""
    pids = [os.getpid(), *(child.pid for child in active_children())]
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure(folder: Path, count: int, steps: int) -> list[float]:
    """Memory at four moments of a run."""
    marks = {steps // 4, steps // 2, 3 * steps // 4, steps - 1}
    cache = fake_cache(folder, count)
    maker = partial(make_views, specs=SPECS, seed=0)
    source = batches(cache, maker, seed=0, first_step=0, steps=steps, batch_size=4, num_workers=2)
    return [anonymous_mb() for step, _ in enumerate(source) if step in marks]


def main() -> None:
    """Measure each number in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--volumes", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--slack_mb", type=float, default=30.0)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(*(f"{mb:.1f}" for mb in measure(arguments.folder, arguments.volumes[0], arguments.steps)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.volumes:
            command = [sys.executable, __file__, "--folder", folder, "--steps", str(arguments.steps)]
            command += ["--volumes", str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[count] = [float(text) for text in done.stdout.split()]
            print(
                f"{count:>6} volumes: RssAnon of all processes at 1/4, 1/2, 3/4, 1: {done.stdout.strip()} MB"
            )
    over_steps = max(row[-1] - row[0] for row in found.values())
    over_volumes = max(row[-1] for row in found.values()) - min(row[-1] for row in found.values())
    print(f"growth over steps {over_steps:.1f} MB, over volumes {over_volumes:.1f} MB")
    if max(over_steps, over_volumes) > arguments.slack_mb:
        raise SystemExit(f"more than {arguments.slack_mb} MB")


if __name__ == "__main__":
    main()
