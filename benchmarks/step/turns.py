"""A training step of two checkouts by turns: did training become slower?

    OMP_NUM_THREADS=1 python benchmarks/step/turns.py OLD NEW [--turns 3] [--workers 1] [--dimensions 2,3]

OLD and NEW are folders of checkouts; the same one twice, with `--workers 1,2`, compares numbers of workers.
Every turn trains the small size in 2D and 3D once with each, in the order old, new, new, old, ... on the same
images, each in a process of its own that waits while the other is at work. A step's seconds are the median
over the steps, its processor seconds those of the process and its workers over the same steps, which remain
when others use the machine as well. Printed are both for every turn, and the ratios new : old of the medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from scipy.ndimage import zoom

Trainer = subprocess.Popen
WARM = 4  # steps that are not counted
RUN = """
import json, os, sys, time
from pathlib import Path
import foveate
from foveate.train.logging import RunLog
marks, advance = [], RunLog.advance

def cpu(process):
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

def noted(log, step):
    found = {int(each) for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
    marks.append([time.perf_counter(), time.process_time() + sum(map(cpu, found))])
    return advance(log, step)

RunLog.advance = noted
for line in sys.stdin:
    marks.clear()
    foveate.pretrain(**json.loads(line))
    print(json.dumps(marks), flush=True)
"""


def images(folder: Path, dimension: int) -> Path:
    """Smooth fields with noise in eight files."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        flat = dimension == len("xy")
        smooth = zoom(rng.random((12, 12, 10)[:dimension]), 30 if flat else 10, order=1)
        array = (200 * smooth + 50 * rng.random(smooth.shape)).astype(np.uint8)
        if flat:
            Image.fromarray(array).save(folder / f"{number}.png")
        else:
            nib.save(nib.Nifti1Image(array.astype(np.int16), np.eye(4)), folder / f"{number}.nii.gz")
    return folder


def trainer(checkout: Path) -> Trainer:
    """A process that trains whatever it is told."""
    env = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-c", RUN]
    return Trainer(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def step(process: Trainer, keys: dict[str, object]) -> tuple[float, float]:
    """Seconds and processor seconds of a step."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{json.dumps(keys)}\n")
    process.stdin.flush()
    marks = json.loads(process.stdout.readline())[WARM:]
    gaps = [b[0] - a[0] for a, b in pairwise(marks)]
    return statistics.median(gaps), (marks[-1][1] - marks[0][1]) / len(gaps)


def compared(dimension: int, words: argparse.Namespace, trainers: dict[str, Trainer], scratch: Path) -> None:
    """All turns of one dimension, printed."""
    data = images(scratch / f"images{dimension}", dimension)
    workers = [int(each) for each in words.workers.split(",")]
    sides = list(zip(("old", "new"), (workers[0], workers[-1]), strict=True))
    found: dict[str, list[tuple[float, float]]] = {"old": [], "new": []}
    for turn in range(words.turns):
        for side, number in sides if turn % 2 == 0 else sides[::-1]:
            keys = {
                "data": str(data),
                "out": str(scratch / side / f"{dimension}-{turn}"),  # each side keeps a cache of its own
                "method": words.method,
                "size": "small",
                "steps": WARM + 1 + words.steps,
                "num_workers": number,
                "health_every": 0,
                "preview_every": 10**9,
            }
            found[side].append(step(trainers[side], keys))
            seconds, cpu = found[side][-1]
            print(f"{dimension}D turn {turn} {side}: {seconds:.3f} s, {cpu:.3f} s of processors", flush=True)
    for place, what in enumerate(("seconds", "processor seconds")):
        old, new = (statistics.median(each[place] for each in found[side]) for side in ("old", "new"))
        print(f"{dimension}D {what}: {old:.3f} -> {new:.3f}, ratio {new / old:.3f}", flush=True)


def main() -> None:
    """Both dimensions."""
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    for name, value in (("turns", 3), ("steps", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--workers", default="1")
    parser.add_argument("--method", default="pcrlv2")
    parser.add_argument("--dimensions", default="2,3")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        trainers = {"old": trainer(words.old), "new": trainer(words.new)}
        try:
            for dimension in map(int, words.dimensions.split(",")):
                compared(dimension, words, trainers, Path(scratch))
        finally:
            for each in trainers.values():
                each.kill()


if __name__ == "__main__":
    main()
