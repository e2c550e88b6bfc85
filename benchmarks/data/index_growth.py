"""Opening a cache of 10^3 to 10^6 volumes: time, memory, and how both grow; against reading its whole index.

    python benchmarks/data/index_growth.py --out DIR        # a disk with 2 GB to spare

No voxels: entries as `prepare` writes them. Each figure is of a process of its own, which opens the cache,
asks for its length, channels and hash, and reads 100 random entries; they are compared with what was written.
Times are of the CPU, as the machine may be busy. Growth is the exponent of count ** exponent through the
first and the last number.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from foveate.core.types import Volume
from foveate.data.cache.complete import COMPLETE, TABLE, write_table
from foveate.data.cache.index import INDEX, PROFILE, CacheEntry, all_entries, as_line
from foveate.data.cache.profiles import PrepareConfig, as_json
from foveate.data.cache.volumes import open_prepared
from foveate.data.cache.writing import Target, write_volume

T = TypeVar("T")
REPEATS, ROWS = 5, 100
WHOLE_INDEX_AT_MOST = 10_000  # volumes whose index is read whole: it takes about 4 kB each


def entries(folder: Path, count: int) -> Iterator[CacheEntry]:
    """Entries that differ in their ids and hashes."""
    (folder / "volumes").mkdir(parents=True)
    values = np.random.default_rng(0).normal(0, 300, (1, 8, 8, 8)).astype(np.int16)
    image = Volume(array=values, affine=np.eye(4), spacing_mm=(0.7, 0.7, 1.5), bits=16)
    target = Target(cache=folder, key="0" * 32, salt=bytes(32), fingerprint=(0, 0))
    first = write_volume(target, image, "ct", PrepareConfig())
    return (replace(first, id=f"{i:032x}", content_hash=f"{i:032x}") for i in range(count))


def make(folder: Path, count: int) -> None:
    """What a finished preparation leaves, but for the voxels."""
    write_table(folder, entries(folder, count))
    (folder / COMPLETE).write_text("[]")  # its presence counts
    (folder / PROFILE).write_text(as_json(PrepareConfig()))
    if count <= WHOLE_INDEX_AT_MOST:
        with (folder / INDEX).open("w") as stream:
            stream.writelines(as_line(entry) + "\n" for entry in open_prepared(folder).volumes.table)


def memory_kb(what: str) -> int:
    """A line of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1])


def probe(folder: Path, count: int, how: str) -> dict[str, float]:
    """In a process of its own."""
    before, start = memory_kb("VmRSS"), time.process_time()
    if how == "index":
        found = all_entries(folder)
        took = time.process_time() - start
        each = 0.0
    else:
        cache = open_prepared(folder)
        if (len(cache), cache.channels) != (count, 1) or not cache.data_hash:
            raise SystemExit("another cache")
        took = time.process_time() - start
        rows = np.random.default_rng(1).integers(0, count, ROWS).tolist()
        start = time.process_time()
        found = {i: cache[i].entry for i in rows}
        each = (time.process_time() - start) / ROWS
        if any(entry.id != f"{i:032x}" for i, entry in found.items()):
            raise SystemExit("another entry")
    return {"ms": took * 1e3, "row us": each * 1e6, "MB": max(0, memory_kb("VmRSS") - before) / 1024}


def measured(folder: Path, count: int, how: str) -> dict[str, float]:
    """Medians over processes."""
    found = [alone(probe, folder, count, how) for _ in range(REPEATS)]
    return {key: float(np.median([each[key] for each in found])) for key in found[0]}


def alone(work: Callable[..., T], *arguments: object) -> T:
    """What it answers in a process of its own, which has imported everything and read nothing."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    rows: dict[str, dict[int, dict[str, float]]] = {"table": {}, "index": {}}
    for count in arguments.counts:
        with tempfile.TemporaryDirectory(dir=arguments.out) as name:
            folder = Path(name) / "cache"
            start = time.perf_counter()
            alone(make, folder, count)
            size = (folder / TABLE).stat().st_size / count
            print(
                f"{count} volumes: written in {time.perf_counter() - start:.1f} s, {size:.0f} bytes each",
                flush=True,
            )
            for how in ("table", "index") if count <= WHOLE_INDEX_AT_MOST else ("table",):
                rows[how][count] = measured(folder, count, how)
                print(
                    f"  {how}: " + ", ".join(f"{k} {v:.2f}" for k, v in rows[how][count].items()), flush=True
                )
    for how, found in rows.items():
        low, high = min(found), max(found)
        for key in ("ms", "row us", "MB"):
            if min(found[low][key], found[high][key]) > 0:
                growth = math.log(found[high][key] / found[low][key]) / math.log(high / low)
                print(f"{how}: {key} grows with exponent {growth:.3f} from {low} to {high} volumes")


if __name__ == "__main__":
    main()
