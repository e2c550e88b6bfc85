"""Seconds of a volume's segmentation here and by MONAI's SlidingWindowInferer: one network, the same windows.

Both in one process, in turns, the best of some repetitions, from the volume (here a memory map, there a
tensor) to the likeliest class of every voxel; on a CPU seconds of the processor, which others at work do not
change. The network is a segmenter of the size for CPUs after two steps: its weights do not matter here.

    python benchmarks/tasks/predict_speed.py [--shape 128 128 96] [--overlap 0.5] [--repeats 5]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer

import foveate
from foveate.commands.predict.run import images_of
from foveate.data.cache.volumes import CachedVolume
from foveate.runtime.finetuned import Model, open_model, prepared, segment_volume
from foveate.scoring.inference import WindowConfig
from foveate.scoring.segment import TidyConfig
from foveate.testing.cohorts import blobs, write_labelled, write_volume
from foveate.testing.runs import task_keys

BATCHES = (1, 4)


def trained(folder: Path, accelerator: str) -> Model:
    """A segmenter after two steps."""
    keys = task_keys("segmentation", 3, write_labelled(folder / "labelled", 3), folder / "run", "grade")
    del keys["encoder"]
    keys |= {"size": "small", "task": {"name": "segmentation"}, "accelerator": accelerator}
    foveate.finetune(**keys)
    return open_model(str(folder / "run"), accelerator)


def ours(model: Model, image: CachedVolume, window: WindowConfig) -> np.ndarray:
    """The labels by foveate."""
    return np.asarray(segment_volume(model, image, window, TidyConfig()).labels)


@torch.inference_mode()
def theirs(model: Model, whole: torch.Tensor, window: WindowConfig) -> np.ndarray:
    """The labels by MONAI, with its Gaussian of the same width."""
    inferer = SlidingWindowInferer(
        tuple(model.task.patch), window.batch_size, overlap=window.overlap, mode="gaussian"
    )
    logits = inferer(whole.to(model.device), model.answer)
    return logits.argmax(1)[0].to(torch.uint8).cpu().numpy()


def in_turns(
    answers: list[Callable[[], np.ndarray]], repeats: int, clock: Callable[[], float]
) -> tuple[list[np.ndarray], list[list[float]]]:
    """The last answer of each and the seconds of every repetition after a first."""
    found, seconds = [answer() for answer in answers], [[] for _ in answers]
    for _ in range(repeats):
        for i, answer in enumerate(answers):
            started = clock()
            found[i] = answer()
            seconds[i].append(clock() - started)
    return found, seconds


def main() -> None:
    """A row for every number of windows at once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 128, 96))
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--accelerator", default="cpu")
    chosen = parser.parse_args()
    clock = time.process_time if chosen.accelerator == "cpu" else time.perf_counter
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "large").mkdir()
        write_volume(folder / "large/v.nii.gz", blobs(tuple(chosen.shape), 1))
        model = trained(folder, chosen.accelerator)
        (record,) = images_of(folder / "large")
        print(f"volume {chosen.shape}, windows {model.task.patch}, {model.precision} on {model.device}")
        print("| windows at once | foveate, s | MONAI, s | times as fast | equal voxels |")
        print("|---|---|---|---|---|")
        with prepared(record, model.prepare, folder / "scratch") as image:
            whole = torch.from_numpy(image.read([0] * 3, image.shape))[None]
            for batch in BATCHES:
                window = WindowConfig(overlap=chosen.overlap, batch_size=batch)
                both = [lambda w=window: ours(model, image, w), lambda w=window: theirs(model, whole, w)]
                found, seconds = in_turns(both, chosen.repeats, clock)
                mine, other = map(min, seconds)
                same = float((found[0] == found[1]).mean())
                ratio = other / mine
                print(f"| {batch} | {mine:.2f} | {other:.2f} | {ratio:.2f} | {same:.5f} |", flush=True)


if __name__ == "__main__":
    main()
