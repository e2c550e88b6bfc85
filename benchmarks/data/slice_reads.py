"""A slice of a cached volume against a picture of its size in the cache, warm and cold, and as it lay before.

    python benchmarks/data/slice_reads.py
    python benchmarks/data/slice_reads.py --out DIR        # on another disk

Both give float32 in [0, 1]; equal values are asserted first. There are as many pictures as slices, each in
its own file, and both are taken in random order. Cold: maps are closed and pages of files dropped before
every read (posix_fadvise; not every file system does so: compare with warm).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foveate.core.types import Array, Volume
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.store import open_array
from foveate.data.cache.volumes import CachedVolume
from foveate.data.cache.writing import Target, write_volume

CONFIG = PrepareConfig()


def cached(folder: Path, key: str, values: Array, spacing_mm: tuple[float, ...]) -> CachedVolume:
    """An image in a cache."""
    target = Target(cache=folder, key=key, salt=bytes(32), fingerprint=(0, 0))
    image = Volume(array=values, affine=np.eye(4), spacing_mm=spacing_mm, bits=16)
    return CachedVolume(folder, write_volume(target, image, "ct", CONFIG))


def plane(volume: CachedVolume, number: int) -> Array:
    """One slice, (C, x, y)."""
    x, y, _ = volume.shape
    return volume.read((0, 0, number), (x, y, number + 1))[..., 0]


def forget(folder: Path) -> None:
    """Close all maps and drop the pages of all files."""
    open_array.cache_clear()
    for path in (folder / "volumes").iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def seconds(read: Callable[[int], Array], order: Array, before: Callable[[], None]) -> list[float]:
    """The time of each read."""
    found = []
    for number in order:
        before()
        start = time.perf_counter()
        read(int(number))
        found.append(time.perf_counter() - start)
    return found


def compare(title: str, folder: Path, reads: dict[str, Callable[[int], Array]], order: Array) -> None:
    """Medians in milliseconds and as ratios to the picture, warm and cold."""
    for state, before in (("warm", lambda: None), ("cold", lambda: forget(folder))):
        times: dict[str, list[float]] = {name: [] for name in reads}
        for some in np.array_split(order, 5):  # by turns: the machine may be busy
            for name, read in reads.items():
                if state == "warm":
                    seconds(read, some, before)
                times[name] += seconds(read, some, before)
        medians = {name: float(np.median(found)) for name, found in times.items()}
        for name, found in medians.items():
            print(
                f"{title}, {state}: {name} {found * 1e3:.3f} ms, {found / medians['picture']:.2f} x a picture"
            )


def main() -> None:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 300])
    parser.add_argument("--reads", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    values = np.random.default_rng(0).normal(-300, 400, arguments.shape).astype(np.int16)
    with tempfile.TemporaryDirectory(dir=arguments.out) as name:
        folder = Path(name)
        (folder / "volumes").mkdir()
        thick = cached(folder, "thick", values[None], (0.7, 0.7, 1.5))
        before = cached(folder, "before", values[None], (1.5, 0.7, 0.7))  # x first, as all volumes lay before
        pictures = [
            cached(folder, f"p{i}", np.ascontiguousarray(values[None, ..., i]), (0.7, 0.7))
            for i in range(values.shape[2])
        ]
        reads = {
            "picture": lambda i: pictures[i].read((0, 0), values.shape[:2]),
            "slice": lambda i: plane(thick, i),
            "slice in the order of before": lambda i: plane(before, i),
        }
        for number in range(3):
            wanted = reads["picture"](number)
            if any(not np.array_equal(read(number), wanted) for read in reads.values()):
                raise SystemExit("the slices differ")
        order = np.random.default_rng(1).permutation(values.shape[2])[: arguments.reads]
        compare("x".join(map(str, arguments.shape)), folder, reads, order)


if __name__ == "__main__":
    main()
