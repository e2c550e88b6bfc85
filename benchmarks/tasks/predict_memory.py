"""Peak memory of `foveate predict` on one large volume, against three times its bytes and 1 GB.

Trains a tiny segmenter for two steps, writes a volume of noise with a bright box, and predicts it in a
process whose anonymous memory (RssAnon and RssShmem of Linux; mapped files are the kernel's to drop) is
sampled. Windows do not overlap: what is measured is memory.

    python benchmarks/tasks/predict_memory.py [--shape 512 512 256] [--classes 3] [--probabilities]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

MIB = 1 << 20


def write_pairs(folder: Path, classes: int) -> None:
    """Four small labelled volumes."""
    rng = np.random.default_rng(0)
    for i in range(4):
        image = rng.integers(0, 900, (64, 64, 64)).astype(np.int16)
        label = (image * (classes + 1) // 900).astype(np.uint8)
        for kind, array in (("images", image), ("labels", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / kind / f"c{i}.nii.gz")


def write_volume(path: Path, shape: tuple[int, ...]) -> None:
    """A large one, int16."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 300, shape, dtype=np.int16)
    middle = tuple(slice(n // 4, 3 * n // 4) for n in shape)
    image[middle] += 500
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image, np.diag([0.8, 0.8, 1.5, 1])), path)


def anonymous_mib(pid: int) -> float:
    """What a process holds that no file backs."""
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


def peak_of(command: list[str]) -> tuple[float, float]:
    """Highest anonymous memory in MiB and seconds of a command."""
    started, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            try:
                peak = max(peak, anonymous_mib(process.pid))
            except (FileNotFoundError, KeyError):
                break
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return peak, time.perf_counter() - started


def main() -> None:
    """Measure and judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 256))
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--probabilities", action="store_true")
    chosen = parser.parse_args()
    foveate = [sys.executable, "-m", "foveate.cli"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "small", chosen.classes)
        write_volume(folder / "large/v.nii.gz", tuple(chosen.shape))
        said = (
            f"--data {folder}/small --task segmentation --init none --out {folder}/run --size small --steps 2"
        )
        keys = "--encoder.width 2 --num_workers 0 --validate_every 2 --preview_every 9"
        keys += " --task.crops.grid [64,64,64] --task.crops.source_sizes [[64,64,64]]"
        subprocess.run([*foveate, "finetune", *said.split(), *keys.split()], check=True, capture_output=True)
        said = f"--run {folder}/run --data {folder}/large --out {folder}/out --window.overlap 0"
        shares = ["--probabilities", str(chosen.probabilities).lower()]
        peak, seconds = peak_of([*foveate, "predict", *said.split(), *shares])
        mask = nib.load(folder / "out/v.nii.gz")
        if mask.shape != tuple(chosen.shape):
            raise SystemExit(f"the mask has shape {mask.shape}")
    volume = 2 * float(np.prod(chosen.shape)) / MIB
    limit = 3 * volume + 1024
    print(
        f"volume {chosen.shape} int16, {volume:.0f} MiB; {chosen.classes} classes, probabilities "
        f"{chosen.probabilities}: peak {peak:.0f} MiB anonymous, limit {limit:.0f} MiB, "
        f"ratio {peak / limit:.2f}; {seconds:.0f} s"
    )
    if peak > limit:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
