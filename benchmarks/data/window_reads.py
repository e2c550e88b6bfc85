"""Windows of a cached volume against the same windows of memory-mapped NIfTI and of nii.gz.

    python benchmarks/data/window_reads.py

Every read yields a random window as float32 in [0, 1]; equal values are asserted first. Warm page cache.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from foveate.core.types import Array, Record
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import CachedVolume
from timing import line, ratio


def window_of(shape: tuple[int, ...], size: tuple[int, ...], number: int) -> tuple[list[int], list[int]]:
    """A random window."""
    rng = np.random.default_rng(number)
    low = [int(rng.integers(0, s - n + 1)) for s, n in zip(shape, size, strict=True)]
    return low, [a + n for a, n in zip(low, size, strict=True)]


def from_nifti(path: Path, size: tuple[int, ...], number: int) -> Array:
    """What a data set class without a cache does: open, take the window, scale."""
    image = nib.load(path)
    low, high = window_of(image.shape, size, number)
    window = np.asarray(image.dataobj[tuple(map(slice, low, high))], dtype=np.float32)
    return np.clip((window + 1000) / 2000, 0, 1)[None]


def from_cache(volume: CachedVolume, size: tuple[int, ...], number: int) -> Array:
    """The same from the cache."""
    return volume.read(*window_of(volume.shape, size, number))


def main() -> None:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[300, 300, 300])
    parser.add_argument("--window", type=int, nargs=3, default=[64, 64, 32])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    size = tuple(arguments.window)
    values = np.random.default_rng(0).normal(-300, 400, arguments.shape).astype(np.int16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix in ("nii", "nii.gz"):
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"v.{suffix}")
        record = Record(path=folder / "v.nii", relative="v.nii", modality="CT")
        caches = {
            kind: prepare([record], folder / kind, PrepareConfig(format=kind), lambda *_: None)[0]
            for kind in ("npy", "blosc2")
        }
        for number in range(5):
            expected = from_nifti(folder / "v.nii", size, number)
            for volume in caches.values():
                if np.abs(from_cache(volume, size, number) - expected).max() > 1e-6:
                    raise SystemExit("the windows differ")
        print("windows are equal within 1e-6")
        for kind, volume in caches.items():
            ours = partial(from_cache, volume, size)
            for suffix, calls, target in (("nii", (20, 60), 5), ("nii.gz", (1, 60), 200)):
                slow = partial(from_nifti, folder / f"v.{suffix}", size)
                result = ratio(slow, ours, repeats=arguments.repeats, calls=calls)
                print(line(f"{kind} against {suffix}, window {size}", result, target))
        sizes = {kind: volume.entry.file_bytes >> 20 for kind, volume in caches.items()}
        print(f"MiB on disk (noise, which hardly compresses): {sizes}")


if __name__ == "__main__":
    main()
