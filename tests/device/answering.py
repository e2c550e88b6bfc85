"""What the prediction of one volume waits for on the pretended device."""

import numpy as np
import torch
from ledger import BLOCKING, LEDGER, WAIT, total
from steps import TUNING, build_task, labelled, load_images, new_folder

from foveate.nets.layers import laid_out
from foveate.runtime.finetuned import Model, segment_volume
from foveate.scoring.inference import Pace, WindowConfig, starts
from foveate.scoring.segment import TidyConfig
from foveate.tasks.segmentation import Segmentation
from foveate.testing.runs import task_keys


class Held:
    """A volume in memory."""

    planes = None
    focus = ()

    def __init__(self, array):
        self.array, self.shape = array, array.shape[1:]

    def read(self, low, high):
        return self.array[(slice(None), *map(slice, low, high))]


def answered(dimension, precision="bf16-mixed", sums="cuda", **window):
    """Waits, blocking copies, slabs and windows of one volume, and its labels."""
    keys = task_keys("segmentation", dimension, labelled(dimension), new_folder(), "grade")
    config = load_images(TUNING.from_keys({**keys, "accelerator": "cpu"}), new_folder()).config
    task = build_task(config).eval()
    assert isinstance(task, Segmentation)
    patch, seen = task.patch, []
    shape = (3 * patch[0], *(n * 2 for n in patch[1:]))
    volume = Held(np.random.default_rng(0).random((1, *shape)).astype(np.float32))
    windows = WindowConfig(**window)
    there = torch.device("cuda", 0)
    laid_out(task, dimension, "cuda")
    pace = Pace(there)
    pace.sums = torch.device(sums)
    model = Model(task=task.to(there), card={}, device=there, precision=precision, pace=pace)
    task.net.register_forward_pre_hook(lambda _net, given: seen.append(given[0].shape[0]))
    before = LEDGER.copy()
    labels = segment_volume(model, volume, windows, TidyConfig()).labels
    events = LEDGER.copy() - before
    return {
        "waits": total(events, WAIT),
        "blocking": total(events, BLOCKING),
        "slabs": len(starts(shape[0], patch[0], windows.overlap)),
        "batches": seen,
        "labels": labels,
    }


def answers(dimension):
    """The counts with the usual batch, and whether other batches, or sums on the host, change a label."""
    usual = answered(dimension)
    same = [
        float((usual["labels"] == answered(dimension, **other)["labels"]).mean())
        for other in ({"batch_size": 1}, {"batch_size": 7}, {"sums": "cpu"})
    ]
    return {key: usual[key] for key in ("waits", "blocking", "slabs", "batches")} | {"same": same}
