"""Fine-tunings of two processes: their labelled images, their keys, what they leave."""

import torch
from tests.commands.finetune.test_finetune import write_pair
from tests.conftest import tiny_keys

EXACT = {  # no statistics cross samples; the buffer of SGD is the gradient of the first step
    "method": {"projector": "plain"},
    "encoder": {"width": 4, "norm": "group"},
    "optim": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "warmup_steps": 0},
    "steps": 1,
}


def half_supervised(data, out):
    """Two steps on labels and two on pseudo-labels; no statistics cross samples."""
    keys = tiny_keys(2, data, out, **{**EXACT, "steps": 4, "log_every": 4})
    keys |= {
        "task": {"name": "segmentation", "crops": {"grid": [64, 64]}},
        "init": "none",
        "validate_every": 4,
        "unlabelled": "rest",
        "split": {"train_cases": 2},
        "semi": {
            "supervised_steps": 2,
            "momentum": 0.5,
            "ramp_steps": 2,
            "confidence": 0.6,
            "threshold": "class",
            "weighting": "confidence",
            "balance": 0.5,
        },
    }
    return {name: value for name, value in keys.items() if name != "method"}


def half_supervised_values(data, out):
    """The same for a value of whole images."""
    keys = half_supervised(data, out)
    task = {"name": "classification", "targets": ["kind"], "dropout": 0.0, "crops": {"grid": [64, 64]}}
    return keys | {"task": task, "semi": {"supervised_steps": 2, "momentum": 0.5, "confidence": 0.5}}


def write_labelled(folder):
    """Images with a map of their bright half, and a table of values."""
    for i in range(6):
        write_pair(folder, 2, i)
    rows = "".join(f"c{i}.png,{'ab'[i % 2]}\n" for i in range(6))
    (folder / "labels.csv").write_text(f"image,kind\n{rows}")
    return folder


def newest(out):
    """Weights of student and teacher in the newest checkpoint."""
    (path,) = (out / "checkpoints").glob("step-*.ckpt")
    return torch.load(path, weights_only=True)["model"]
