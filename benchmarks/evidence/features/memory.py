"""Whether `foveate embed` needs more memory for more slices, and how fast it is.

memory.py RUN DATA WORK [COUNT ...]: of the volumes in DATA/images, moved and darkened copies, COUNT slices
(1000, 3000, 10000), embedded by a 2D run, each count in a process of its own. Prints its largest resident
memory, which counts mapped files, and how many slices a processor second takes, decoding and lists included.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

COUNTS = (1000, 3000, 10000)


def copies(data: Path, folder: Path, count: int) -> Path:
    """Volumes with so many slices together, none equal to another; the folder."""
    images = sorted((data / "images").glob("*.nii.gz"))
    folder.mkdir(parents=True, exist_ok=True)
    slices, number = 0, 0
    while slices < count:
        image = nib.load(images[number % len(images)])
        turn, array = number // len(images), np.asarray(image.dataobj)
        array = np.roll(array, (3 * turn, -2 * turn), (0, 1))[:, :, : count - slices]
        array = (255 * (array / 255) ** (1 + 0.1 * turn)).astype(np.uint8)
        path = folder / f"p{number:05d}.nii.gz"
        if not path.exists():
            nib.save(nib.Nifti1Image(array, image.affine), path)
        slices, number = slices + array.shape[2], number + 1
    return folder


def embedded(run: str, data: Path, out: Path) -> tuple[int, float, float]:
    """Rows of one call in its own process, MiB that it had in memory at most, and its processor seconds."""
    flags = ["--run", run, "--data", str(data), "--out", str(out), "--num_workers", "0"]
    command = [sys.executable, "-m", "foveate.cli", "embed", *flags, "--projection", "pca"]
    with Path(f"{out}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    said = Path(log.name).read_text(encoding="utf-8")
    found = re.search(r"^(\d+) rows of", said, re.MULTILINE)
    assert status == 0, said
    assert found, said
    return int(found[1]), used.ru_maxrss / 1024, used.ru_utime + used.ru_stime


def main(run: str, data: Path, work: Path, counts: list[int]) -> None:
    """All counts, smallest first."""
    print("slices, MiB in memory at most, processor seconds, slices a processor second")
    for count in counts:
        images = copies(data, work / f"images_{count}", count)
        rows, peak, seconds = embedded(run, images, work / f"out_{count}")
        print(f"{rows:>7}{peak:>8.0f}{seconds:>8.1f}{rows / seconds:>8.0f}", flush=True)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[4:]]
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), given or list(COUNTS))
