"""Exports of small runs and what foveate computes with them, for `judge.py`: write.py FOLDER [FORMAT ...]."""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.commands.export.balanced import balance, write_picture, write_scan  # noqa: E402
from tests.nets.weights.untrained import ramp, write_run  # noqa: E402

import foveate  # noqa: E402
from foveate.cli import main  # noqa: E402
from foveate.runtime.finetuned import load_task  # noqa: E402
from foveate.testing.cohorts import write_labelled  # noqa: E402
from foveate.testing.runs import task_keys  # noqa: E402
from foveate.views.pipeline import normalise  # noqa: E402

SUFFIX = {"onnx": ".onnx", "torch-export": ".pt2", "torchvision": ".safetensors", "monai": ".safetensors"}
SMALL = {"width": 4, "widest": 16, "blocks": (1, 2, 1, 2)}


def runs(folder):
    """Name -> run folder."""
    made = {
        "resnet18": write_run(folder / "resnet18", 2, "resnet18", width=64),
        "resnet50": write_run(folder / "resnet50", 2, "resnet50", width=64, in_channels=3),
        "narrow": write_run(folder / "narrow", 2, "resnet34", width=8, card={"normalisation": "imagenet"}),
        "unet3d": write_run(folder / "unet3d", 3, "unet3d", width=4),
        "resenc": write_run(folder / "resenc", 3, "resenc", **SMALL),
        "resnet50_3d": write_run(folder / "resnet50_3d", 3, "resnet50", width=8),
        "resnet18_3d": write_run(folder / "resnet18_3d", 3, "resnet18", width=4, shortcut="pad"),
        "swin_2d": write_run(folder / "swin_2d", 2, "swin", width=12, window=3, residual_blocks=True),
        "swin_3d": write_run(folder / "swin_3d", 3, "swin", width=12, window=3),
    }
    return made | {name: fine_tuned(folder, name, d) for name, d in (("segmentation", 3), ("flat", 2))}


def fine_tuned(folder, name, dimension):
    """A segmentation after two steps."""
    data = write_labelled(folder / f"data_{name}", dimension)
    keys = task_keys("segmentation", dimension, data, folder / name, "")
    assert foveate.finetune(**keys)
    return folder / name


@torch.no_grad()
def expected(form, run, x):
    """What foveate computes, as the format has it."""
    tensors, card = foveate.nets.weights.store.read(run)
    del tensors
    if "task" in card:
        return [load_task(run)[0].outputs(x)]
    encoder = foveate.load_encoder(run)
    if form in ("onnx", "torch-export"):
        return encoder(normalise(x, card["normalisation"]))
    return encoder(x)


CASES = [  # format, run, batch, sizes, more flags
    ("torchvision", "resnet18", [(1, (96, 64)), (2, (64, 160))], []),
    ("torchvision", "resnet50", [(1, (96, 64)), (2, (64, 160))], []),
    ("monai", "narrow", [(1, (96, 64)), (2, (64, 160))], []),
    ("monai", "resnet50_3d", [(2, (64, 32, 96))], []),
    ("monai", "resnet18_3d", [(2, (64, 32, 96))], []),
    ("monai", "swin_2d", [(2, (96, 64))], []),
    ("monai", "swin_3d", [(1, (64, 32, 96))], []),
    ("monai-bundle", "segmentation", [], []),
    ("monai-bundle", "flat", [], []),
    ("nnunet", "resenc", [(1, (32, 16, 24)), (2, (16, 24, 40))], []),
    *(
        (form, name, sizes, [])
        for form in ("onnx", "torch-export")
        for name, sizes in {
            "narrow": [(1, (96, 64)), (2, (64, 160)), (3, (128, 96))],
            "unet3d": [(1, (32, 16, 24)), (2, (16, 24, 40)), (1, (48, 40, 16))],
            "resenc": [(1, (32, 16, 24)), (2, (16, 24, 40)), (1, (48, 40, 16))],
            "segmentation": [(1, (32, 16, 24)), (2, (16, 24, 40)), (1, (48, 40, 16))],
        }.items()
    ),
]


def predicted(run, folder, name):
    """An asymmetric image and what `foveate predict` answers; the run has new weights then."""
    images, masks = folder / f"{name}-images", folder / f"{name}-masks"
    (write_picture if name == "flat" else write_scan)(images)
    balance(run, images)
    where = ["--run", str(run), "--data", str(images), "--out", str(masks), "--force", "true"]
    assert main(["predict", *where]) == 0
    return {"images": images.name, "expected": masks.name}


def raw_data(folder):
    """Eight cases as nnU-Net has them: of the hippocampus where FOVEATE_DATA has it, else blobs."""
    home = folder / "nnunet" / "raw" / "Dataset001_Mini"
    for name in ("imagesTr", "labelsTr"):
        (home / name).mkdir(parents=True)
    given = Path(os.environ.get("FOVEATE_DATA", "nowhere")) / "msd_hippocampus"
    known = given if given.is_dir() else write_labelled(folder / "data_nnunet", 3)
    print(f"data for nnU-Net: {'the hippocampus' if known == given else 'blobs'}")
    for number, path in enumerate(sorted((known / "images").glob("*.nii.gz"))[:8]):
        shutil.copy(path, home / "imagesTr" / f"case{number}_0000.nii.gz")
        shutil.copy(known / "labels" / path.name, home / "labelsTr" / f"case{number}.nii.gz")
    labels = {"background": 0, **{f"part{i}": i for i in ((1, 2) if known == given else (1,))}}
    said = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 8, "file_ending": ".nii.gz"}
    (home / "dataset.json").write_text(json.dumps(said))


def write(folder, formats):
    """Every case of the formats, of all where none are named."""
    made, listed = runs(folder / "runs"), []
    for form, name, inputs, more in CASES:
        if formats and form not in formats:
            continue
        out = folder / f"{name}-{form}{SUFFIX.get(form, '')}"
        case = {"format": form, "name": name, "file": out.name, "inputs": len(inputs)}
        if form == "monai-bundle":
            case |= predicted(made[name], folder, name)
        assert main(["export", str(made[name]), "--format", form, "--out", str(out), "--force", *more]) == 0
        listed.append(case)
        if not inputs:
            continue
        channels = json.loads((made[name] / "exported" / "card.json").read_text())["in_channels"]
        held = {}
        for number, (batch, sizes) in enumerate(inputs):
            x = ramp(*sizes, batch=batch, channels=channels)
            held[f"{number}.x"] = x
            for i, y in enumerate(expected(form, made[name], x)):
                held[f"{number}.{i}"] = y.contiguous()
        save_file(held, folder / f"{out.name}.expected")
    raw_data(folder)
    (folder / "cases.json").write_text(json.dumps(listed))


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2:])
