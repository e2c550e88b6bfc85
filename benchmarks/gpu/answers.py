"""The prediction of a volume here, and by MONAI's sliding window over the same network and windows."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

import foveate
from foveate.commands.predict import run as predicting
from foveate.commands.predict.config import SPEC
from foveate.runtime.finetuned import open_model, prepared, segment_volume
from foveate.scoring.inference import WindowConfig
from foveate.scoring.segment import TidyConfig
from foveate.testing.cohorts import blobs, write_labelled, write_volume
from foveate.testing.runs import task_keys
from hardware import Measures, Row, Setting

VOLUME, SMALL = (320, 320, 192), (24, 20, 16)
OVERLAP, REPEATS = 0.5, 3


def trained(setting: Setting) -> Path:
    """The folder of a segmenter that was trained for two steps: its weights do not matter here."""
    out = setting.scratch / "segmenter"
    if not out.exists():
        keys = task_keys("segmentation", 3, write_labelled(setting.scratch / "labelled", 3), out, "grade")
        keys |= {"accelerator": setting.accelerator, "precision": "bf16-mixed" if setting.cuda else "32-true"}
        if not setting.miniature:
            del keys["encoder"]
            keys |= {"size": "paper", "task": {"name": "segmentation"}, "num_workers": 1}
        foveate.finetune(**keys)
    return out


def volume(setting: Setting) -> Path:
    """A folder with one volume."""
    folder = setting.scratch / "volume"
    if not folder.exists():
        folder.mkdir()
        write_volume(folder / "v.nii.gz", blobs(SMALL if setting.miniature else VOLUME, 1))
    return folder


def predict(setting: Setting) -> Measures:
    """The command from file to file, then the windows alone."""
    yield "foveate predict, from file to file", partial(command, setting)
    for batch in (1, 4):
        yield f"windows, {batch} at once", partial(windows, setting, batch)


def command(setting: Setting) -> Row:
    """The seconds of the second of two: the first one chooses algorithms."""
    seconds = []
    for number in range(2):
        out = setting.scratch / f"predicted{number}"
        keys = {"run": str(trained(setting)), "data": str(volume(setting)), "out": str(out)}
        config = SPEC.from_keys({**keys, "accelerator": setting.accelerator, "force": True})
        started = time.perf_counter()
        if not predicting.predict(config):
            raise RuntimeError("the prediction failed")
        seconds.append(time.perf_counter() - started)
    return {"foveate, s": seconds[1]}


def windows(setting: Setting, batch: int) -> Row:
    """Both with the windows, weights and overlap of foveate's defaults, and one network."""
    model = open_model(str(trained(setting)), setting.accelerator)
    (record,) = predicting.images_of(volume(setting))
    half = model.card.get("precision") == "bf16-mixed"  # runs that say it are answered in it
    config = WindowConfig(overlap=OVERLAP, batch_size=batch)
    with prepared(record, model.prepare, setting.scratch / f"windows{batch}") as image:
        whole = torch.from_numpy(image.read([0] * len(image.shape), image.shape))[None]

        def ours() -> np.ndarray:
            return np.asarray(segment_volume(model, image, config, TidyConfig()).labels)

        def answer(images: Tensor) -> Tensor:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
                return model.task.outputs(images)

        @torch.inference_mode()
        def theirs() -> np.ndarray:
            logits = sliding_window_inference(
                whole.to(model.device),
                tuple(model.task.patch),
                batch,
                answer,
                overlap=OVERLAP,
                mode="gaussian",
            )
            return logits.argmax(1)[0].cpu().numpy()

        mine, other = fastest(ours, setting), fastest(theirs, setting)
    return {
        "foveate, s": mine[0],
        "MONAI, s": other[0],
        "times as fast": other[0] / mine[0],
        "equal voxels": float((mine[1] == other[1]).mean()),
    }


def fastest(answer: Callable[[], np.ndarray], setting: Setting) -> tuple[float, np.ndarray]:
    """The shortest of some repetitions after a first, and the answer."""
    found, seconds = answer(), []
    for _ in range(1 if setting.miniature else REPEATS):
        started = time.perf_counter()
        found = answer()
        setting.wait()
        seconds.append(time.perf_counter() - started)
    return min(seconds), found
