"""The labelled images of a fine-tuning: what is counted, and what a dry run knows of the labels."""

import json

import numpy as np
from PIL import Image
from tests.commands.finetune.test_finetune import keys, labelled, write_pair  # noqa: F401 - fixtures

from foveate.cli import main
from foveate.commands.finetune import config as finetune_settings, run as finetune


def test_images_that_cannot_be_used_are_not_counted_as_used(keys, tmp_path):  # noqa: F811
    data = tmp_path / "data"
    for i in range(8):
        write_pair(data, 2, i)
    flags = keys(2, data=str(data), **{"split.val_share": "0.4"})
    assert finetune.finetune(finetune_settings.SPEC.resolve({}, flags))
    used = json.loads((tmp_path / "run/split.json").read_text())
    assert (
        f"{len(used['train'])} train, {len(used['val'])} val, 0 test"
        in (tmp_path / "run/train.log").read_text()
    )
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(data / "images/c0.png")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(data / "labels/c0.png")
    flags = flags | {"out": str(tmp_path / "less")}
    assert finetune.finetune(finetune_settings.SPEC.resolve({}, flags))
    log, used = (
        (tmp_path / "less/train.log").read_text(),
        json.loads((tmp_path / "less/split.json").read_text()),
    )
    assert "1 labelled images could not be used" in log
    assert f"{len(used['train'])} train, {len(used['val'])} val, 0 test" in log


def test_a_dry_run_knows_classes_of_images_that_it_does_not_decode(keys, tmp_path, capsys):  # noqa: F811
    data = tmp_path / "data"
    for i in range(40):
        write_pair(data, 2, i)
    rows = "".join(f"images/c{i}.png,{'rare' if i in (1, 3) else 'usual'}\n" for i in range(40))
    (data / "labels.csv").write_text(f"image,kind\n{rows}")
    flags = keys(2, task="classification", data=str(data), **{"task.targets": "[kind]"})
    flags["task"] = flags.pop("task.name")
    assert main(["finetune", *(part for k, v in flags.items() for part in (f"--{k}", v)), "--dry_run"]) == 0
    assert "rare, usual" in capsys.readouterr().out
