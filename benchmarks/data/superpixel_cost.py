"""What the super-pixels of one image cost, once.

    OMP_NUM_THREADS=1 python benchmarks/data/superpixel_cost.py

CPU seconds of the least of three calls on a textured phantom that fills the image, by the default of its
dimension; that the calls agree is asserted. What uses them is in the table of methods.
"""

from __future__ import annotations

import time

import numpy as np

from foveate.core.types import Dimension
from foveate.data.superpixels import SuperpixelConfig, superpixels
from views import textured

SHAPES: list[tuple[int, ...]] = [(256, 256), (1024, 1024), (48, 48, 48), (96, 112, 96), (128, 160, 128)]


def main() -> None:
    """Measure every shape."""
    print("| image | kind | regions | CPU s | microseconds per voxel |")
    print("|---|---|---|---|---|")
    for shape in SHAPES:
        dimension: Dimension = 2 if len(shape) < 3 else 3
        config, image = SuperpixelConfig.preset(dimension), textured(shape)[None]
        found, times = [], []
        for _ in range(3):
            begun = time.process_time()
            found.append(superpixels(image, (1.0,) * dimension, config))
            times.append(time.process_time() - begun)
        assert all(np.array_equal(found[0], each) for each in found), shape
        name, least = " x ".join(map(str, shape)), min(times)
        print(f"| {name} | {config.kind} | {found[0].max()} | {least:.2f} | {least / image.size * 1e6:.2f} |")


if __name__ == "__main__":
    main()
